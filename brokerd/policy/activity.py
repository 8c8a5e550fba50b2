"""What an agent is doing, from what is known of its harness."""

from protocol.brokerd import Activity
from protocol.privd import Power
from protocol.turns import Outcome


def activity_of(*, attached: bool, turn: int | None, parked: Outcome | None) -> Activity:
    """A running turn says more than a connection: the harness may be connecting again after brokerd's restart."""
    if turn is not None:
        return Activity.THINKING
    if not attached:
        return Activity.ABSENT
    return Activity.IDLE if parked is None else Activity.PARKED


def end_by_power(power: Power) -> Outcome | None:
    """How a turn ended that was open when its cage is in this power state; None when it may still run."""
    match power:
        case Power.CRASHED | Power.FAILED:
            return Outcome.CRASHED
        case Power.STOPPED | Power.KEPT:
            return Outcome.INTERRUPTED
        case Power.STARTING | Power.RUNNING | Power.STOPPING:
            return None
