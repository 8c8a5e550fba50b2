"""What agents may still do: counted for each, given back when nothing was done, forgotten when nobody asks."""

import pytest
from trio.testing import MockClock

from brokerd.live import rates as live
from brokerd.live.rates import Rates
from brokerd.policy.guards import HOUR_S, NOTES_PER_MINUTE, Guards
from protocol.limits import BODY_BYTES_MAX, BROKER_FRAME_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.turns import Noted, Said

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=0.0)


def refusal(refused: pytest.ExceptionInfo[Refused]) -> str:
    assert refused.value.problem is Problem.LIMIT
    return refused.value.detail


async def test_an_agent_and_a_pair_have_rates_of_their_own(clock: MockClock) -> None:
    rates = Rates(Guards(messages_per_minute=3, pair_messages_per_minute=2))
    for _ in range(2):
        rates.send("iris", ["atlas"], 10)
    with pytest.raises(Refused) as refused:
        rates.send("iris", ["atlas"], 10)
    assert refusal(refused) == (
        "iris to atlas: at most 2 messages in a minute; nothing was stored, try again in 30 s"
    )
    rates.send("iris", ["hm1nd"], 10)
    with pytest.raises(Refused) as refused:
        rates.send("iris", ["hm1nd"], 10)
    assert refusal(refused) == "iris: at most 3 messages in a minute; nothing was stored, try again in 20 s"
    rates.send("atlas", ["iris"], 10)
    clock.jump(30)
    rates.send("iris", ["atlas"], 10)


async def test_a_broadcast_is_one_message_to_each(clock: MockClock) -> None:
    rates = Rates(Guards(messages_per_minute=3, pair_messages_per_minute=1))
    rates.send("iris", ["atlas", "hm1nd"], 10)
    with pytest.raises(Refused, match="iris to hm1nd: at most 1"):
        rates.send("iris", ["hm1nd"], 10)
    rates.send("iris", ["damocles"], 10)


async def test_a_refusal_counts_nothing(clock: MockClock) -> None:
    rates = Rates(Guards(messages_per_minute=2, pair_messages_per_minute=1))
    rates.send("iris", ["atlas"], 10)
    for _ in range(5):
        with pytest.raises(Refused, match="iris to atlas"):
            rates.send("iris", ["hm1nd", "atlas"], 10)
    rates.send("iris", ["hm1nd"], 10)


async def test_bytes_have_a_rate(clock: MockClock) -> None:
    rates = Rates(Guards(bytes_per_minute=BODY_BYTES_MAX))
    rates.send("iris", ["atlas"], BODY_BYTES_MAX)
    with pytest.raises(Refused, match="iris: at most 65536 bytes of messages in a minute"):
        rates.send("iris", ["atlas"], 1_100)
    clock.jump(2)
    rates.send("iris", ["atlas"], 1_100)


async def test_the_operator_has_a_bound_of_their_own(clock: MockClock) -> None:
    rates = Rates(
        Guards(
            messages_per_minute=1,
            pair_messages_per_minute=1,
            bytes_per_minute=BODY_BYTES_MAX,
            operator_messages_per_minute=5,
        )
    )
    for _ in range(5):
        rates.send("operator", ["iris"], BODY_BYTES_MAX)
    with pytest.raises(Refused, match="operator: at most 5 messages in a minute"):
        rates.send("operator", ["iris"], 1)


async def test_what_was_not_done_is_given_back(clock: MockClock) -> None:
    rates = Rates(Guards(messages_per_minute=1, bytes_per_minute=BODY_BYTES_MAX))
    for _ in range(5):
        rates.give_back(rates.send("iris", ["atlas"], BODY_BYTES_MAX))
    rates.send("iris", ["atlas"], BODY_BYTES_MAX)
    with pytest.raises(Refused):
        rates.send("iris", ["atlas"], 1)


async def test_giving_back_late_makes_no_more_of_it_than_there_may_be(clock: MockClock) -> None:
    rates = Rates(Guards(messages_per_minute=2))
    costs = rates.send("iris", ["atlas"], 1)
    clock.jump(HOUR_S)
    rates.give_back(costs)
    for _ in range(2):
        rates.send("iris", ["atlas"], 1)
    with pytest.raises(Refused):
        rates.send("iris", ["atlas"], 1)


async def test_a_turn_keeps_so_many_events_and_says_what_is_missing(clock: MockClock) -> None:
    rates = Rates(Guards(turn_events_max=3))
    events = [Said(n, 1, "x") for n in range(2)]
    rates.publish("iris", 7, events)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            rates.publish("iris", 7, events)
        assert (
            refusal(refused) == "turn 7: at most 3 turn events are kept of one turn; leave out what follows"
        )
    rates.publish("iris", 7, [Noted(9, 1, "2 events were left out")])
    rates.publish("iris", 8, events)
    rates.publish("atlas", 9, events)


async def test_a_turn_keeps_so_many_bytes(clock: MockClock) -> None:
    rates = Rates(Guards(turn_event_bytes_max=BROKER_FRAME_BYTES_MAX))
    large = Said(0, 1, "x" * (BROKER_FRAME_BYTES_MAX // 2))
    rates.publish("iris", 7, [large])
    with pytest.raises(Refused, match="bytes of turn events are kept of one turn"):
        rates.publish("iris", 7, [large])
    rates.publish("iris", 8, [large])


async def test_many_short_turns_do_not_get_past_the_hour(clock: MockClock) -> None:
    rates = Rates(Guards(turn_events_max=3, hour_events_max=4))
    for turn in (1, 2):
        rates.publish("iris", turn, [Said(n, 1, "x") for n in range(2)])
    with pytest.raises(Refused, match="iris: at most 4 turn events in an hour"):
        rates.publish("iris", 3, [Said(0, 1, "x")])
    rates.publish("atlas", 4, [Said(0, 1, "x")])
    clock.jump(HOUR_S / 4)
    rates.publish("iris", 3, [Said(0, 1, "x")])


async def test_turns_have_a_rate(clock: MockClock) -> None:
    rates = Rates(Guards(turns_per_hour=2))
    rates.give_back(rates.begin("iris"))
    for _ in range(2):
        rates.begin("iris")
    with pytest.raises(Refused, match="iris: at most 2 turns in an hour"):
        rates.begin("iris")
    rates.begin("atlas")


async def test_notes_have_a_bound_as_well(clock: MockClock) -> None:
    rates = Rates(Guards())
    for n in range(NOTES_PER_MINUTE):
        rates.publish("iris", 7, [Noted(n, 1, "x")])
    with pytest.raises(Refused, match="notes on a turn in a minute"):
        rates.publish("iris", 7, [Noted(99, 1, "x")])


async def test_idle_buckets_are_forgotten(clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BUCKETS_MAX", 30)
    rates = Rates(Guards(messages_per_minute=1))
    for number in range(9):
        rates.send(f"a{number}", ["atlas"], 1)
    clock.jump(HOUR_S / 2)
    rates.send("iris", ["atlas"], 1)
    clock.jump(HOUR_S / 2)
    rates.send("hm1nd", ["atlas"], 1)
    assert len(rates._buckets) == 6
    with pytest.raises(Refused):
        rates.send("hm1nd", ["atlas"], 1)
