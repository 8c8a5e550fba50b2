"""Folders that an agent owns: made for it, and removed, without touching anything that it points at."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from privd.cages.folders import make, remove
from privd.cages.spec import Folder
from protocol.problem import Problem, Refused

UID, GID = os.geteuid(), os.getegid()
DEPTH = 3_000


def folder(path: Path, mode: int = 0o750, uid: int = UID, gid: int = GID) -> Folder:
    return Folder(str(path), uid, gid, mode)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestMake:
    def test_with_its_mode_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            make(folder(tmp_path / "a", 0o1777))
        finally:
            os.umask(before)
        assert mode(tmp_path / "a") == 0o1777

    def test_a_changed_mode_is_set_right(self, tmp_path: Path) -> None:
        make(folder(tmp_path / "a"))
        (tmp_path / "a").chmod(0o777)
        make(folder(tmp_path / "a"))
        assert mode(tmp_path / "a") == 0o750

    @pytest.mark.root
    def test_with_its_owner_and_only_it(self, tmp_path: Path) -> None:
        below = tmp_path / "a" / "below"
        below.mkdir(parents=True)
        make(folder(tmp_path / "a", uid=700_000, gid=700_001))
        assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == (700_000, 700_001)
        assert below.stat().st_uid == UID

    @pytest.mark.parametrize("kind", ["link to a folder", "dangling link", "file", "fifo"])
    def test_what_is_no_folder_is_refused(self, tmp_path: Path, kind: str) -> None:
        target, place = tmp_path / "target", tmp_path / "a"
        target.mkdir(mode=0o700)
        match kind:
            case "link to a folder":
                place.symlink_to(target)
            case "dangling link":
                place.symlink_to(tmp_path / "nowhere")
            case "file":
                place.write_text("x")
            case "fifo":
                os.mkfifo(place)
        with pytest.raises(Refused, match="not a real folder") as refused:
            make(folder(place, 0o777))
        assert refused.value.problem is Problem.FAILED
        assert mode(target) == 0o700
        assert not (tmp_path / "nowhere").exists()

    def test_a_parent_that_is_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(OSError):
            make(folder(tmp_path / "link" / "a"))
        assert not list((tmp_path / "real").iterdir())


class TestRemove:
    def test_what_is_not_there(self, tmp_path: Path) -> None:
        remove(tmp_path / "a")
        remove(tmp_path / "a" / "b")

    def test_all_kinds_of_things(self, tmp_path: Path) -> None:
        top, kept = tmp_path / "top", tmp_path / "kept"
        kept.mkdir()
        (kept / "file").write_text("x")
        (top / "folder" / "deeper").mkdir(parents=True)
        (top / "folder" / "deeper" / "file").write_text("x")
        (top / "folder" / "link").symlink_to(kept)
        (top / "link").symlink_to(kept / "file")
        (top / "\udcff\n").write_text("x")
        os.mkfifo(top / "fifo")
        os.link(kept / "file", top / "hard")
        remove(top)
        assert not top.exists()
        assert (kept / "file").read_text() == "x"

    def test_a_link_is_removed_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "kept")
        remove(tmp_path / "link")
        assert (tmp_path / "kept").is_dir()
        assert not (tmp_path / "link").is_symlink()

    def test_folders_nested_past_every_limit(self, tmp_path: Path) -> None:
        """Deeper than a path may be long, than the stack goes, than files may be open."""
        top = tmp_path / "top"
        top.mkdir()
        place = os.open(top, os.O_RDONLY)
        for _ in range(DEPTH):
            os.mkdir("d", dir_fd=place)
            below = os.open("d", os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = below
        os.close(place)
        remove(top)
        assert not top.exists()

    def test_a_folder_closed_to_its_owner(self, tmp_path: Path) -> None:
        (tmp_path / "top" / "closed" / "below").mkdir(parents=True)
        (tmp_path / "top" / "closed").chmod(0)
        remove(tmp_path / "top")
        assert not (tmp_path / "top").exists()

    @pytest.mark.root
    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_what_is_mounted_inside_stays(self, tmp_path: Path, depth: int) -> None:
        """A bind mount of the same file system looks like any folder; its content must survive."""
        precious, top = tmp_path / "precious", tmp_path / "top"
        precious.mkdir()
        (precious / "file").write_text("x")
        place = top.joinpath(*["d"] * depth)
        place.mkdir(parents=True)
        subprocess.run(["mount", "--bind", precious, place], check=True)
        try:
            with pytest.raises(Refused, match="unmount it") as refused:
                remove(top)
            assert refused.value.problem is Problem.CONFLICT
            assert (precious / "file").read_text() == "x"
        finally:
            where = next(
                line.split()[4]
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if str(tmp_path) in line
            )
            subprocess.run(["umount", where], check=True)
        remove(top)
        assert not top.exists()
        assert (precious / "file").read_text() == "x"
