"""How far an agent is from a word from outside."""

from brokerd.live.hops import Hops
from protocol.messages import Message


def message(hops: int) -> Message:
    return Message(1, 1, None, "atlas", "iris", broadcast=False, body="x", sent_ms=0, hops=hops)


def test_what_an_agent_says_is_one_hop_further_than_the_farthest_of_its_turn() -> None:
    hops = Hops({})
    assert hops.next("iris") == 1
    hops.turn_began("iris", message(4))
    assert hops.next("iris") == 5
    hops.pulled("iris", [message(2), message(9), message(0)])
    assert hops.next("iris") == 10
    hops.pulled("iris", [])
    assert (hops.next("iris"), hops.next("atlas")) == (10, 1)


def test_a_turn_that_somebody_outside_woke_starts_again() -> None:
    hops = Hops({"iris": 30})
    assert hops.next("iris") == 31
    hops.turn_began("iris", message(0))
    assert hops.next("iris") == 1
