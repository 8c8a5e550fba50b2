"""Which trees may become a configuration: walks over objects that lie in a dict."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.admission import (
    DEPTH_MAX,
    ENTRIES_MAX,
    FILE_BYTES_MAX,
    FILES_BYTES_MAX,
    PATH_BYTES_MAX,
    Admitted,
    File,
    Wanted,
    admit,
)
from protocol.problem import Problem, Refused
from tests.support.repositories import (
    FILE,
    FOLDER,
    LINK,
    PROGRAM,
    SUBMODULE,
    Entry,
    commit_of,
    name_of,
    tree_of,
)


class Objects:
    """Objects by id, and a walk over them."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.wanted: list[Wanted] = []

    def put(self, kind: str, content: bytes) -> str:
        self.held[name_of(kind, content)] = content
        return name_of(kind, content)

    def blob(self, content: bytes = b"x\n") -> str:
        return self.put("blob", content)

    def tree(self, *entries: Entry) -> str:
        return self.put("tree", tree_of(entries))

    def commit(self, *entries: Entry) -> str:
        return self.put("commit", commit_of(self.tree(*entries), ("d" * 40,)))

    def walk(self, commit: str, required: Iterable[str] = ()) -> Admitted:
        step = admit(commit, required)
        state = next(step)
        while True:
            self.wanted.append(state)
            try:
                state = step.send(self.held[state.id])
            except StopIteration as end:
                found: Admitted = end.value
                return found

    def refusal(self, commit: str, required: Iterable[str] = ()) -> tuple[Problem, str]:
        with pytest.raises(Refused) as refused:
            self.walk(commit, required)
        assert refused.value.detail.isprintable()
        return refused.value.problem, refused.value.detail


@pytest.fixture
def objects() -> Objects:
    return Objects()


def test_a_configuration_is_admitted(objects: Objects) -> None:
    one, two = objects.blob(b"a = 1\n"), objects.blob(b"#!/bin/sh\n")
    programs = objects.tree((PROGRAM, "go", two), (FILE, "notes.md", one))
    commit = objects.commit((FILE, "agent.toml", one), (FOLDER, "bin", programs))
    tree = objects.tree((FILE, "agent.toml", one), (FOLDER, "bin", programs))
    assert objects.walk(commit, ("agent.toml",)) == Admitted(
        commit,
        tree,
        ("d" * 40,),
        (
            File("agent.toml", False, one, 6),
            File("bin/go", True, two, 10),
            File("bin/notes.md", False, one, 6),
        ),
        22,
    )
    assert [(each.kind, each.where) for each in objects.wanted] == [
        ("commit", "the commit"),
        ("tree", "the top folder"),
        ("blob", "agent.toml"),
        ("tree", "bin/"),
        ("blob", "bin/go"),
    ]


def test_other_bytes_than_were_named_are_refused(objects: Objects) -> None:
    blob = objects.blob()
    commit = objects.commit((FILE, "agent.toml", blob))
    for name in (commit, objects.tree((FILE, "agent.toml", blob)), blob):
        good, objects.held[name] = objects.held[name], b"something else\n"
        problem, detail = objects.refusal(commit)
        assert problem is Problem.FAILED
        assert (
            f"gave other bytes for the {next(kind for kind in ('commit', 'tree', 'blob') if kind in detail)}"
            in detail
        )
        objects.held[name] = good
    objects.walk(commit)


@pytest.mark.parametrize(
    "name",
    [
        "..", ".", "", ".git", ".GIT", ".Git", ".gitmodules", ".gitattributes", ".g\u200cit", "git~1", "GIT~1",
        ".git ", ".git.", ".git::$INDEX_ALLOCATION", "a/../../x", "/etc", "a\\b", "a\nb", "a\n", "-rf", "--help",
        ".hidden", "a b", "a\u202etxt", "ä", "a:b", "a*", "\x7f", b"\xff\xfe", b"\xc0\xae\xc0\xae", "~", "$HOME",
        "`id`", "con ", "\ufeffa",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", [FILE, FOLDER])
def test_names_outside_of_the_alphabet(objects: Objects, mode: str, name: str | bytes) -> None:
    """BI-137 to BI-149."""
    inner = objects.tree((FILE, "a", objects.blob())) if mode == FOLDER else objects.blob()
    problem, detail = objects.refusal(objects.commit((mode, name, inner)))
    assert problem is Problem.MALFORMED
    assert "the name is not allowed" in detail
    assert detail.isascii()


@pytest.mark.parametrize(
    "name", ["a", "A", "_", "0", "agent.toml", "a.b-c_d", "git", "x" * PATH_BYTES_MAX, "Makefile.", "con"]
)
def test_names_of_the_alphabet(objects: Objects, name: str) -> None:
    assert objects.walk(objects.commit((FILE, name, objects.blob()))).files[0].path == name


@pytest.mark.parametrize(
    ("mode", "path", "words"),
    [
        (LINK, "agent.nix", "agent.nix: symbolic links are not allowed"),
        (SUBMODULE, "sub", "sub: submodules are not allowed"),
        (PROGRAM, "agent.nix", "agent.nix: file mode 100755 is not allowed: only files under bin/"),
        (PROGRAM, "bin", "bin: file mode 100755"),
        ("100666", "agent.nix", "agent.nix: file mode 100666 is not allowed"),
        ("100664", "agent.nix", "agent.nix: file mode 100664 is not allowed"),
        ("104755", "agent.nix", "agent.nix: file mode 104755 is not allowed"),
        ("040000", "agent", "agent: file mode 040000 is not allowed"),
        ("0", "agent", "agent: file mode 0 is not allowed"),
        ("20666", "agent", "agent: file mode 20666 is not allowed"),
    ],
)
def test_modes(objects: Objects, mode: str, path: str, words: str) -> None:
    """BI-134, BI-136, BI-154, BI-155."""
    problem, detail = objects.refusal(objects.commit((mode, path, objects.blob())))
    assert problem is Problem.MALFORMED
    assert detail.startswith(words)


def test_one_folder_of_programs_in_two_places(objects: Objects) -> None:
    """The rule is about the path: the same tree is judged wherever it stands."""
    programs = objects.tree((PROGRAM, "go", objects.blob()))
    objects.walk(objects.commit((FOLDER, "bin", programs)))
    assert (
        "notes/go: file mode"
        in objects.refusal(objects.commit((FOLDER, "bin", programs), (FOLDER, "notes", programs)))[1]
    )


def test_names_that_differ_in_case_alone(objects: Objects) -> None:
    """BI-152."""
    one = objects.blob()
    problem, detail = objects.refusal(objects.commit((FILE, "Agent.nix", one), (FILE, "agent.nix", one)))
    assert (problem, detail) == (
        Problem.MALFORMED,
        "the top folder: 'Agent.nix' and 'agent.nix' differ in case alone",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a = 1\nb = \"\u202eevil\"\n".encode(), "line 2: U+202E"),
        (b"\x1b[2Ka = 1\n", "line 1: U+001B"),
        (b"a = 1\r\n", "line 1: U+000D"),
        (b"a\0b", "line 1: U+0000"),
        ("x\n\nzero\u200bwidth".encode(), "line 3: U+200B"),
        ("\ufeffa = 1\n".encode(), "line 1: U+FEFF"),
        ("tag \U000e0041".encode(), "line 1: U+E0041"),
        ("next line \x85".encode(), "line 1: U+0085"),
        (b"abc\xff", "byte 3 is not UTF-8"),
        (b"\xed\xa0\x80", "byte 0 is not UTF-8"),
        (b"\xc0\xae", "byte 0 is not UTF-8"),
    ],
)  # fmt: skip
def test_text_that_hides(objects: Objects, content: bytes, words: str) -> None:
    """BI-166, BI-167."""
    problem, detail = objects.refusal(objects.commit((FILE, "agent.nix", objects.blob(content))))
    assert problem is Problem.MALFORMED
    assert detail.startswith(f"agent.nix: {words}")


def test_text_of_the_world(objects: Objects) -> None:
    content = "Grüße, 漢字, 🐝️ and \ttabs\n".encode()
    assert objects.walk(objects.commit((FILE, "a", objects.blob(content)))).bytes == len(content)


class TestBounds:
    def test_a_file(self, objects: Objects) -> None:
        """BI-160."""
        most = objects.blob(b"x" * FILE_BYTES_MAX)
        objects.walk(objects.commit((FILE, "a", most)))
        over = objects.blob(b"x" * (FILE_BYTES_MAX + 1))
        assert objects.refusal(objects.commit((FILE, "big.nix", over))) == (
            Problem.LIMIT,
            "big.nix: 262145 bytes, at most 262144 are allowed",
        )

    def test_all_files(self, objects: Objects) -> None:
        """BI-161. One file in many places counts each time: that is what it takes when it is laid out."""
        part = objects.blob(b"x" * FILE_BYTES_MAX)
        most = FILES_BYTES_MAX // FILE_BYTES_MAX
        entries = [(FILE, f"f{number}", part) for number in range(most)]
        assert objects.walk(objects.commit(*entries)).bytes == FILES_BYTES_MAX
        problem, detail = objects.refusal(objects.commit(*entries, (FILE, "g", objects.blob())))
        assert problem is Problem.LIMIT
        assert "g: all files together" in detail

    def test_entries(self, objects: Objects) -> None:
        one = objects.blob()
        most = [(FILE, f"f{number:03}", one) for number in range(ENTRIES_MAX)]
        assert len(objects.walk(objects.commit(*most)).files) == ENTRIES_MAX
        problem, detail = objects.refusal(objects.commit(*most, (FILE, "g", one)))
        assert (problem, detail) == (
            Problem.LIMIT,
            f"the top folder: more than {ENTRIES_MAX} files and folders up to this folder",
        )

    def test_a_tree_bomb(self, objects: Objects) -> None:
        """BI-164: ten objects that make ten thousand million paths. Few are wanted before it is over."""
        inner = objects.tree(*((FILE, f"f{number}", objects.blob()) for number in range(10)))
        for _ in range(9):
            inner = objects.tree(*((FOLDER, f"d{number}", inner) for number in range(10)))
        problem, _ = objects.refusal(objects.put("commit", commit_of(inner)))
        assert problem is Problem.LIMIT
        assert len(objects.wanted) < 20

    def test_a_wide_tree_bomb(self, objects: Objects) -> None:
        """Two levels are no depth; what counts is every path."""
        inner = objects.tree(*((FILE, f"f{number}", objects.blob()) for number in range(100, 200)))
        problem, _ = objects.refusal(
            objects.commit(*((FOLDER, f"d{number}", inner) for number in range(100, 200)))
        )
        assert problem is Problem.LIMIT
        assert len(objects.wanted) == 4

    @pytest.mark.parametrize(("depth", "allowed"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False), (6, False)])
    def test_depth(self, objects: Objects, depth: int, allowed: bool) -> None:
        """BI-163."""
        inner = objects.tree((FILE, "f", objects.blob()))
        for _ in range(depth):
            inner = objects.tree((FOLDER, "d", inner))
        commit = objects.put("commit", commit_of(inner))
        if allowed:
            assert objects.walk(commit).files[0].path == "d/" * depth + "f"
        else:
            assert objects.refusal(commit) == (Problem.LIMIT, "d/d/d/d/d/: folders are nested deeper than 4")

    def test_a_path(self, objects: Objects) -> None:
        inner = objects.tree((FILE, "f" * 100, objects.blob()))
        for _ in range(2):
            inner = objects.tree((FOLDER, "d" * 90, inner))
        problem, detail = objects.refusal(objects.put("commit", commit_of(inner)))
        assert problem is Problem.LIMIT
        assert f"the path has 282 bytes, at most {PATH_BYTES_MAX}" in detail


@pytest.mark.parametrize("where", ["top", "below"])
def test_an_empty_folder(objects: Objects, where: str) -> None:
    empty = objects.tree()
    commit = (
        objects.put("commit", commit_of(empty)) if where == "top" else objects.commit((FOLDER, "d", empty))
    )
    assert (
        objects.refusal(commit)[1] == f"{'the top folder' if where == 'top' else 'd/'}: the folder is empty"
    )


@pytest.mark.parametrize("what", ["nothing", "a folder of that name", "one further down", "one in capitals"])
def test_a_file_that_is_needed(objects: Objects, what: str) -> None:
    """BI-157, BI-158."""
    one = objects.blob()
    inner = objects.tree((FILE, "agent.nix", one))
    entry: dict[str, Entry] = {
        "nothing": (FILE, "a", one),
        "a folder of that name": (FOLDER, "agent.nix", inner),
        "one further down": (FOLDER, "d", inner),
        "one in capitals": (FILE, "AGENT.nix", one),
    }
    commit = objects.commit(entry[what])
    objects.walk(commit)
    assert objects.refusal(commit, ("agent.nix",)) == (Problem.MALFORMED, "agent.nix: the file is missing")


PARTS = st.sampled_from([FILE, FOLDER, PROGRAM, LINK, SUBMODULE, "100666"])
NAMES = st.sampled_from([b"a", b"b", b"bin", b"B", b"a.b", b".git", b"..", b"\xff"]) | st.binary(max_size=5)


@given(st.data())
def test_any_tree_is_walked_or_refused(data: st.DataObject) -> None:
    """Whatever the trees say: what is admitted keeps every rule, and nothing else than a refusal comes of the rest."""
    objects = Objects()
    held = [objects.blob(), objects.blob(b"\x1b")]
    for _ in range(data.draw(st.integers(1, 6))):
        entries = data.draw(st.lists(st.tuples(PARTS, NAMES, st.sampled_from(held)), max_size=4))
        held.append(
            objects.tree(*sorted(entries, key=lambda each: bytes(each[1]) + b"/" * (each[0] == FOLDER)))
        )
    commit = objects.put("commit", commit_of(held[-1]))
    try:
        admitted = objects.walk(commit)
    except Refused:
        return
    paths = [file.path for file in admitted.files]
    assert len({path.lower() for path in paths}) == len(paths) <= ENTRIES_MAX
    assert all(path.isascii() and not path.startswith(("/", "-", ".")) and "/." not in path for path in paths)
    assert all(file.path.startswith("bin/") for file in admitted.files if file.executable)
