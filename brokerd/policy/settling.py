"""What the end of a turn means for the deliveries that were in it."""

from typing import Final, assert_never

from msgspec import Struct

from protocol.limits import ATTEMPTS_MAX
from protocol.messages import DeliveryState
from protocol.turns import Outcome

CRASHES_MAX: Final = 3
"""Attempts after which a delivery whose turn crashed goes to the operator instead of round again."""


class Settled(Struct, frozen=True):
    """A delivery after its turn: where it stands and how many attempts count."""

    state: DeliveryState
    attempts: int


def settle(outcome: Outcome, attempts: int) -> Settled:
    """Decide for one delivery. `attempts` counts the turn that has just ended."""
    match outcome:
        case Outcome.DONE | Outcome.CANCELLED | Outcome.MAX_TURNS | Outcome.BUDGET:
            return Settled(DeliveryState.DONE, attempts)
        case Outcome.INTERRUPTED | Outcome.RATE_LIMITED | Outcome.OVERLOADED | Outcome.AUTH | Outcome.BILLING:
            return Settled(DeliveryState.QUEUED, max(0, attempts - 1))
        case Outcome.CRASHED:
            return _again(attempts, CRASHES_MAX)
        case Outcome.TIMEOUT | Outcome.CONTEXT_FULL:
            return _again(attempts, ATTEMPTS_MAX)
        case _:
            assert_never(outcome)


def _again(attempts: int, attempts_max: int) -> Settled:
    return Settled(DeliveryState.DEAD if attempts >= attempts_max else DeliveryState.QUEUED, attempts)
