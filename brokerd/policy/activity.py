"""What a cage's power says of the turn in it."""

from protocol.privd import Power
from protocol.turns import Outcome


def end_by_power(power: Power) -> Outcome | None:
    """How a turn ended that was open when its cage is in this power state; None when it may still run."""
    match power:
        case Power.CRASHED | Power.FAILED:
            return Outcome.CRASHED
        case Power.STOPPED | Power.KEPT | Power.DRAFT:
            return Outcome.INTERRUPTED
        case Power.STARTING | Power.RUNNING | Power.STOPPING:
            return None
