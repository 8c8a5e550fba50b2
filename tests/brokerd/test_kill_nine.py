"""brokerd killed again and again under load: nothing acknowledged is lost, nothing happens twice, the feed has no hole.

How often is `HIVE_KILLS` (10); a seed that failed is set by `HIVE_SEED`.
"""

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from protocol.agent import Attach, BeginTurn, EndTurn, TakeDelivery
from protocol.brokerd import FeedEvent, MessageSent, TakeSnapshot, WatchFeed
from protocol.limits import RECV_MESSAGES_MAX
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import Recv, Send, Sent
from protocol.turns import Outcome
from runtime.client import Client, Disconnected
from runtime.clock import new_key
from tests.brokerd.hive import Hive, Privd, cage
from tests.brokerd.test_service import Process
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.slow]

KILLS = int(os.environ.get("HIVE_KILLS", "10"))
SENDERS = 16
RECIPIENTS = ("iris", "atlas")
PATIENCE_S = 60.0
FULL_INBOX_S = 0.1


@pytest.fixture
async def hive_on_disk() -> AsyncIterator[Hive]:
    """On the real disk: what is killed must have reached it."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = Hive(Path(folder), Privd(Path(folder)))
        for name in ("hm1nd", *RECIPIENTS):
            hive.privd.change(cage(name))
        async with hive.privd.serving():
            yield hive
        await hive.forget_connections()


class Campaign:
    """What everybody saw."""

    def __init__(self, hive: Hive) -> None:
        self.hive = hive
        self.acknowledged: dict[str, Sent] = {}
        self.ended_done: list[int] = []
        self.sending = True
        self.done = False
        self.heard: list[FeedEvent] = []
        self.restarts_s: list[float] = []

    async def send(self, sender: int) -> None:
        """One sender: each message under its own key, until it is acknowledged."""
        async with Client(self.hive.settings.operator_socket) as client:
            number = 0
            while self.sending:
                body = f"{sender}:{number}"
                to = RECIPIENTS[number % len(RECIPIENTS)]
                request = Send(to=to, body=body, key=new_key())
                try:
                    self.acknowledged[body] = await client.call(request, patience_s=PATIENCE_S)
                except Refused as refused:
                    if refused.problem is not Problem.LIMIT:
                        raise
                    await trio.sleep(FULL_INBOX_S)
                    continue
                number += 1

    async def serve_agent(self, name: str) -> None:
        """One harness: it takes, begins and ends turns, and repeats what a lost connection left open."""
        async with Client(self.hive.settings.agent_socket(name)) as client:
            await client.call(Attach(new_key(), "kill"), patience_s=PATIENCE_S)
            while not self.done:
                delivery = (await client.call(TakeDelivery(wait_s=1), patience_s=PATIENCE_S)).delivery
                if delivery is None:
                    continue
                begin = BeginTurn(delivery.id, delivery.token)
                try:
                    turn = (await client.call(begin, patience_s=PATIENCE_S)).turn
                except Refused as refused:
                    if refused.problem is not Problem.CONFLICT:
                        raise
                    continue  # the lease went with the process
                pull = Recv(turn, new_key(), limit=RECV_MESSAGES_MAX)
                pulled = (await client.call(pull, patience_s=PATIENCE_S)).messages
                closed = await client.call(EndTurn(turn, Outcome.DONE), patience_s=PATIENCE_S)
                assert (closed.done, closed.requeued, closed.dead) == (1 + len(pulled), 0, 0)
                self.ended_done += [delivery.message.id, *(message.id for message in pulled)]

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        """A dashboard: follows the feed over every kill."""
        async with Client(self.hive.settings.operator_socket) as client:
            start = await client.call(TakeSnapshot(), patience_s=PATIENCE_S)
            epoch, since = start.epoch, start.seq
            task_status.started()  # what is sent from now on is heard
            while not self.done:
                try:
                    async with client.watch(WatchFeed(epoch, since)) as events:
                        async for event in events:
                            assert event.seq == since + 1, "a hole, or twice"
                            since = event.seq
                            self.heard.append(event)
                except Disconnected:
                    await trio.sleep(0.02)


async def test_nothing_is_lost_and_nothing_happens_twice(hive_on_disk: Hive) -> None:
    seed = int(os.environ.get("HIVE_SEED", random.SystemRandom().randrange(2**32)))
    print(f"HIVE_SEED={seed} HIVE_KILLS={KILLS}")
    chance = random.Random(seed)
    hive, process = hive_on_disk, Process(hive_on_disk)
    campaign = Campaign(hive)
    async with trio.open_nursery() as processes:
        running = await process.start(processes)
        await until(process.serves, what="brokerd to answer")
        await hive.served(*RECIPIENTS)
        async with trio.open_nursery() as workers:
            await workers.start(campaign.watch)
            for name in RECIPIENTS:
                workers.start_soon(campaign.serve_agent, name)
            async with trio.open_nursery() as senders:
                for sender in range(SENDERS):
                    senders.start_soon(campaign.send, sender)
                for _ in range(KILLS):
                    await trio.sleep(chance.uniform(0.05, 0.6))  # the point of the test: at any moment
                    running.kill()
                    await running.wait()
                    began = time.monotonic()
                    running = await process.start(processes)
                    await until(process.serves, what="brokerd to answer again")
                    campaign.restarts_s.append(time.monotonic() - began)
                campaign.sending = False
            await until(lambda: _all_done(hive), what="every delivery to be done", deadline_ms=60_000)
            end = (await hive.snapshot()).seq
            await until(lambda: campaign.heard[-1].seq >= end, what="the end of the feed")
            campaign.done = True
            workers.cancel_scope.cancel()
        await _judge(hive, campaign)
        print(
            f"{len(campaign.acknowledged)} sent, {len(campaign.ended_done)} done, {len(campaign.heard)} feed entries, "
            f"restart {max(campaign.restarts_s):.2f} s at worst"
        )
        running.terminate()


async def _all_done(hive: Hive) -> bool:
    snapshot = await hive.snapshot()
    inboxes = {now.agent.name: now.inbox for now in snapshot.agents}
    return all(inboxes[name] == 0 for name in RECIPIENTS)


async def _judge(hive: Hive, campaign: Campaign) -> None:
    with hive.reader() as db:
        stored = {row["body"]: row["id"] for row in db.execute("SELECT id, body FROM messages")}
        count = db.execute("SELECT count(*) FROM messages").fetchone()[0]
        states = Counter(row["state"] for row in db.execute("SELECT state FROM deliveries"))
        turns = Counter(
            row["delivery"] for row in db.execute("SELECT delivery FROM turns WHERE outcome = 'done'")
        )
        settled = db.execute("SELECT sum(done) FROM turns WHERE outcome = 'done'").fetchone()[0]
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    lost = {body for body, sent in campaign.acknowledged.items() if stored.get(body) != sent.message}
    assert not lost
    assert len(stored) == count, "a message was stored twice"
    assert set(states) == {DeliveryState.DONE.value}
    assert set(turns.values()) == {1}, "a delivery was done in two turns"
    assert settled == count, "a delivery was settled twice"
    assert sorted(campaign.ended_done) == sorted(stored.values())
    heard = [event.body.message.id for event in campaign.heard if isinstance(event.body, MessageSent)]
    assert sorted(heard) == sorted(stored.values()), "a message was not told, or told twice"
