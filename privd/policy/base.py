"""What a cage is made from beside its configuration, and whether that is still what there is. Pure.

A base names its parts: `hyperhive` (our programs in the cage), `host` (what of the machine's own system it shows, or
`nixpkgs` where a system is built for it), `claude` (the agent CLI, where it drives the agent).
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from protocol.privd import Power

UNKNOWN: Final = "it was started by an earlier hive"


class Outlook(Struct, frozen=True):
    """What a cage's keeper cannot know: the generation that is deployed, and the base that a new cage would have."""

    generation: int | None = None
    base: dict[str, str] = {}


def why_stale(made: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Why a cage made from one base would come out otherwise from another; empty when it would not."""
    if not made:
        return UNKNOWN
    differing = [name for name in sorted({*made, *now}) if made.get(name) != now.get(name)]
    return "; ".join(f"{name} was {made.get(name, 'none')}, is {now.get(name, 'none')}" for name in differing)


def may_renew(power: Power, stale: str, *, wanted: bool) -> bool:
    """Whether a cage may be made anew by itself: it runs, somebody wants it to, and it is stale."""
    return power is Power.RUNNING and wanted and bool(stale)
