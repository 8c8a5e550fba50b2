"""The program that looks at an agent's files, called in place; `tests/privd/test_boxes.py` has the box around it."""

import itertools
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxes import state
from boxes.beneath import open_beneath
from boxes.reply import Refused
from boxes.state import listing, measure, name_of, part, path_of, shown
from protocol import limits


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path, os.O_PATH)
    yield opened
    os.close(opened)


def refused(root: int, path: str) -> str:
    with pytest.raises(Refused) as caught:
        part(root, path_of(path), 0)
    return str(caught.value)


def names(page: dict[str, Any]) -> list[str]:
    return [entry[0] for entry in page["entries"]]


def test_a_folder_is_listed_by_name(root: int, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "b.md").write_text("12345")
    os.utime(tmp_path / "notes" / "b.md", ns=(0, 1_234_567_890))
    (tmp_path / "notes" / "a").mkdir()
    (tmp_path / "notes" / "c").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "notes" / "d")
    page: dict[str, Any] = listing(root, b"notes", b"")
    assert [entry[:2] for entry in page["entries"]] == [
        ("a", "folder"),
        ("b.md", "file"),
        ("c", "link"),
        ("d", "other"),
    ]
    assert page["entries"][1] == ("b.md", "file", 5, 1_234)
    assert page["after"] is None


def test_pages_follow_each_other_and_miss_nothing(root: int, tmp_path: Path) -> None:
    expected = sorted(f"{number:05d}" for number in range(1_203))
    for name in expected:
        (tmp_path / name).touch()
    found: list[str] = []
    after: Any = ""
    pages = 0
    while after is not None:
        page: dict[str, Any] = listing(root, b"", name_of(after))
        found += names(page)
        after = page["after"]
        pages += 1
    assert (found, pages) == (expected, 3)


ODD = [
    b"\xff\xfe",
    b"a\nb",
    b"-rf",
    b"x" * 255,
    "\u202etxt".encode(),
    b"back\\slash",
    b"\\xff",
    b"tab\t",
    b"\x1b[2J",
    "ä\u2028".encode(),
]


def test_names_of_every_kind_are_shown_and_can_be_reached(root: int, tmp_path: Path) -> None:
    for number, name in enumerate(ODD):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(str(number))
    page = listing(root, b"", b"")
    assert len(names(page)) == len(ODD)
    assert all((name.isprintable() and name.isascii()) or "ä" in name for name in names(page))
    for number, name in enumerate(ODD):
        assert shown(name) in names(page)
        assert part(root, path_of(shown(name)), 0)[1] == str(number).encode()


@given(st.binary(min_size=1, max_size=40))
def test_a_shown_name_means_one_name(name: bytes) -> None:
    text = shown(name)
    assert text.isprintable()
    assert name_of(text) == name


@pytest.mark.parametrize("text", ["\\", "a\\b", "\\x", "\\xg0", "\\xFF", "x\\\\\\"])
def test_a_backslash_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="malformed"):
        path_of(text)


def test_nul_is_refused() -> None:
    with pytest.raises(Refused, match="NUL"):
        path_of("a\\x00b")


def test_a_file_is_read_in_parts(root: int, tmp_path: Path) -> None:
    content = os.urandom(state.CHUNK_BYTES_MAX * 2 + 17)
    (tmp_path / "big").write_bytes(content)
    read = b""
    while True:
        head, data = part(root, b"big", len(read))
        read += data
        if len(read) >= int(str(head["total_bytes"])):
            break
    assert read == content
    assert part(root, b"big", len(content))[1] == b""
    assert part(root, b"big", 2**53 - 1)[1] == b""


def test_sparse_and_huge_files_are_read(root: int, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    head, data = part(root, b"sparse", (1 << 40) - 3)
    assert (head["total_bytes"], data) == (1 << 40, b"\0\0\0")
    assert part(root, b"sparse", 1 << 39)[1] == bytes(state.CHUNK_BYTES_MAX)


def test_what_is_no_file_is_refused_in_words(root: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "way").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    assert refused(root, "missing") == "not_found: there is no missing"
    assert refused(root, "folder") == "conflict: folder is a folder: list it instead"
    assert refused(root, "") == "conflict: the state itself is a folder: list it instead"
    assert (
        refused(root, "link")
        == "conflict: link is a link, and links are not followed: only regular files are read"
    )
    assert refused(root, "way/x") == "conflict: way/x is or passes a link, and links are not followed"
    assert refused(root, "pipe") == "conflict: pipe is a pipe: only regular files are read"
    assert refused(root, "socket") == "conflict: socket is a socket: only regular files are read"
    assert refused(root, "file/x") == "conflict: file/x is no folder"
    assert refused(root, "../file") == "conflict: ../file leads out of the state folder"
    assert refused(root, "/etc/passwd") == "conflict: /etc/passwd leads out of the state folder"
    assert refused(root, "x" * 300).startswith("limit: xxx")
    with pytest.raises(Refused, match="file is no folder"):
        listing(root, b"file", b"")
    with pytest.raises(Refused, match=r"links are not followed|is no folder"):
        listing(root, b"way", b"")


@pytest.mark.root
def test_a_device_is_refused(root: int, tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    assert refused(root, "null") == "conflict: null is a device: only regular files are read"


def test_measuring_counts_what_the_disk_holds(root: int, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(10_000))
    (tmp_path / "a" / "twin").hardlink_to(tmp_path / "a" / "b" / "file")
    (tmp_path / "etc").symlink_to("/etc")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    found = measure(root, lambda: 0.0)
    assert (found["files"], found["complete"]) == (4, True)
    assert 10_000 <= int(str(found["bytes"])) < 200_000


def test_measuring_gives_up_in_time(root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(b"x")
    ticks = itertools.count()
    assert measure(root, lambda: float(next(ticks)))["complete"] is False
    monkeypatch.setattr(state, "PENDING_MAX", 5)
    assert measure(root, lambda: 0.0)["complete"] is False
    monkeypatch.undo()
    monkeypatch.setattr(state, "COUNT_MAX", 10)
    assert measure(root, lambda: 0.0)["complete"] is False


def test_what_cannot_be_counted_is_said(root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent may close a folder to itself, its names alone or its entries, and put folders where no path leads."""
    (tmp_path / "open").write_bytes(bytes(10_000))
    (tmp_path / "closed").mkdir()
    really = open_beneath

    def refuse(folder: int, path: bytes, flags: int = os.O_RDONLY) -> int:
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied")
        return really(folder, path, flags)

    monkeypatch.setattr(state, "open_beneath", refuse)
    found = measure(root, lambda: 0.0)
    assert found["complete"] is False
    assert int(str(found["bytes"])) >= 10_000, "the rest is counted"
    monkeypatch.undo()
    assert measure(root, lambda: 0.0)["complete"] is True

    def hide(name: bytes, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", hide)
        assert measure(root, lambda: 0.0)["complete"] is False
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(4096 // 250 + 1):
        os.mkdir("d" * 250, dir_fd=place)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    assert measure(root, lambda: 0.0)["complete"] is False


def test_measuring_a_deep_tree_holds_few_files_open(root: int, tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    before = len(os.listdir("/proc/self/fd"))
    assert measure(root, lambda: 0.0)["complete"] is True
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_answer_is_its_frames(root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"\x00\xff")
    monkeypatch.setattr(state, "INPUT", str(tmp_path))
    (listed,) = state.answer(b'{"op":"list","path":"","after":""}')
    assert json.loads(listed)["entries"][0][:3] == ["file", "file", 2]
    head, data = state.answer(b'{"op":"read","path":"file","offset":1}')
    assert (json.loads(head)["total_bytes"], data) == (2, b"\xff")
    (measured,) = state.answer(b'{"op":"measure"}')
    assert json.loads(measured)["files"] == 1
    with pytest.raises(ValueError, match="unknown op"):
        list(state.answer(b'{"op":"write"}'))


def test_bounds_are_those_of_the_wire() -> None:
    assert (state.ENTRIES_MAX, state.CHUNK_BYTES_MAX, state.COUNT_MAX, state.INTEGER_MAX) == (
        limits.STATE_ENTRIES_MAX,
        limits.STATE_CHUNK_BYTES_MAX,
        limits.STATE_COUNT_MAX,
        limits.INTEGER_MAX,
    )
