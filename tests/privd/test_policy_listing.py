"""Proposals in lists: whatever they hold, a page has room for all that wait."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.listing import LISTED_BYTES_MAX, brief, fitting
from protocol.approvals import CapabilityChange, Proposal, ProposalKind, ProposalState
from protocol.limits import DESCRIPTION_CHARS_MAX, PAGE_BYTES_MAX, PROPOSALS_OPEN_MAX

TEXTS = st.builds(lambda text, times: text * times, st.text(max_size=4), st.integers(0, 160))
CHANGES = st.builds(CapabilityChange, TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.booleans())


def waiting(description: str, changes: tuple[CapabilityChange, ...] = ()) -> Proposal:
    return Proposal(
        agent="iris",
        number=7,
        kind=ProposalKind.CONFIG,
        state=ProposalState.OPEN,
        commit="c" * 40,
        tree="d" * 40,
        base=None,
        by="manager",
        description=description,
        proposed_ms=1,
        expires_ms=2,
        capabilities=changes,
    )


def test_a_page_holds_all_that_wait() -> None:
    change = CapabilityChange("界" * 160, "界" * 160, "界" * 160, notable=True)
    rows = [brief(waiting("界" * DESCRIPTION_CHARS_MAX, (change,) * 40))] * PROPOSALS_OPEN_MAX
    assert len(fitting(rows)) == PROPOSALS_OPEN_MAX
    assert len(msgspec.json.encode(fitting(rows))) <= PAGE_BYTES_MAX
    assert rows[0].capabilities, "some of the changes are told"


@given(st.text(max_size=DESCRIPTION_CHARS_MAX), st.lists(CHANGES, max_size=30))
def test_each_has_its_room_and_tells_as_much_as_fits(text: str, changes: list[CapabilityChange]) -> None:
    whole = waiting(text, tuple(changes))
    row = brief(whole)
    assert len(msgspec.json.encode(row)) <= LISTED_BYTES_MAX
    assert row.capabilities == whole.capabilities[: len(row.capabilities)]
    assert msgspec.structs.replace(row, description=text, capabilities=whole.capabilities) == whole
    assert brief(row) == row


def test_what_is_short_stands_there_whole() -> None:
    row = waiting("a better model", (CapabilityChange("model", "haiku", "opus", notable=False),))
    assert brief(row) == row
