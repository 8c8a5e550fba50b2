"""What the reader of repositories makes of real ones: the same bytes as git, from loose objects and from packs."""

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxes.reply import Refused
from boxes.repository import BLOB, COMMIT, TREE
from boxes.repository_packs import CHAIN_MAX
from privd.policy.admission import Admitted, admit
from protocol.problem import Refused as RefusedByRoot
from tests.support import repositories
from tests.support.repositories import (
    FILE,
    FOLDER,
    Repository,
    copy_step,
    delta_back,
    delta_of,
    delta_upon,
    packed,
)

KINDS = {COMMIT: "commit", TREE: "tree", BLOB: "blob"}
LINES = [f"key_{number} = {number}\n" for number in range(400)]


def read(repository: Repository, commit: str) -> list[tuple[str, bytes]]:
    return [(KINDS[part[:1]], part[1:]) for part in repositories.read_alone(repository.folder, commit)]


def refusal(repository: Repository, commit: str) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        read(repository, commit)
    return refused.value.problem, refused.value.detail


def by_git(repository: Repository, commit: str) -> list[tuple[str, bytes]]:
    """The same walk by git: the commit, and its trees and blobs in order, each once."""
    names = [("commit", commit), ("tree", repository.git("rev-parse", f"{commit}^{{tree}}"))]
    for line in repository.git("ls-tree", "-r", "-t", commit).splitlines():
        _, kind, name = line.split("\t")[0].split(" ")
        names.append((kind, name))
    return [(kind, repository.git_bytes("cat-file", kind, name)) for kind, name in dict.fromkeys(names)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "config")


@pytest.fixture
def history(repository: Repository) -> tuple[Repository, list[str]]:
    """Sixteen commits of files that change a little each time, so that git packs them as deltas."""
    commits = []
    for number in range(16):
        lines = [line if number % (place + 2) else f"changed {number}\n" for place, line in enumerate(LINES)]
        files: dict[str, str | bytes] = {
            "agent.toml": "".join(lines),
            "notes/one.md": "".join(reversed(lines)),
            "bin/go": f"#!/bin/sh\n# {number}\n",
            "grows.md": "".join(LINES[: 60 + 5 * number]),
            "same.md": "the same\n",
            "notes/same.md": "the same\n",
        }
        commits.append(repository.commit(files, f"number {number}"))
    return repository, commits


def test_loose_objects_are_as_git_says(history: tuple[Repository, list[str]]) -> None:
    repository, commits = history
    for commit in commits[::5]:
        assert read(repository, commit) == by_git(repository, commit)


@pytest.mark.parametrize("form", ["repack.usedeltabaseoffset=true", "repack.usedeltabaseoffset=false"])
def test_packed_objects_are_as_git_says(history: tuple[Repository, list[str]], form: str) -> None:
    repository, commits = history
    repository.git("-c", form, "repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=100")
    repository.git("prune-packed")
    (index,) = (repository.inner / "objects" / "pack").glob("*.idx")
    depths = [
        line.split()[5]
        for line in repository.git("verify-pack", "-v", str(index)).splitlines()
        if len(line.split()) == 7
    ]
    assert max(map(int, depths)) >= 3, "no chain of deltas was made"
    for commit in commits:
        assert read(repository, commit) == by_git(repository, commit)


def test_several_packs_and_loose_objects_together(history: tuple[Repository, list[str]]) -> None:
    repository, commits = history
    for number in range(3):
        repository.git("repack", "-q", "-d")
        commits.append(repository.commit({"more.md": f"{number}\n"}))
    repository.git("multi-pack-index", "write")
    repository.git("commit-graph", "write", "--reachable")
    for commit in (commits[0], *commits[-4:]):
        assert read(repository, commit) == by_git(repository, commit)


def test_a_bare_repository(tmp_path: Path, repository: Repository) -> None:
    commit = repository.commit({"agent.toml": "a = 1\n"})
    bare = Repository(tmp_path / "bare", bare=True)
    repository.git("push", "-q", str(bare.folder), "main")
    assert read(bare, commit) == by_git(repository, commit)


def test_what_is_in_history_alone_is_not_given(repository: Repository) -> None:
    repository.commit({"old.md": "a secret of yesterday\n"})
    (repository.folder / "old.md").unlink()
    assert not any(b"yesterday" in part for _, part in read(repository, repository.commit({"new.md": "x\n"})))


def test_one_folder_in_many_places_is_given_once(repository: Repository) -> None:
    inner = repository.tree((FILE, "a", repository.blob()))
    commit = repository.commit_tree((FOLDER, "p", inner), (FOLDER, "q", inner))
    assert [kind for kind, _ in read(repository, commit)] == ["commit", "tree", "tree", "blob"]


def test_replaced_and_grafted_objects_are_the_real_ones(repository: Repository) -> None:
    """BI-181: what a repository says about its history and its replacements is not looked at."""
    real = repository.commit({"a.md": "the real one\n"})
    false = repository.commit({"a.md": "the false one\n"})
    repository.git("replace", real, false)
    repository.write(".git/info/grafts", f"{real} {false}\n")
    repository.write(".git/shallow", f"{real}\n")
    assert b"the real one\n" in [part for _, part in read(repository, real)]


@pytest.mark.parametrize(
    ("kind", "problem", "words"),
    [("blob", "malformed", "is a blob, not a commit"), ("tag", "malformed", "is a tag, not a commit; send")],
)
@pytest.mark.parametrize("place", ["loose", "packed"])
def test_what_is_no_commit(repository: Repository, place: str, kind: str, problem: str, words: str) -> None:
    """BI-172, BI-173."""
    repository.commit({"a.md": "x\n"})
    repository.git("tag", "-a", "-m", "x", "one")
    name = {"tag": repository.git("rev-parse", "one"), "blob": repository.git("rev-parse", "HEAD:a.md")}[kind]
    if place == "packed":
        repository.git("gc", "-q")
    found = refusal(repository, name)
    assert found[0] == problem
    assert words in found[1]


class TestNotThere:
    def test_a_commit(self, repository: Repository) -> None:
        assert refusal(repository, "a" * 40) == (
            "not_found",
            f"there is no commit {'a' * 40} in this repository",
        )

    @pytest.mark.parametrize("kind", ["blob", "tree"])
    def test_a_part_of_it(self, repository: Repository, kind: str) -> None:
        """BI-170."""
        commit = repository.commit_tree((FILE if kind == "blob" else FOLDER, "a", "b" * 40))
        assert refusal(repository, commit) == (
            "not_found",
            f"there is no {kind} {'b' * 40} in this repository",
        )

    def test_a_repository(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="there is no git repository"):
            repositories.read_alone(tmp_path, "a" * 40)

    def test_a_tree_in_a_commit(self, repository: Repository) -> None:
        name = repository.put("commit", b"author nobody\n\n")
        assert refusal(repository, name) == ("malformed", f"the commit {name} names no tree")


def packed_commit(repository: Repository, entries: list[tuple[str, bytes]], blob: str) -> str:
    """A commit of one file whose blob lies in a pack that we made."""
    repository.put_pack(entries)
    return repository.commit_tree((FILE, "a", blob))


class TestBrokenPacks:
    """Nothing of these is made by git. Each is a refusal in words, never an exception of Python's."""

    BASE = b"base of it\n"
    NAME = repositories.name_of("blob", BASE)
    BLOB = "c" * 40

    def test_our_deltas_are_deltas(self, repository: Repository) -> None:
        """The rest of this class would pass with packs that mean nothing."""
        steps = copy_step(0, 5) + b"\4more"
        first = packed("blob", self.BASE)
        entries = [
            (self.NAME, first),
            (self.BLOB, delta_back(len(first), delta_of(len(self.BASE), 9, steps))),
        ]
        commit = packed_commit(repository, entries, self.BLOB)
        assert read(repository, commit)[-1] == ("blob", b"base more")
        other = Repository(repository.folder.with_name("other"))
        entries[1] = (self.BLOB, delta_upon(self.NAME, delta_of(len(self.BASE), 9, steps)))
        assert read(other, packed_commit(other, entries, self.BLOB))[-1] == ("blob", b"base more")

    @pytest.mark.parametrize(
        ("delta", "words"),
        [
            (b"", "a delta is cut off"),
            (b"\x80", "a delta is cut off"),
            (delta_of(3, 3, copy_step(0, 3)), "a delta is for another base"),
            (delta_of(11, 30, copy_step(0, 30)), "another length than it says"),
            (delta_of(11, 5, copy_step(9, 5)), "another length than it says"),
            (delta_of(11, 5, copy_step(1 << 31, 5)), "another length than it says"),
            (delta_of(11, 3, b"\7abc"), "a delta is cut off"),
            (delta_of(11, 3, b"\0abc"), "a step of no known kind"),
            (delta_of(11, 3, b"\xff\0"), "a delta is cut off"),
            (delta_of(11, 3, copy_step(0, 11)), "another length than it says"),
            (delta_of(11, 1 << 30, b""), "a delta makes 1073741824 bytes"),
            (b"\xff" * 12, "says a size that no object has"),
        ],
    )
    def test_a_delta(self, repository: Repository, delta: bytes, words: str) -> None:
        entries = [(self.NAME, packed("blob", self.BASE)), (self.BLOB, delta_upon(self.NAME, delta))]
        assert words in refusal(repository, packed_commit(repository, entries, self.BLOB))[1]

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            (packed("blob", b"abc", size=4), "another length than it says"),
            (packed("blob", b"abc", size=2), "another length than it says"),
            (packed("blob", b"abc", size=1 << 40), "has 1099511627776 bytes"),
            (packed("tree", b"abc"), "is a tree, not a blob"),
            (packed("blob", b"abc")[:6], "compressed wrongly"),
            (b"\x33not deflated", "compressed wrongly"),
            (b"\x53abc", "no known kind"),
            (b"\x03abc", "no known kind"),
            (b"\xff" * 30, "a size that no object has"),
            (delta_upon("d" * 40, b"x"), "lies outside"),
            (delta_upon(BLOB, b"x"), f"more than {CHAIN_MAX} deltas"),
            (delta_back(1, b"x"), "lies outside"),
            (delta_back(1 << 40, b"x"), "lies outside"),
            (b"\x63" + b"\xff" * 30, "out of reach"),
            (b"\x63", ""),
        ],
    )
    def test_an_entry(self, repository: Repository, entry: bytes, words: str) -> None:
        assert words in refusal(repository, packed_commit(repository, [(self.BLOB, entry)], self.BLOB))[1]

    def test_entries_that_are_based_on_each_other(self, repository: Repository) -> None:
        entries = [("c" * 40, delta_upon("d" * 40, b"x")), ("d" * 40, delta_upon("c" * 40, b"x"))]
        assert refusal(repository, packed_commit(repository, entries, "c" * 40))[0] == "limit"

    @pytest.mark.parametrize("offset", [0, 1, 11, 10_000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
    def test_an_index_that_points_anywhere(self, repository: Repository, offset: int) -> None:
        commit = packed_commit(repository, [(self.NAME, packed("blob", self.BASE))], self.BLOB)
        (index,) = (repository.inner / "objects" / "pack").glob("*.idx")
        index.write_bytes(repositories.index_of({self.BLOB: offset}))
        assert refusal(repository, commit)[0] == "failed"

    @pytest.mark.parametrize("length", [0, 8, 1031, 1032, 1040, 1059])
    def test_an_index_that_is_cut_off(self, repository: Repository, length: int) -> None:
        commit = packed_commit(repository, [(self.BLOB, packed("blob", self.BASE))], self.BLOB)
        (index,) = (repository.inner / "objects" / "pack").glob("*.idx")
        index.write_bytes(index.read_bytes()[:length])
        assert refusal(repository, commit)[0] == "failed"

    def test_an_index_of_version_1(self, repository: Repository) -> None:
        commit = repository.commit({"a.md": "x\n"})
        repository.git("-c", "pack.indexVersion=1", "repack", "-q", "-a", "-d")
        assert "not of version 2" in refusal(repository, commit)[1]

    def test_an_index_without_its_pack(self, repository: Repository) -> None:
        commit = packed_commit(repository, [(self.BLOB, packed("blob", self.BASE))], self.BLOB)
        next((repository.inner / "objects" / "pack").glob("*.pack")).unlink()
        assert ".pack is missing" in refusal(repository, commit)[1]


class TestBrokenLooseObjects:
    @pytest.mark.parametrize(
        ("compressed", "words"),
        [
            (b"", "cut off"),
            (b"not deflated", "compressed wrongly"),
            (zlib.compress(b"blob 3\0abc")[:-6], "cut off"),
            (zlib.compress(b"blob 3\0abc")[:-4] + b"sum?", "compressed wrongly"),
            (zlib.compress(b"blob 2\0abc"), "another length"),
            (zlib.compress(b"blob 4\0abc"), "another length"),
            (zlib.compress(b"blob 003\0abc"), "a broken header"),
            (zlib.compress(b"blob -3\0abc"), "a broken header"),
            (zlib.compress(b"blob 3abc"), "a broken header"),
            (zlib.compress(b"tree 3\0abc"), "is a tree, not a blob"),
            (zlib.compress(b"blob 99999999999999\0abc"), "has 99999999999999 bytes"),
        ],
    )
    def test_a_file(self, repository: Repository, compressed: bytes, words: str) -> None:
        commit = repository.commit_tree((FILE, "a", "c" * 40))
        repository.put_loose("c" * 40, compressed)
        assert words in refusal(repository, commit)[1]

    @pytest.mark.parametrize("what", ["fifo", "folder", "link"])
    def test_what_is_no_file(self, repository: Repository, what: str) -> None:
        commit = repository.commit_tree((FILE, "a", "c" * 40))
        place = repository.inner / "objects" / "cc" / ("c" * 38)
        place.parent.mkdir()
        match what:
            case "fifo":
                os.mkfifo(place)
            case "folder":
                place.mkdir()
            case _:
                place.symlink_to(repository.inner / "objects" / commit[:2] / commit[2:])
        assert refusal(repository, commit)[0] == "failed"


@pytest.fixture(scope="module", params=["loose", "packed"])
def damaged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Repository, str, list[Path]]:
    """A repository that may be damaged, its last commit, and the files that its objects lie in."""
    repository, commit = Repository(tmp_path_factory.mktemp("damaged") / "config"), ""
    for number in range(6):
        lines = [line for place, line in enumerate(LINES) if (place + number) % 7]
        commit = repository.commit({"agent.toml": "".join(lines), "notes/one.md": f"{number}\n"})
    if request.param == "packed":
        repository.git("repack", "-q", "-a", "-d", "-f")
        repository.git("prune-packed")
    places = (repository.inner / "objects").glob("*/*")
    return (
        repository,
        commit,
        sorted(place for place in places if len(place.name) == 38 or place.suffix in {".idx", ".pack"}),
    )


def judged(repository: Repository, commit: str) -> Admitted:
    """What root makes of what the reader says."""
    walk = admit(commit)
    next(walk)
    for _, content in read(repository, commit):
        try:
            walk.send(content)
        except StopIteration as end:
            admitted: Admitted = end.value
            return admitted
    raise AssertionError("the reader ended before the walk did")


@given(st.data())
def test_any_damage_is_a_refusal_or_changes_nothing(
    damaged: tuple[Repository, str, list[Path]], data: st.DataObject
) -> None:
    """Whatever is changed: the reader refuses, or root does by the hash, or it was no matter; nothing else comes."""
    repository, commit, places = damaged
    place = data.draw(st.sampled_from(places))
    whole = place.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    put, cut = data.draw(st.binary(max_size=8)), data.draw(st.integers(0, 8))
    undamaged = judged(repository, commit)
    place.chmod(0o600)
    try:
        place.write_bytes(whole[:at] + put + whole[at + cut :])
        assert judged(repository, commit) == undamaged
    except (Refused, RefusedByRoot):
        return
    finally:
        place.write_bytes(whole)
