"""The ballast: whole or not there, and given back once."""

import resource
from pathlib import Path

import pytest

from brokerd.store import ballast


def test_it_is_laid_and_given_back(tmp_path: Path) -> None:
    assert not ballast.is_laid(tmp_path)
    assert not ballast.give_back(tmp_path)
    ballast.lay(tmp_path, 1_000_000)
    assert ballast.is_laid(tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= 1_000_000
    assert ballast.give_back(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_for_it_has_none_of_it(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            ballast.lay(tmp_path, 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_it_makes_way_only_when_less_than_itself_is_left(tmp_path: Path) -> None:
    assert not ballast.make_way(tmp_path)
    ballast.lay(tmp_path, 1_000_000)
    assert not ballast.make_way(tmp_path)
    with (tmp_path / ballast.NAME).open("ab") as file:
        file.truncate(1 << 43)
    assert ballast.make_way(tmp_path)
