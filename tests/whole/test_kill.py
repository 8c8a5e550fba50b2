"""kill -9 of each daemon while messages flow: cages stay, everything resumes, nothing is lost or answered twice."""

import time
from collections import Counter
from collections.abc import Callable

import pytest
import trio

from protocol.brokerd import ListMessages
from protocol.hello import Hello
from protocol.messages import Message
from protocol.privd import ListCages, Power
from protocol.tools import Send
from runtime.client import Client
from runtime.clock import new_key
from tests.support.hive import RunningHive
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

MESSAGES = 12
RESUME_DEADLINE_MS = 30_000


async def all_messages(brokerd: Client) -> list[Message]:
    found: list[Message] = []
    before: int | None = None
    while True:
        page = await brokerd.call(ListMessages(before=before), patience_s=10)
        found += page.messages
        if page.before is None:
            return found
        before = page.before


@pytest.mark.parametrize("victim", ["privd", "brokerd", "webd", "egressd"])
async def test_kill_nine(
    demo_hive: RunningHive, victim: str, record_property: Callable[[str, object], None]
) -> None:
    hive = demo_hive
    async with Client(hive.socket("brokerd")) as brokerd, Client(hive.socket("privd")) as privd:
        booted = {cage.agent: cage.started_ms for cage in await privd.call(ListCages(), patience_s=10)}
        asked: list[int] = []

        async def ask() -> None:
            for number in range(MESSAGES):
                body = f"{victim} question {number}"
                sent = await brokerd.call(Send(to="iris", body=body, key=new_key()), patience_s=20)
                asked.append(sent.message)
                await trio.sleep(0.05)  # spreads the questions over the kill

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: len(asked) >= MESSAGES // 3, what="the first questions")
            killed = hive.kill_daemon(victim)
            began = time.monotonic()
            await until(lambda: _runs_again(hive, victim, killed), what=f"{victim} to start again")
            async with Client(hive.socket(victim)) as client:
                await client.call(Hello(), patience_s=20)
            record_property("resumed_s", round(time.monotonic() - began, 2))

        async def answered() -> Counter[int] | None:
            found = await all_messages(brokerd)
            answers = Counter(
                message.in_reply_to
                for message in found
                if message.sender == "iris" and message.in_reply_to in asked
            )
            return answers if set(answers) == set(asked) else None

        answers = await until(answered, what="an answer to every question", deadline_ms=RESUME_DEADLINE_MS)
        assert set(answers.values()) == {1}
        cages = await privd.call(ListCages(), patience_s=10)
        assert {cage.agent: cage.started_ms for cage in cages} == booted
        assert {cage.power for cage in cages} == {Power.RUNNING}


def _runs_again(hive: RunningHive, daemon: str, before: int) -> bool:
    try:
        return hive.daemon_pid(daemon) != before
    except AssertionError:
        return False
