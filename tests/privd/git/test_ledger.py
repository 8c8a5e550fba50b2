"""One agent's record, written and tidied by several at once."""

from pathlib import Path

import pytest
import trio

from privd.git.ledger import Ledger
from privd.policy.record import Asked, Denied, Mark
from protocol.approvals import ProposalKind, ProposalState
from tests.privd.git.test_applied import git, take_in

pytestmark = pytest.mark.anyio


async def test_two_who_tidy_at_the_same_time_drop_each_tag_once(tmp_path: Path) -> None:
    """What looks for proposals that expired tidies while an end of one does."""
    ledger = Ledger("iris", tmp_path / "iris.git")
    ledger.applied.make()
    commit = take_in(ledger.applied, "proposed")
    asked = Asked(ProposalKind.CONFIG, commit, "b" * 40, None, "manager", "", 1, 2, ())
    denied = Denied(ProposalState.DENIED, 3, "operator", "no", asked)
    for number in range(1, 6):
        await ledger.write(Mark.PROPOSAL, number, commit, asked, 1)
        await ledger.write(Mark.DENIED, number, commit, denied, 3)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ledger.tidy, 4, 1_000)
    assert sorted(ledger.tags) == [(Mark.DENIED, number) for number in range(1, 6)]
    told = git(ledger.folder, "for-each-ref", "--format=%(refname)").split()
    assert told == [f"refs/tags/denied/{number}" for number in range(1, 6)]
