"""A turn's events on their way: in order, numbered without a hole, bounded, sent again until they are taken."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from harness.publisher import WAITING_EVENTS_MAX, Publisher
from protocol import agent as wire
from protocol.limits import TURN_EVENTS_BATCH_MAX, TURN_TEXT_CHARS_MAX
from protocol.messages import Message
from protocol.problem import Problem, Refused
from protocol.turns import Noted, Said
from runtime.client import Client
from runtime.log import logger
from tests.harness.hub import Hub, TurnRecord

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

TURN = 7


def hub_with_turn(place: Path) -> Hub:
    hub = Hub(place)
    message = Message(
        id=1, thread=1, in_reply_to=None, sender="a", to="iris", broadcast=False, body="x", sent_ms=0
    )
    hub.turns[TURN] = TurnRecord(TURN, "iris", wire.Delivery(2, "0" * 32, 1, 0, message))
    return hub


@asynccontextmanager
async def publishing(hub: Hub) -> AsyncIterator[Publisher]:
    async with Client(hub.socket("iris")) as broker, trio.open_nursery() as nursery:
        publisher = Publisher(broker, TURN, lambda: 0, logger("test"))
        nursery.start_soon(publisher.run)
        with trio.fail_after(3_600):
            yield publisher
        nursery.cancel_scope.cancel()


def batches(hub: Hub) -> list[tuple[int, ...]]:
    sent = [asked.request for asked in hub.asked if isinstance(asked.request, wire.PublishEvents)]
    return [tuple(event.n for event in request.events) for request in sent]


async def test_many_events_arrive_in_order(place: Path) -> None:
    hub = hub_with_turn(place)
    async with hub.up("iris"), publishing(hub) as publisher:
        for number in range(1_000):
            publisher.emit(Said(0, number, f"{number}"))
        await publisher.flush()
    events = hub.turns[TURN].events
    assert [events[n].at_ms for n in range(1_000)] == list(range(1_000))
    assert max(len(batch) for batch in batches(hub)) <= TURN_EVENTS_BATCH_MAX


async def test_an_event_is_sent_within_a_tenth_of_a_second(place: Path) -> None:
    hub = hub_with_turn(place)
    async with hub.up("iris"), publishing(hub) as publisher:
        for number in range(20):
            publisher.emit(Said(0, 0, str(number)))
            with trio.fail_after(0.1):
                await hub.sees(lambda: len(hub.turns[TURN].events) == number + 1)  # noqa: B023  # awaited at once


async def test_events_that_need_six_bytes_a_letter_still_fit_into_frames(place: Path) -> None:
    hub = hub_with_turn(place)
    async with hub.up("iris"), publishing(hub) as publisher:
        for _ in range(64):
            publisher.emit(Said(0, 0, "\x01" * TURN_TEXT_CHARS_MAX))
        await publisher.flush()
    assert len(hub.turns[TURN].events) == 64
    assert len(batches(hub)) > 1


async def test_a_lost_reply_repeats_the_same_numbers(place: Path) -> None:
    hub = hub_with_turn(place)
    seen: Counter[int] = Counter()

    def lose(request: object) -> bool:
        if not isinstance(request, wire.PublishEvents):
            return False
        seen[request.events[0].n] += 1
        return seen[request.events[0].n] == 1

    hub.lose_reply = lose
    async with hub.up("iris"), publishing(hub) as publisher:
        for number in range(200):
            publisher.emit(Said(0, number, "x"))
        await publisher.flush()
    assert len(hub.turns[TURN].events) == 200
    assert set(seen.values()) == {2}


async def test_a_broker_that_is_away_costs_the_oldest_events_and_says_so(place: Path) -> None:
    hub = hub_with_turn(place)
    async with publishing(hub) as publisher:
        publisher.emit(Said(0, 0, "in the batch that waits"))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(WAITING_EVENTS_MAX + 500):
            publisher.emit(Said(0, number, str(number)))
        async with hub.up("iris"):
            await publisher.flush()
    events = [hub.turns[TURN].events[n] for n in range(len(hub.turns[TURN].events))]
    assert isinstance(events[0], Said)
    assert isinstance(events[1], Noted)
    assert events[1].text == "500 events are missing here: the broker was away and the queue was full"
    assert [event.at_ms for event in events[2:]] == list(range(500, WAITING_EVENTS_MAX + 500))


async def test_waiting_events_are_bounded_by_their_size_too(place: Path) -> None:
    hub = hub_with_turn(place)
    async with publishing(hub) as publisher:
        for _ in range(1_000):
            publisher.emit(Said(0, 0, "é" * TURN_TEXT_CHARS_MAX))
        async with hub.up("iris"):
            await publisher.flush()
    events = list(hub.turns[TURN].events.values())
    assert len(events) < 300
    assert any(isinstance(event, Noted) for event in events)


@pytest.mark.parametrize(
    "problem", [Problem.CONFLICT, Problem.NOT_FOUND, Problem.INTERNAL, Problem.MALFORMED]
)
async def test_a_turn_that_takes_no_events_is_given_up(place: Path, problem: Problem) -> None:
    hub = hub_with_turn(place)
    hub.refuse = lambda agent, request: Refused(problem, "no")
    async with hub.up("iris"), publishing(hub) as publisher:
        publisher.emit(Said(0, 0, "x"))
        await publisher.flush()
        assert publisher.given_up
        publisher.emit(Said(0, 0, "y"))
        await publisher.flush()


async def test_a_passing_defect_is_waited_out(place: Path) -> None:
    hub = hub_with_turn(place)
    refusals = iter([Problem.INTERNAL, Problem.STORAGE_FULL])

    def refuse(agent: str, request: object) -> Refused | None:
        problem = next(refusals, None)
        return Refused(problem, "not now") if problem else None

    hub.refuse = refuse
    async with hub.up("iris"), publishing(hub) as publisher:
        publisher.emit(Said(0, 0, "x"))
        await publisher.flush()
        assert not publisher.given_up
    assert len(hub.turns[TURN].events) == 1


async def test_a_turn_with_more_events_than_are_kept_says_once_how_many_are_missing(place: Path) -> None:
    hub = hub_with_turn(place)

    def refuse(agent: str, request: object) -> Refused | None:
        assert isinstance(request, wire.PublishEvents)
        is_note = len(request.events) == 1 and isinstance(request.events[0], Noted)
        full = len(hub.turns[TURN].events) + len(request.events) > 100
        return Refused(Problem.LIMIT, "100 events are kept of a turn") if full and not is_note else None

    hub.refuse = refuse
    async with hub.up("iris"), publishing(hub) as publisher:
        for number in range(1_000):
            publisher.emit(Said(0, number, str(number)))
            await trio.sleep(0.01)
        await publisher.flush()
        assert not publisher.given_up
    events = hub.turns[TURN].events
    kept = len(events) - 1
    assert [events[n].at_ms for n in range(kept)] == list(range(kept))
    assert kept > 0
    note = events[kept]
    assert isinstance(note, Noted)
    assert note.text == f"{1_000 - kept} events were left out here: the hive keeps no more of this turn"
    refused = [batch for batch in batches(hub) if batch[0] == kept]
    assert len(refused) == 2, "what is refused is not offered again and again: one batch, then the note"


async def test_a_note_that_finds_no_room_either_fails_nothing(place: Path) -> None:
    hub = hub_with_turn(place)
    hub.refuse = lambda agent, request: Refused(Problem.LIMIT, "no more")
    async with hub.up("iris"), publishing(hub) as publisher:
        publisher.emit(Said(0, 0, "x"))
        await publisher.flush()
        await publisher.flush()
        assert not publisher.given_up
    assert hub.turns[TURN].events == {}


async def test_nothing_to_send_is_nothing_to_wait_for(place: Path) -> None:
    async with publishing(Hub(place)) as publisher:
        await publisher.flush()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_no_pattern_of_bursts_leaves_a_hole(bursts: list[int]) -> None:
    """The hub refuses a hole or a changed event by failing the call, which the publisher would give up on."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            taken: list[int] = []

            class Broker:
                async def call(self, request: wire.PublishEvents, *, patience_s: float) -> None:
                    await trio.sleep(0.01)
                    taken.extend(event.n for event in request.events)

            publisher = Publisher(Broker(), TURN, lambda: 0, logger("test"))  # type: ignore[arg-type]  # its one call
            nursery.start_soon(publisher.run)
            for burst in bursts:
                for _ in range(burst):
                    publisher.emit(Said(0, 0, "x"))
                await trio.sleep(0.02)
            await publisher.flush()
            assert taken == list(range(sum(bursts)))
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
