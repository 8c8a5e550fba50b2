"""Whose uids a hive's daemons would get."""

import json
from pathlib import Path

import pytest

from privd import __main__ as command
from privd.cages.identity import BLOCK_UIDS, RANGE_UIDS, block_of
from privd.cages.probe import Report

BLOCK = block_of("/tests")


@pytest.mark.parametrize(
    ("line", "conflict"),
    [
        (f"alice:{BLOCK}:65536", True),
        (f"alice:{BLOCK - 10}:11", True),
        (f"alice:{BLOCK + 65_535}:1", True),
        (f"alice:{BLOCK - 65_536}:65536", False),
        (f"alice:{BLOCK + RANGE_UIDS}:65536", False),
        ("alice:100000:65536", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_uids_that_a_user_may_hand_out_are_no_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, conflict: bool
) -> None:
    """Whoever may be webd's uid by newuidmap is the operator at root's socket."""
    path = tmp_path / "subuid"
    path.write_text(f"bob:100000:65536\n{line}\n")
    monkeypatch.setattr(command, "SUBORDINATE_IDS", (tmp_path / "missing", path))
    assert (str(path) in command.owner_of(BLOCK)) is conflict


def test_a_uid_with_a_name_is_no_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SUBORDINATE_IDS", ())
    assert "'root' has the number 0" in command.owner_of(0)
    assert command.owner_of(BLOCK) == ""


def test_only_a_hive_that_starts_claims_its_uids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claimed: list[Path] = []

    def claim(state: Path) -> int:
        claimed.append(state)
        return BLOCK + BLOCK_UIDS

    async def report(state: Path) -> Report:
        return Report("bwrap", ())

    monkeypatch.setattr(command, "claim", claim)
    monkeypatch.setattr(command, "report", report)
    for words, block in ((), block_of(str(tmp_path))), (("--claim",), BLOCK + BLOCK_UIDS):
        monkeypatch.setattr("sys.argv", ["privd", "--probe", "--state", str(tmp_path), *words])
        assert command.main() == 0
        assert json.loads(capsys.readouterr().out)["uid_first"] == block
    assert claimed == [tmp_path]
