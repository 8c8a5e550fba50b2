"""What an agent is doing, and what a cage's power says of its turn."""

import pytest

from brokerd.policy.activity import end_by_power
from protocol.brokerd import Activity, activity_of
from protocol.privd import Power
from protocol.turns import Outcome


@pytest.mark.parametrize(
    ("attached", "turn", "parked", "expected"),
    [
        (False, None, None, Activity.ABSENT),
        (False, None, Outcome.AUTH, Activity.ABSENT),
        (True, None, None, Activity.IDLE),
        (True, None, Outcome.RATE_LIMITED, Activity.PARKED),
        (True, 7, None, Activity.THINKING),
        (True, 7, Outcome.RATE_LIMITED, Activity.THINKING),
        (False, 7, None, Activity.THINKING),
    ],
)
def test_activity(attached: bool, turn: int | None, parked: Outcome | None, expected: Activity) -> None:
    assert activity_of(attached=attached, turn=turn, parked=parked) is expected


@pytest.mark.parametrize(
    ("power", "outcome"),
    [
        (Power.CRASHED, Outcome.CRASHED),
        (Power.FAILED, Outcome.CRASHED),
        (Power.STOPPED, Outcome.INTERRUPTED),
        (Power.KEPT, Outcome.INTERRUPTED),
        (Power.STARTING, None),
        (Power.RUNNING, None),
        (Power.STOPPING, None),
    ],
)
def test_no_turn_runs_in_a_cage_that_does_not(power: Power, outcome: Outcome | None) -> None:
    assert end_by_power(power) is outcome


def test_every_power_is_decided() -> None:
    assert {end_by_power(power) for power in Power} == {Outcome.CRASHED, Outcome.INTERRUPTED, None}
