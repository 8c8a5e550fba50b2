"""Blocks of uids: a hive keeps its own, and never meets another, however their folders hash."""

import os
from pathlib import Path

import pytest

from privd.cages import blocks
from privd.cages.blocks import UNUSED_S, claim
from privd.cages.identity import BLOCK_UIDS, BLOCKS, block_of

pytestmark = pytest.mark.root


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def hive(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_hive_keeps_its_block(tmp_path: Path, registry: Path) -> None:
    one = hive(tmp_path, "one")
    assert claim(one, registry) == claim(one, registry) == block_of(str(one))


def test_more_hives_than_luck_would_allow(tmp_path: Path, registry: Path) -> None:
    """Half the blocks of the machine: by hash alone dozens would meet."""
    taken = [claim(hive(tmp_path, f"hive{number}"), registry) for number in range(BLOCKS // 2)]
    assert len({block_of(str(tmp_path / f"hive{number}")) for number in range(BLOCKS // 2)}) < len(taken)
    assert len(set(taken)) == len(taken)
    assert min(abs(a - b) for a in taken for b in taken if a != b) >= BLOCK_UIDS


def test_a_claim_counts_before_its_folder_is_there(
    tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "block_of", lambda _, taken=(): next(n for n in (1, 2, 3) if n not in taken))
    assert claim(tmp_path / "planned", registry) == 1
    assert claim(hive(tmp_path, "other"), registry) == 2
    assert claim(hive(tmp_path, "planned"), registry) == 1


def test_a_hive_that_is_gone_leaves_its_block(tmp_path: Path, registry: Path) -> None:
    gone = hive(tmp_path, "gone")
    block = claim(gone, registry)
    gone.rmdir()
    old = (registry / str(block)).lstat().st_mtime - UNUSED_S - 1
    os.utime(registry / str(block), (old, old), follow_symlinks=False)
    again = claim(hive(tmp_path, "gone"), registry)
    assert again == block
    assert (registry / str(block)).readlink() == gone


def test_a_link_to_the_folder_is_the_same_hive(tmp_path: Path, registry: Path) -> None:
    one = hive(tmp_path, "one")
    (tmp_path / "alias").symlink_to(one)
    assert claim(tmp_path / "alias", registry) == claim(one, registry)
