"""When a cage is stale, and when it may be made anew by itself."""

import pytest

from privd.policy.base import UNKNOWN, may_renew, why_stale
from protocol.privd import Power

MADE = {"hyperhive": "a1", "host": "b1"}


def test_what_is_as_it_was_is_not_stale() -> None:
    assert why_stale(MADE, dict(MADE)) == ""


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({"hyperhive": "a2", "host": "b1"}, "hyperhive was a1, is a2"),
        ({"hyperhive": "a2", "host": "b2"}, "host was b1, is b2; hyperhive was a1, is a2"),
        (MADE | {"claude": "c1"}, "claude was none, is c1"),
        ({"hyperhive": "a1"}, "host was b1, is none"),
    ],
)
def test_every_part_that_differs_is_named(now: dict[str, str], why: str) -> None:
    assert why_stale(MADE, now) == why


def test_a_cage_of_which_nothing_is_known_is_stale() -> None:
    assert why_stale({}, MADE) == UNKNOWN


@pytest.mark.parametrize("power", Power)
def test_only_a_running_cage_that_is_wanted_is_made_anew(power: Power) -> None:
    assert may_renew(power, "why", wanted=True) is (power is Power.RUNNING)
    assert not may_renew(power, "why", wanted=False)
    assert not may_renew(power, "", wanted=True)
