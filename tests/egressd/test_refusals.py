"""Refusals are folded by kind, and what one agent can make egressd remember is bounded."""

import pytest
import trio
import trio.testing

from egressd.refusals import FOLD_S, FOLDS_PER_AGENT_MAX, HOST_CHARS_MAX, Refusals
from protocol.egressd import EgressRefused, Refusal

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

NOW_MS = 1_795_280_000_000


class Told:
    """What watchers would hear."""

    def __init__(self) -> None:
        self.events: list[EgressRefused] = []
        self.refusals = Refusals(self.events.append, lambda: NOW_MS)

    def take(self) -> list[tuple[str, Refusal, str, int, int]]:
        found = [(each.agent, each.why, each.host, each.port, each.times) for each in self.events]
        self.events.clear()
        return found


async def test_the_first_is_told_at_once_and_repeats_together() -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.refusals.serve)
        for _ in range(5):
            told.refusals.note("iris", Refusal.NOT_ALLOWED, "evil.example", 443)
        assert told.take() == [("iris", Refusal.NOT_ALLOWED, "evil.example", 443, 1)]
        await trio.sleep(FOLD_S + 0.1)
        assert told.take() == [("iris", Refusal.NOT_ALLOWED, "evil.example", 443, 4)]
        told.refusals.note("iris", Refusal.NOT_ALLOWED, "evil.example", 443)
        assert told.take() == []
        await trio.sleep(FOLD_S + 0.1)
        assert told.take() == [("iris", Refusal.NOT_ALLOWED, "evil.example", 443, 1)]
        await trio.sleep(FOLD_S + 0.1)
        assert len(told.refusals) == 0
        told.refusals.note("iris", Refusal.NOT_ALLOWED, "evil.example", 443)
        assert told.take() == [("iris", Refusal.NOT_ALLOWED, "evil.example", 443, 1)]
        nursery.cancel_scope.cancel()


async def test_kinds_are_apart() -> None:
    told = Told()
    told.refusals.note("iris", Refusal.NOT_ALLOWED, "a", 1)
    told.refusals.note("iris", Refusal.NOT_ALLOWED, "a", 2)
    told.refusals.note("iris", Refusal.LEADS_INSIDE, "a", 1)
    told.refusals.note("otto", Refusal.NOT_ALLOWED, "a", 1)
    assert len(told.take()) == 4


async def test_one_agent_that_tries_every_host_costs_no_more_than_this() -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.refusals.serve)
        for number in range(10_000):
            told.refusals.note("iris", Refusal.NOT_ALLOWED, f"h{number}.example", 443)
        assert len(told.refusals) == FOLDS_PER_AGENT_MAX + 1
        assert len(told.take()) == FOLDS_PER_AGENT_MAX + 1
        await trio.sleep(FOLD_S + 0.1)
        rest = 10_000 - FOLDS_PER_AGENT_MAX - 1
        assert told.take() == [("iris", Refusal.NOT_ALLOWED, "", 0, rest)]
        nursery.cancel_scope.cancel()


async def test_hosts_are_escaped_and_cut() -> None:
    told = Told()
    told.refusals.note("iris", Refusal.MALFORMED, "\x1b[2J\u202e" + "x" * 1000)
    ((_, _, host, _, _),) = told.take()
    assert host.isascii()
    assert host.isprintable()
    assert len(host) <= HOST_CHARS_MAX
