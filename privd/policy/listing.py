"""Proposals as they stand in lists: small enough that a page holds all that wait. Pure."""

from typing import Final

import msgspec

from protocol.approvals import CapabilityChange, Proposal
from protocol.limits import PAGE_BYTES_MAX, PROPOSALS_OPEN_MAX

LISTED_CHANGES_MAX: Final = 20
"""Of one proposal in a list; whoever decides reads all of them on its page."""
LISTED_CHARS_MAX: Final = 400
"""Of what it was asked with; the same."""
LISTED_BYTES_MAX: Final = PAGE_BYTES_MAX // PROPOSALS_OPEN_MAX
"""Of one proposal in a list, so that a page holds all that wait."""


def brief(proposal: Proposal) -> Proposal:
    """A proposal as it stands in a list: its description is cut, and its changes end where its room does."""
    row = msgspec.structs.replace(proposal, description=_cut(proposal.description), capabilities=())
    room = LISTED_BYTES_MAX - len(msgspec.json.encode(row))
    taken: list[CapabilityChange] = []
    for change in proposal.capabilities[:LISTED_CHANGES_MAX]:
        room -= len(msgspec.json.encode(change)) + 1
        if room < 0:
            break
        taken.append(change)
    return msgspec.structs.replace(row, capabilities=tuple(taken))


def _cut(text: str) -> str:
    return text if len(text) <= LISTED_CHARS_MAX else f"{text[: LISTED_CHARS_MAX - 1]}…"


def fitting(rows: list[Proposal]) -> tuple[Proposal, ...]:
    """As many as a page may hold."""
    taken: list[Proposal] = []
    room = PAGE_BYTES_MAX
    for row in rows:
        room -= len(msgspec.json.encode(row))
        if room < 0:
            break
        taken.append(row)
    return tuple(taken)
