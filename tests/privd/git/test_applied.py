"""The applied repository: what git makes of it, and what a crash, a full disk or a second writer leaves."""

import errno
import os
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from privd.git.applied import Applied
from privd.policy.objects import Kind, object_id
from protocol.problem import Problem, Refused
from tests.support.repositories import FILE, commit_of, tree_of

NOW_S = 1_700_000_000


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "--git-dir", str(folder), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "applied" / "iris.git"


@pytest.fixture
def applied(folder: Path) -> Applied:
    made = Applied(folder)
    made.make()
    return made


def take_in(applied: Applied, text: str, parents: tuple[str, ...] = ()) -> str:
    """A commit of one file."""
    blob = text.encode()
    tree = tree_of([(FILE, "a.md", object_id(Kind.BLOB, blob))])
    commit = commit_of(object_id(Kind.TREE, tree), parents)
    with applied.incoming() as incoming:
        for kind, content in ((Kind.COMMIT, commit), (Kind.TREE, tree), (Kind.BLOB, blob)):
            incoming.put(kind, object_id(kind, content), content)
        applied.release(incoming)
    applied.cut_history(object_id(Kind.COMMIT, commit), parents)
    return object_id(Kind.COMMIT, commit)


def test_git_finds_nothing_wrong(applied: Applied, folder: Path) -> None:
    one = take_in(applied, "one\n")
    two = take_in(applied, "two\n", (one,))
    applied.tag("proposal/1", one, b'{"n":1}', NOW_S)
    applied.tag("proposal/2", two, b'{"n":2}', NOW_S)
    assert git(folder, "fsck", "--full", "--strict", "--no-dangling") == ""
    assert git(folder, "rev-list", "proposal/2").split() == [two, one]
    assert git(folder, "show", "proposal/2^{commit}:a.md") == "two"
    assert git(folder, "for-each-ref", "--format=%(refname) %(objecttype) %(contents)") == (
        'refs/tags/proposal/1 tag {"n":1}\nrefs/tags/proposal/2 tag {"n":2}'
    )
    assert not (folder / "shallow").exists()


def test_history_ends_where_a_parent_was_never_taken_in(applied: Applied, folder: Path) -> None:
    one = take_in(applied, "one\n", ("a" * 40,))
    other = take_in(applied, "other\n", ("b" * 40,))
    two = take_in(applied, "two\n", (one,))
    again = take_in(applied, "one\n", ("a" * 40,))
    assert again == one
    for number, commit in enumerate((other, two), 1):
        applied.tag(f"proposal/{number}", commit, b"{}", NOW_S)
    assert git(folder, "rev-list", "proposal/2").split() == [two, one]
    assert git(folder, "fsck", "--full", "--strict", "--no-dangling") == ""
    assert (folder / "shallow").read_text().split() == sorted([one, other])


def test_making_it_again_changes_nothing(applied: Applied, folder: Path) -> None:
    commit = take_in(applied, "one\n")
    applied.make()
    assert applied.has(commit)
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_not_released_is_gone(applied: Applied, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with applied.incoming() as incoming:
        incoming.put(Kind.BLOB, object_id(Kind.BLOB, b"x"), b"x")
        assert sorted(folder.rglob("*")) != before
    assert sorted(folder.rglob("*")) == before


def test_an_object_is_never_replaced(applied: Applied, folder: Path) -> None:
    """Whoever can make two contents of one id gets the first of them for ever, and no approval covers the other."""
    name = object_id(Kind.BLOB, b"first")
    for content in (b"first", b"other"):
        with applied.incoming() as incoming:
            incoming.put(Kind.BLOB, name, content)
            applied.release(incoming)
    assert zlib.decompress((folder / "objects" / name[:2] / name[2:]).read_bytes()) == b"blob 5\0first"


class TestTag:
    def test_is_made_once(self, applied: Applied, folder: Path) -> None:
        one, two = take_in(applied, "one\n"), take_in(applied, "two\n")
        applied.tag("proposal/7", one, b"{}", NOW_S)
        with pytest.raises(Refused, match="proposal/7 was made before") as refused:
            applied.tag("proposal/7", two, b"{}", NOW_S)
        assert refused.value.problem is Problem.CONFLICT
        assert git(folder, "rev-parse", "proposal/7^{commit}") == one
        assert git(folder, "for-each-ref").count("\n") == 0

    @pytest.mark.parametrize(
        "name", ["", "main", "proposal/0", "proposal/07", "proposal/1\n", "../proposal/1", "other/1"]
    )
    def test_has_a_name_of_ours(self, applied: Applied, name: str) -> None:
        with pytest.raises(ValueError, match="no tag of ours"):
            applied.tag(name, "a" * 40, b"{}", NOW_S)

    def test_holds_any_document(self, applied: Applied, folder: Path) -> None:
        commit = take_in(applied, "one\n")
        applied.tag("denied/1", commit, '{"reason":"nein, weil ä\\n"}'.encode(), NOW_S)
        assert git(folder, "fsck", "--strict", "--no-dangling") == ""


STEPS: dict[str, tuple[str, Callable[[Applied, str], object]]] = {
    "put": ("zlib.compress", lambda applied, _: take_in(applied, "two\n")),
    "release": ("os.link", lambda applied, _: take_in(applied, "two\n")),
    "history": ("privd.git.applied.write", lambda applied, commit: applied.cut_history(commit, ("a" * 40,))),
    "tag": ("os.link", lambda applied, commit: applied.tag("proposal/1", commit, b"{}", NOW_S)),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_a_refusal(
    applied: Applied, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    commit = take_in(applied, "one\n")
    before = sorted(folder.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    place, act = STEPS[step]
    monkeypatch.setattr(place, full)
    with pytest.raises(Refused) as refused:
        act(applied, commit)
    assert refused.value.problem is Problem.STORAGE_FULL
    monkeypatch.undo()
    assert [path for path in folder.rglob("*") if path not in before and path.is_file()] == []
    act(applied, commit)
    assert git(folder, "fsck", "--no-dangling") == ""


def test_another_fault_is_told_as_it_is(applied: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tempfile, "mkdtemp", broken)
    with pytest.raises(OSError, match="Input/output"), applied.incoming():
        pass


def test_every_file_is_synced_before_it_is_seen(applied: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of effects: an object's bytes are on the disk before its name is, and its name before we say so."""
    done: list[tuple[str, str]] = []
    link, sync = os.link, os.fsync

    def recorded_link(source: Path, place: Path) -> None:
        done.append(("link", source.name))
        link(source, place)

    def recorded_sync(descriptor: int) -> None:
        done.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        sync(descriptor)

    monkeypatch.setattr(os, "link", recorded_link)
    monkeypatch.setattr(os, "fsync", recorded_sync)
    take_in(applied, "one\n")
    names = [name for act, name in done if act == "link"]
    assert len(names) == 3
    for name in names:
        assert done.index(("sync", name)) < done.index(("link", name))
        assert ("sync", name[:2]) in done[done.index(("link", name)) :]


def test_a_tag_that_is_dropped_while_all_are_read_is_left_out(
    applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment ends while somebody looks at the record."""
    commit = take_in(applied, "one\n")
    for name in ("proposal/1", "deployed/1"):
        applied.tag(name, commit, b"{}", NOW_S)
    read = Path.read_text

    def read_text(path: Path, *arguments: str, **named: str) -> str:
        applied.drop_tag("proposal/1")
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert set(applied.tags()) == {"deployed/1"}
