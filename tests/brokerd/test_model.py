"""The broker against a model of a few dictionaries: any order of requests, lost time, processes and harnesses."""

import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
import trio
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs
from trio.testing import MockClock, wait_all_tasks_blocked

from brokerd import upkeep
from brokerd.handlers import accounts as handled
from brokerd.handlers import deliveries, feed, guards, messages, turns
from brokerd.host import Host, open_host
from brokerd.settings import BrokerSettings
from brokerd.store import accounts, agents, schema
from brokerd.store import deliveries as stored
from brokerd.store.agents import Known
from brokerd.store.turns import Ending
from brokerd.swarm.cages import harness_ended
from protocol.agent import Attach, BeginTurn, EndTurn, ExtendLease, ReleaseDelivery, TakeDelivery
from protocol.brokerd import (
    CloseThread,
    MarkRead,
    PauseAgent,
    ReleaseThread,
    ResumeAccount,
    ResumeAgent,
    RetryDelivery,
    TakeSnapshot,
)
from protocol.messages import DeliveryState
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Role
from protocol.settings import ACCOUNT_DEFAULT, AgentSettings
from protocol.tools import Recv, Send, Sent
from protocol.turns import Outcome
from runtime.clock import new_key
from runtime.log import logger
from runtime.store import open_store
from tests.brokerd.conftest import MEMORY
from tests.brokerd.hive import UNHURRIED
from tests.brokerd.model import HOPS_MAX, LEASE_S, Model

AGENTS = ("iris", "atlas", "damocles")
DAY_NS = 24 * 3600 * 10**9
LIMIT_S = 400
"""Of an account: so short that it often ends."""
T = TypeVar("T")

agent_names = st.sampled_from(AGENTS)
outcomes = st.sampled_from(sorted(Outcome))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Host]:
    """Brokerd without its sockets."""
    bounds = structs.replace(UNHURRIED, hops_max=HOPS_MAX)
    given = BrokerSettings(state=str(folder), run=str(folder), guards=bounds)
    shape = schema.shape_of(given.database, given.events_database)
    async with open_store(shape, schema.migrate) as store:
        host = await open_host(given, store, "boot", logger("model"))
        known = [Known(name, 1, AgentSettings(name)) for name in AGENTS]
        await host.feed.write(agents.know, known)
        for each in known:
            host.roster.know(each)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.end_leases, host)
            nursery.start_soon(host.tellings.tell_on)
            yield host
            nursery.cancel_scope.cancel()


async def settled(host: Host) -> None:
    """Until nothing is under way, not even what a lease's end sets off for each agent."""
    for _ in range(len(AGENTS) + 2):
        await wait_all_tasks_blocked()
        await host.store.write(lambda _: None)
    await wait_all_tasks_blocked()


class WallClock:
    """In the place of the module `time` in runtime.clock."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def time_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


class BrokerMachine(RuleBasedStateMachine):
    sent = Bundle("sent")
    tokens = Bundle("tokens")
    pulls = Bundle("pulls")

    @initialize()
    def start(self) -> None:
        self.model = Model()
        self.stack = ExitStack()
        self.clock = MockClock(rate=0.0)
        self.wall_clock = WallClock()
        self.stack.enter_context(patch("runtime.clock.time", self.wall_clock))
        self.portal = self.stack.enter_context(start_blocking_portal("trio", {"clock": self.clock}))
        memory = MEMORY if MEMORY.is_dir() else None
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="hive-", dir=memory)))
        self.process = ExitStack()
        self.host = self.process.enter_context(self.portal.wrap_async_context_manager(running(self.folder)))

    def wall_ms(self) -> int:
        return self.wall_clock.time_ns() // 1_000_000

    def teardown(self) -> None:
        if hasattr(self, "process"):
            self.process.close()
            self.stack.close()

    def ask(self, handler: Callable[[Any, Caller, Host], Awaitable[T]], request: Any, name: str) -> T:
        caller = Caller(Role.OPERATOR, 0) if name == OPERATOR else Caller(Role.AGENT, 1, name)
        return self.portal.call(handler, request, caller, self.host)

    def refused(self, problem: Problem, handler: Any, request: Any, name: str) -> None:
        with pytest.raises(Refused) as refusal:
            self.ask(handler, request, name)
        assert refusal.value.problem is problem, refusal.value

    # What senders do.

    @rule(
        target=sent, sender=st.sampled_from((OPERATOR, *AGENTS)), to=st.sampled_from((*AGENTS, OPERATOR, "*"))
    )
    def send(self, sender: str, to: str) -> tuple[str, Send, Sent | None]:
        return self.send_it(sender, to, None)

    @rule(
        target=sent,
        sender=st.sampled_from((OPERATOR, *AGENTS)),
        to=st.sampled_from((*AGENTS, OPERATOR, "*")),
        earlier=sent,
    )
    def send_on(
        self, sender: str, to: str, earlier: tuple[str, Send, Sent | None]
    ) -> tuple[str, Send, Sent | None]:
        """In answer to something, be it theirs or not."""
        return self.send_it(sender, to, None if earlier[2] is None else earlier[2].message)

    def send_it(self, sender: str, to: str, in_reply_to: int | None) -> tuple[str, Send, Sent | None]:
        request = Send(to=to, body=f"from {sender}", key=new_key(), in_reply_to=in_reply_to)
        if sender == to:
            self.refused(Problem.DENIED, messages.send, request, sender)
            return sender, request, None
        answer = self.ask(messages.send, request, sender)
        assert answer.held == self.model.send(answer.message, sender, answer.recipients, in_reply_to)
        assert answer.thread == self.model.messages[answer.message].thread
        return sender, request, answer

    @rule(earlier=sent)
    def send_again(self, earlier: tuple[str, Send, Sent | None]) -> None:
        sender, request, answer = earlier
        if answer is None:
            self.refused(Problem.DENIED, messages.send, request, sender)
        else:
            assert self.ask(messages.send, request, sender) == answer

    @rule(earlier=sent)
    def misuse_a_key(self, earlier: tuple[str, Send, Sent | None]) -> None:
        sender, request, answer = earlier
        if answer is not None:
            self.refused(
                Problem.CONFLICT, messages.send, Send(to=request.to, body="other", key=request.key), sender
            )

    @rule(earlier=sent)
    def mark_read(self, earlier: tuple[str, Send, Sent | None]) -> None:
        _, _, answer = earlier
        if answer is None:
            return
        self.ask(feed.take_snapshot, TakeSnapshot(), OPERATOR)
        self.portal.call(messages.mark_read, MarkRead((answer.message,)), Caller(Role.OPERATOR, 0), self.host)
        for number, delivery in self.model.deliveries.items():
            if number >> 7 == answer.message and delivery.recipient == OPERATOR:
                delivery.state = DeliveryState.DONE

    # What harnesses do.

    @rule(target=tokens, agent=agent_names)
    def take(self, agent: str) -> tuple[str, int, str]:
        if self.model.open_turn(agent) is not None:
            self.refused(Problem.CONFLICT, deliveries.take, TakeDelivery(0), agent)
            return agent, 1, "0" * 32
        taken = self.ask(deliveries.take, TakeDelivery(0), agent).delivery
        expected = self.model.to_take(agent)
        if taken is None:
            assert expected is None
            return agent, 1, "0" * 32
        assert taken.id == expected
        assert taken.attempt == self.model.deliveries[taken.id].attempts + 1
        assert taken.message.id == taken.id >> 7
        self.model.lease(agent, taken.id, taken.token)
        return agent, taken.id, taken.token

    def holds(self, agent: str, delivery: int, token: str) -> bool:
        lease = self.model.leases.get(agent)
        return lease is not None and (lease.delivery, lease.token) == (delivery, token)

    @rule(lease=tokens)
    def begin(self, lease: tuple[str, int, str]) -> None:
        agent, delivery, token = lease
        request = BeginTurn(delivery, token)
        if not self.holds(agent, delivery, token):
            self.refused(Problem.CONFLICT, turns.begin, request, agent)
            return
        turn = self.ask(turns.begin, request, agent).turn
        begun = self.model.leases[agent].turn
        if begun is None:
            assert turn not in self.model.turns
            self.model.begin(agent, turn)
        else:
            assert turn == begun

    @rule(lease=tokens)
    def extend(self, lease: tuple[str, int, str]) -> None:
        agent, delivery, token = lease
        if self.holds(agent, delivery, token):
            self.ask(deliveries.extend, ExtendLease(delivery, token), agent)
            self.model.leases[agent].ends = self.model.now + LEASE_S
        else:
            self.refused(Problem.CONFLICT, deliveries.extend, ExtendLease(delivery, token), agent)

    @rule(lease=tokens)
    def release(self, lease: tuple[str, int, str]) -> None:
        agent, delivery, token = lease
        request = ReleaseDelivery(delivery, token)
        if self.holds(agent, delivery, token) and self.model.leases[agent].turn is None:
            self.ask(deliveries.release, request, agent)
            self.ask(deliveries.release, request, agent)
            del self.model.leases[agent]
        elif self.holds(agent, delivery, token):
            self.refused(Problem.CONFLICT, deliveries.release, request, agent)

    @rule(agent=agent_names, outcome=outcomes)
    def end(self, agent: str, outcome: Outcome) -> None:
        turn = self.model.open_turn(agent)
        if turn is not None:
            answer = self.ask(turns.end, EndTurn(turn, outcome), agent)
            assert (answer.done, answer.requeued, answer.dead) == self.model.end(turn, outcome)

    @rule(agent=agent_names, limit_s=st.sampled_from((-1, 100, LIMIT_S)))
    def meet_the_limit(self, agent: str, limit_s: int) -> None:
        """A turn, one that runs or a new one, ends at the limit of the account that all agents share."""
        if self.model.open_turn(agent) is None:
            self.send_it(OPERATOR, agent, None)
            self.begin(self.take(agent))
        turn, wall_ms = self.model.open_turn(agent), self.wall_ms()
        if turn is not None:
            until_ms = wall_ms + limit_s * 1000
            answer = self.ask(turns.end, EndTurn(turn, Outcome.RATE_LIMITED, until_ms=until_ms), agent)
            assert (answer.done, answer.requeued, answer.dead) == self.model.end(turn, Outcome.RATE_LIMITED)
            self.model.met_limit(agent, until_ms, wall_ms, AGENTS)

    @rule(seconds=st.sampled_from((0.0, 6.0, LIMIT_S + 20.0)), days=st.sampled_from((0, 0, -1, 1)))
    def look_at_limits(self, seconds: float, days: int) -> None:
        """After some time brokerd looks: the limit ends, and one of those whom it holds goes on."""
        self.set_the_wall_clock(days)
        self.pass_time(seconds)
        queue = self.portal.call(self.host.store.read, accounts.held_by, ACCOUNT_DEFAULT)
        self.portal.call(self.host.accounts.look)
        if self.model.look_at_limit(self.wall_ms()):
            self.model.limited.remove(queue[0])

    @precondition(lambda self: self.model.turns)
    @rule(data=st.data(), agent=agent_names, outcome=outcomes)
    def end_any(self, data: st.DataObject, agent: str, outcome: Outcome) -> None:
        """A late end, a repeated one, or another's."""
        turn = data.draw(st.sampled_from(sorted(self.model.turns)))
        request = EndTurn(turn, outcome)
        if self.model.turns[turn].agent != agent:
            self.refused(Problem.NOT_FOUND, turns.end, request, agent)
        else:
            answer = self.ask(turns.end, request, agent)
            assert (answer.done, answer.requeued, answer.dead) == self.model.end(turn, outcome)

    @precondition(lambda self: self.model.turns)
    @rule(target=pulls, data=st.data(), limit=st.integers(1, 3))
    def pull(self, data: st.DataObject, limit: int) -> tuple[str, Recv, tuple[int, ...]]:
        turn = data.draw(st.sampled_from(sorted(self.model.turns)))
        agent = self.model.turns[turn].agent
        request = Recv(turn, new_key(), limit=limit)
        if self.model.turns[turn].closed is not None:
            self.refused(Problem.CONFLICT, deliveries.receive, request, agent)
            return agent, request, ()
        expected = self.model.queued(agent)[:limit]
        received = self.ask(deliveries.receive, request, agent)
        assert [message.id for message in received.messages] == [delivery >> 7 for delivery in expected]
        for delivery in expected:
            self.model.pull(delivery, turn)
        return agent, request, tuple(delivery >> 7 for delivery in expected)

    @rule(earlier=pulls)
    def pull_again(self, earlier: tuple[str, Recv, tuple[int, ...]]) -> None:
        agent, request, got = earlier
        if self.model.turns[request.turn].closed is None and got:
            received = self.ask(deliveries.receive, request, agent)
            assert tuple(message.id for message in received.messages) == got

    # What the operator holds back and lets go.

    @rule(agent=agent_names)
    def pause(self, agent: str) -> None:
        self.ask(guards.pause_agent, PauseAgent(agent), OPERATOR)
        self.model.pause(agent)

    @rule(agent=agent_names)
    def resume(self, agent: str) -> None:
        self.ask(guards.resume_agent, ResumeAgent(agent), OPERATOR)
        self.model.resume(agent)

    @rule()
    def resume_the_account(self) -> None:
        request = ResumeAccount(ACCOUNT_DEFAULT)
        if self.model.limit is None:
            self.refused(Problem.CONFLICT, handled.resume_account, request, OPERATOR)
        else:
            self.ask(handled.resume_account, request, OPERATOR)
            self.model.end_limit()

    @precondition(lambda self: self.model.parked)
    @rule(data=st.data())
    def release_a_thread(self, data: st.DataObject) -> None:
        thread = data.draw(st.sampled_from(sorted(self.model.parked)))
        self.ask(guards.release_thread, ReleaseThread(thread), OPERATOR)
        self.model.release(thread)

    @precondition(lambda self: self.model.parked)
    @rule(data=st.data())
    def close_a_thread(self, data: st.DataObject) -> None:
        thread = data.draw(st.sampled_from(sorted(self.model.parked)))
        self.ask(guards.close_thread, CloseThread(thread), OPERATOR)
        self.model.close(thread)

    @precondition(lambda self: self.model.deliveries)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.deliveries)))
        if self.model.deliveries[number].state is DeliveryState.DEAD:
            self.ask(deliveries.retry, RetryDelivery(number), OPERATOR)
            self.model.retry(number)
        else:
            self.refused(Problem.CONFLICT, deliveries.retry, RetryDelivery(number), OPERATOR)

    # What goes wrong.

    @rule(agent=agent_names, instance=st.sampled_from(("1" * 32, "2" * 32)))
    def attach(self, agent: str, instance: str) -> None:
        answer = self.ask(turns.attach, Attach(instance, "model"), agent)
        assert answer.requeued == self.model.attach(agent, instance)

    @rule(agent=agent_names, outcome=st.sampled_from((Outcome.CRASHED, Outcome.INTERRUPTED)))
    def lose_a_cage(self, agent: str, outcome: Outcome) -> None:
        self.portal.call(harness_ended, agent, Ending(outcome), None, self.host)
        self.model.end_open(agent, outcome)

    @rule(days=st.sampled_from((-1, 1)))
    def set_the_wall_clock(self, days: int) -> None:
        """Somebody sets the machine's clock: no order, no lease and no turn depends on it."""
        self.wall_clock.ahead_ns += days * DAY_NS

    @rule(seconds=st.sampled_from((1.0, LEASE_S / 2, LEASE_S + 1)))
    def pass_time(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.model.pass_time(seconds)

    @rule()
    def restart(self) -> None:
        self.process.close()
        self.host = self.process.enter_context(self.portal.wrap_async_context_manager(running(self.folder)))
        self.model.restart(self.model.now, self.wall_ms())

    # What holds at every moment.

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        if not hasattr(self, "host"):
            return
        self.portal.call(settled, self.host)
        on_disk = self.portal.call(self.host.store.read, read_deliveries)
        assert on_disk == {
            number: (each.recipient, each.state.value, each.attempts, each.turn)
            for number, each in self.model.deliveries.items()
        }
        on_disk_bytes = self.portal.call(self.host.store.read, stored.open_bytes)
        for name in (*AGENTS, OPERATOR):
            inbox = self.host.inboxes.of(name)
            assert (inbox.open, inbox.reserved) == (self.model.open_count(name), 0)
            assert inbox.size == on_disk_bytes.get(name, 0)
        for name in AGENTS:
            assert self.host.hops.next(name) == self.model.hops.get(name, 0) + 1
            assert self.host.inboxes.of(name).is_paused == (name in self.model.paused)
            assert self.host.inboxes.of(name).is_limited == (name in self.model.limited)
            lease = self.host.leases.of(name)
            expected = self.model.leases.get(name)
            assert (lease and (lease.delivery, lease.token, lease.turn)) == (
                expected and (expected.delivery, expected.token, expected.turn)
            )

    @invariant()
    def the_feed_has_no_hole(self) -> None:
        if not hasattr(self, "host"):
            return
        assert self.portal.call(self.host.store.read, count_feed) == self.host.feed.published
        assert not self.host.feed._early

    @invariant()
    def a_snapshot_says_the_same(self) -> None:
        if not hasattr(self, "host"):
            return
        snapshot = self.ask(feed.take_snapshot, TakeSnapshot(), OPERATOR)
        leased = {lease.delivery for lease in self.model.leases.values() if lease.turn is None}
        for message in snapshot.messages:
            for receipt in message.deliveries:
                expected = self.model.deliveries[receipt.id].state
                assert receipt.state is (DeliveryState.LEASED if receipt.id in leased else expected)
        for now in snapshot.agents:
            assert now.agent.turn == self.model.open_turn(now.agent.name)
            assert now.inbox == self.model.open_count(now.agent.name)
            assert now.agent.paused == (now.agent.name in self.model.paused)
            assert (now.agent.limited_by is not None) == (now.agent.name in self.model.limited)
        for account in snapshot.accounts:
            assert account.limited_until_ms == (self.model.limit.until_ms if self.model.limit else None)
            assert set(account.held) == self.model.limited
        assert {parked.thread: parked.held for parked in snapshot.parked} == self.model.holding()


def read_deliveries(db: Any) -> dict[int, tuple[str, str, int, int | None]]:
    statement = f"SELECT {stored.COLUMNS} FROM deliveries"
    return {
        row["id"]: (row["recipient"], row["state"], row["attempts"], row["turn"])
        for row in db.execute(statement)
    }


def count_feed(db: Any) -> int:
    """Entries, if their numbers are 1, 2, 3 and so on."""
    row = db.execute("SELECT count(*) AS entries, max(seq) AS last FROM feed").fetchone()
    assert row["entries"] == row["last"]
    return int(row["entries"])


EXAMPLES = {"quick": (12, 40), "thorough": (60, 60), "search": (1_000, 100)}
examples, steps = EXAMPLES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]

TestBroker = BrokerMachine.TestCase
TestBroker.settings = settings(settings(), max_examples=examples, stateful_step_count=steps)
