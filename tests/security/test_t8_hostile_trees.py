"""T8: trees that git would write or not, through the real box: refused with place and reason, or what they seem.

The rules one by one are in tests/privd/test_policy_admission.py; here is what a manager's repository can hold.
"""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.problem import Problem, Refused
from tests.privd.cages.hive import ORDINARY_UID
from tests.security.proposals import OWNER, Proposal, proposal
from tests.support.repositories import (
    FILE,
    FOLDER,
    LINK,
    PROGRAM,
    SUBMODULE,
    Repository,
    commit_of,
    ground,
    tree_of,
)

pytestmark = [pytest.mark.root]

Make = Callable[[Repository], str]
SWAPS = 40
SWAP = r"""
import itertools, os, sys
place, one, two = sys.argv[1:]
contents = [bytes.fromhex(one), bytes.fromhex(two)]
print("begun", flush=True)
for number in itertools.count():
    with open(place + ".new", "wb") as file:
        file.write(contents[number % 2])
    os.replace(place + ".new", place)
"""


def one_entry(mode: str, name: str | bytes) -> Make:
    return lambda repository: repository.commit_tree((mode, name, repository.blob()))


def one_file(content: bytes) -> Make:
    return lambda repository: repository.commit_tree((FILE, "agent.nix", repository.blob(content)))


def below(mode: str, name: str) -> Make:
    def make(repository: Repository) -> str:
        inner = repository.tree((mode, name, repository.blob()))
        return repository.commit_tree((FOLDER, "notes", inner))

    return make


def by_git(prepare: Callable[[Repository], object]) -> Make:
    """A commit that git itself makes, of a work tree somebody prepared."""

    def make(repository: Repository) -> str:
        prepare(repository)
        return repository.commit({"agent.nix": "{ }\n"})

    return make


def link(repository: Repository) -> None:
    (repository.folder / "prompt.md").symlink_to("/etc/shadow")


def submodule(repository: Repository) -> None:
    inner = Repository(repository.folder / "sub", OWNER)
    inner.commit({"a.md": "x\n"})


def twice(repository: Repository) -> str:
    one = repository.blob()
    return repository.commit_tree((FILE, "agent.nix", one), (LINK, "agent.nix", one))


def twins(repository: Repository) -> str:
    one = repository.blob()
    return repository.commit_tree((FILE, "Agent.nix", one), (FILE, "agent.nix", one))


def unsorted(repository: Repository) -> str:
    one = repository.blob()
    return repository.commit_tree((FILE, "b", one), (FILE, "a", one))


def cut_off(repository: Repository) -> str:
    whole = tree_of([(FILE, "agent.nix", repository.blob())])
    return repository.put("commit", commit_of(repository.put("tree", whole[:-3])))


def six_folders(repository: Repository) -> str:
    return repository.commit({"a/b/c/d/e/f/agent.nix": "{ }\n"})


def header(old: bytes, new: bytes) -> Make:
    """A commit whose header has something replaced."""

    def make(repository: Repository) -> str:
        tree = repository.tree((FILE, "agent.nix", repository.blob()))
        content = commit_of(tree).replace(old, new)
        assert content != commit_of(tree)
        return repository.put("commit", content)

    return make


HIDDEN = "is a control or invisible character (possible hidden text)"
REFUSED: dict[str, tuple[Make, str]] = {
    "BI-134 symlink": (by_git(link), "prompt.md: symbolic links are not allowed"),
    "BI-136 submodule": (by_git(submodule), "sub: submodules are not allowed"),
    "BI-137 .gitmodules": (
        by_git(lambda repository: repository.write(".gitmodules", "x\n")),
        "'.gitmodules': the name",
    ),
    ".gitattributes": (
        by_git(lambda repository: repository.write(".gitattributes", "* x\n")),
        "'.gitattributes': the",
    ),
    "BI-139 .git folder": (one_entry(FOLDER, ".git"), "'.git': the name is not allowed"),
    "BI-140 .GIT": (one_entry(FILE, ".GIT"), "'.GIT': the name is not allowed"),
    "git~1": (one_entry(FILE, "git~1"), "'git~1': the name is not allowed"),
    "BI-142 .g<zero width>it": (one_entry(FILE, ".g\u200cit"), r"'.g\u200cit': the name is not allowed"),
    "BI-143 ..": (one_entry(FOLDER, ".."), "'..': the name is not allowed"),
    "BI-145 slashes": (one_entry(FILE, "a/../../x"), "'a/../../x': the name is not allowed"),
    "an absolute path": (one_entry(FILE, "/etc/cron.d/x"), "'/etc/cron.d/x': the name is not allowed"),
    "BI-146 line break": (one_entry(FILE, "a\nb"), r"'a\nb': the name is not allowed"),
    "BI-148 dash": (one_entry(FILE, "-rf"), "'-rf': the name is not allowed"),
    "BI-149 not UTF-8": (one_entry(FILE, b"\xff\xfe"), r"'\\xff\\xfe': the name is not allowed"),
    "bidi in a name": (one_entry(FILE, "a\u202egpj.nix"), r"'a\u202egpj.nix': the name is not allowed"),
    "below a folder": (below(LINK, "x"), "notes/x: symbolic links are not allowed"),
    ".git below a folder": (below(FOLDER, ".git"), "notes/'.git': the name is not allowed"),
    "BI-151 twice": (twice, "the top folder: the name 'agent.nix' appears twice"),
    "BI-152 twins": (twins, "'Agent.nix' and 'agent.nix' differ in case alone"),
    "unsorted": (unsorted, "the top folder: the tree object is not sorted"),
    "BI-154 100666": (one_entry("100666", "agent.nix"), "agent.nix: file mode 100666 is not allowed"),
    "BI-155 executable": (one_entry(PROGRAM, "agent.nix"), "agent.nix: file mode 100755 is not allowed"),
    "a mode with a zero in front": (one_entry("0100644", "agent.nix"), "cut off or garbled"),
    "a submodule of a known id": (one_entry(SUBMODULE, "agent.nix"), "agent.nix: submodules are not allowed"),
    "BI-163 six folders": (six_folders, "a/b/c/d/e/: folders are nested deeper than 4"),
    "BI-166 bidi": (one_file("{ \u202e }\n".encode()), f"agent.nix: line 1: U+202E {HIDDEN}"),
    "BI-167 escape": (one_file(b"{\n\x1b[1A }\n"), f"agent.nix: line 2: U+001B {HIDDEN}"),
    "zero width": (one_file("a\u200bb\n".encode()), f"agent.nix: line 1: U+200B {HIDDEN}"),
    "a byte order mark": (one_file("\ufeff{ }\n".encode()), f"agent.nix: line 1: U+FEFF {HIDDEN}"),
    "a carriage return": (one_file(b"good\rhidden\n"), f"agent.nix: line 1: U+000D {HIDDEN}"),
    "a NUL": (one_file(b"a\0b\n"), f"agent.nix: line 1: U+0000 {HIDDEN}"),
    "a program": (one_file(b"\x7fELF\x02\x01\x01\0\xff"), "agent.nix: byte 8 is not UTF-8 text"),
    "BI-169 cut off": (cut_off, "the top folder: the tree object is cut off or garbled"),
    "BI-190 author with a line break": (
        header(b"Test <", b"Te\nst <"),
        "the commit: its header has a line 'st'",
    ),
    "a signature": (header(b"\n\n", b"\ngpgsig -----BEGIN-----\n x\n\n"), "commit without signature"),
    "another encoding": (header(b"\n\n", b"\nencoding latin-1\n\n"), "its header has a line 'encoding'"),
    "a second tree": (header(b"author", b"tree " + b"a" * 40 + b"\nauthor"), "its header is not one tree"),
    "a NUL in the message": (header(b"test\n", b"test\0more"), "a NUL in its message"),
    "bidi in the author": (header(b"Test <", "T\u202est <".encode()), r"its header has '\u202e'"),
}
ADMITTED: dict[str, Make] = {
    "BI-188 a message with escapes": header(b"test\n", b"\x1b[2J\rfixed\n\nSigned-off-by: root\n"),
    "words of the world": one_file("Grüße, 漢字, 🐝\n".encode()),
    "an empty file": one_file(b""),
    "a file without a last line break": one_file(b"{ }"),
    "a program in its folder": by_git(lambda repository: repository.write("bin/go", "#!/bin/sh\n", 0o755)),
    "four folders": lambda repository: repository.commit({"a/b/c/d/agent.nix": "{ }\n"}),
}


@pytest.fixture
def made() -> Iterator[Proposal]:
    with proposal() as each:
        yield each


@pytest.mark.parametrize("what", REFUSED)
def test_t8_a_hostile_tree_is_refused_with_place_and_reason(made: Proposal, what: str) -> None:
    make, words = REFUSED[what]
    refused = made.refusal(make(made.repository))
    assert words in refused.detail
    assert refused.problem in {Problem.MALFORMED, Problem.LIMIT}
    assert made.logged() == []


@pytest.mark.parametrize("what", ADMITTED)
def test_t8_what_is_plain_is_taken_in_as_it_is(made: Proposal, what: str) -> None:
    commit = ADMITTED[what](made.repository)
    admitted = made.ingest(commit)
    stored = made.applied / "objects" / commit[:2] / commit[2:]
    assert zlib.decompress(stored.read_bytes()).partition(b"\0")[2] == made.repository.git_bytes(
        "cat-file", "commit", commit
    )
    for file in admitted.files:
        place = made.applied / "objects" / file.id[:2] / file.id[2:]
        content = zlib.decompress(place.read_bytes()).partition(b"\0")[2]
        assert content == made.repository.git_bytes("cat-file", "blob", file.id)
        assert len(content) == file.bytes


@pytest.mark.parametrize("kind", ["blob", "tag", "tree"])
def test_t8_what_is_no_commit(made: Proposal, kind: str) -> None:
    """BI-172, BI-173."""
    made.repository.commit({"agent.nix": "{ }\n"})
    made.repository.git("tag", "-a", "-m", "x", "one")
    name = made.repository.git(
        "rev-parse", {"blob": "HEAD:agent.nix", "tree": "HEAD^{tree}", "tag": "one"}[kind]
    )
    refused = made.refusal(name)
    assert f"{name} is a {kind}, not a commit" in refused.detail
    assert refused.problem is Problem.MALFORMED


@pytest.mark.parametrize(
    "name", ["HEAD", "main", "--upload-pack=touch /x", "@{u}", "a" * 39, "A" * 40, "a" * 40 + "\n"]
)
def test_t8_a_commit_is_never_named_otherwise(made: Proposal, name: str) -> None:
    """BI-112 to BI-131; no box is made for these."""
    made.repository.commit({"agent.nix": "{ }\n"})
    assert "40 hex digits" in made.refusal(name).detail
    assert made.boxes.said == []


def test_t8_a_repository_that_changes_while_it_is_read(made: Proposal) -> None:
    """Its owner swaps an object between two contents all the time: what was named is taken in, or nothing is."""
    good, evil = (zlib.compress(b"blob 6\0" + content) for content in (b"a = 1\n", b"a = 2\n"))
    commit = made.repository.commit({"agent.toml": "a = 1\n"})
    name = made.repository.git("rev-parse", "HEAD:agent.toml")
    place = made.repository.inner / "objects" / name[:2] / name[2:]
    command = [sys.executable, "-I", "-S", "-c", SWAP, str(place), good.hex(), evil.hex()]
    swapper = subprocess.Popen(
        command, stdout=subprocess.PIPE, user=OWNER, group=OWNER, extra_groups=[], env={}
    )
    ends = set()
    try:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"begun\n"
        for _ in range(SWAPS):
            try:
                made.ingest(commit)
                ends.add("taken in")
            except Refused as refused:
                ends.add(refused.detail)
    finally:
        swapper.kill()
        swapper.communicate()
    assert ends <= {
        "taken in",
        f"agent.toml: the repository gave other bytes for the blob {name}: it is damaged",
    }
    stored = [zlib.decompress(Path(path).read_bytes()) for path in made.left() if path.name == name[2:]]
    assert set(stored) <= {b"blob 6\0a = 1\n"}


def test_t8_an_ordinary_users_hive_says_the_same() -> None:
    """Without root the box is made by bubblewrap, of the same reader and the same policy."""
    with ground() as place:
        place.chmod(0o777)
        good = Repository(place / "good", ORDINARY_UID)
        bad = Repository(place / "bad", ORDINARY_UID)
        shown = (
            (good.folder, good.commit({"agent.nix": "{ }\n"})),
            (bad.folder, REFUSED["BI-134 symlink"][0](bad)),
            (bad.folder, "a" * 40),
        )
        words = [str(word) for pair in shown for word in pair]
        done = subprocess.run(
            [sys.executable, "-m", "tests.security.intake_memory", str(place / "applied"), str(ORDINARY_UID), *words],
            cwd=Path(__file__).parents[2], env={}, user=ORDINARY_UID, group=ORDINARY_UID, extra_groups=[],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert done.stderr == ""
    assert [json.loads(line)["detail"] for line in done.stdout.splitlines()] == [
        "",
        "prompt.md: symbolic links are not allowed",
        f"the commit: there is no commit {'a' * 40} in this repository",
    ]
