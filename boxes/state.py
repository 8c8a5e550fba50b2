r"""One agent's own files, for the operator to look at: list a folder, read a part of a file, count everything.

It runs as the agent's user and sees that agent's state folder as /in. A request is one JSON object, a reply one or two
frames:

    {"op": "list", "path": "notes", "after": ""}        {"entries": [[name, kind, bytes, modified_ms] …], "after": name}
    {"op": "read", "path": "notes/a.md", "offset": 0}   {"total_bytes": …, "modified_ms": …}, then the bytes themselves
    {"op": "measure"}                                   {"bytes": …, "files": …, "complete": true}

A name is shown as text that nothing obeys: what is not UTF-8 or not printable stands as ``\xNN``, a backslash as two.
A path is written the same way, so that every file can be reached.
"""

import errno
import heapq
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from boxes.beneath import open_beneath
from boxes.reply import Refused

INPUT: Final = "/in"
ENTRIES_MAX: Final = 500
CHUNK_BYTES_MAX: Final = 256 * 1024
COUNT_MAX: Final = 200_000
"""These three as in protocol/limits.py, which a box cannot see."""
PENDING_MAX: Final = 20_000
"""Folders that wait to be counted."""
COUNT_S_MAX: Final = 4.0
INTEGER_MAX: Final = 2**53 - 1
BLOCK_BYTES: Final = 512
"""Of st_blocks, whatever the file system."""
ESCAPED: Final = re.compile(rb"\\(?:\\|x[0-9a-f]{2})")
PIECES: Final = re.compile(rb"(?:[^\\]|\\\\|\\x[0-9a-f]{2})*")
OTHER_KINDS: Final = (
    (stat.S_ISLNK, "a link, and links are not followed"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def answer(request: bytes) -> Iterator[bytes]:
    """The frames of one reply."""
    asked = json.loads(request)
    root = os.open(INPUT, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    match asked["op"]:
        case "list":
            yield _as_json(listing(root, path_of(asked["path"]), name_of(asked["after"])))
        case "read":
            head, data = part(root, path_of(asked["path"]), int(asked["offset"]))
            yield _as_json(head)
            yield data
        case "measure":
            yield _as_json(measure(root, time.monotonic))
        case unknown:
            raise ValueError(f"unknown op {unknown!a}")


def listing(root: int, path: bytes, after: bytes) -> dict[str, object]:
    """Entries of one folder after a name, by name; whatever their number, memory holds one page of them."""
    folder = _open(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(folder) as found:
            later = (name for entry in found if (name := os.fsencode(entry.name)) > after)
            names = heapq.nsmallest(ENTRIES_MAX + 1, later)
        page = names[:ENTRIES_MAX]
        entries = [row for name in page if (row := _row(folder, name)) is not None]
    finally:
        os.close(folder)
    return {"entries": entries, "after": shown(page[-1]) if len(names) > ENTRIES_MAX else None}


def _row(folder: int, name: bytes) -> tuple[str, str, int, int] | None:
    """One entry as it is now; None when it has gone."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return (
        shown(name),
        _kind(found.st_mode),
        _bounded(found.st_size),
        _bounded(found.st_mtime_ns // 1_000_000),
    )


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def part(root: int, path: bytes, offset: int) -> tuple[dict[str, object], bytes]:
    """At most CHUNK_BYTES_MAX of a regular file from an offset on. Looked at first, so that opening wakes nobody."""
    looked = _open(root, path, os.O_PATH)
    try:
        _check_regular(looked, path)
    finally:
        os.close(looked)
    opened = _open(root, path, os.O_RDONLY)
    try:
        found = _check_regular(opened, path)
        data = bytearray()
        while len(data) < CHUNK_BYTES_MAX:
            more = os.pread(opened, CHUNK_BYTES_MAX - len(data), offset + len(data))
            if not more:
                break
            data += more
    except OSError as fault:
        _refuse(path, fault)
    finally:
        os.close(opened)
    head: dict[str, object] = {
        "total_bytes": _bounded(found.st_size),
        "modified_ms": _bounded(found.st_mtime_ns // 1_000_000),
    }
    return head, bytes(data)


def _check_regular(opened: int, path: bytes) -> os.stat_result:
    found = os.fstat(opened)
    if stat.S_ISREG(found.st_mode):
        return found
    if stat.S_ISDIR(found.st_mode):
        raise Refused("conflict", f"{shown(path) or 'the state itself'} is a folder: list it instead")
    what = next((words for test, words in OTHER_KINDS if test(found.st_mode)), "no regular file")
    raise Refused("conflict", f"{shown(path)} is {what}: only regular files are read")


def measure(root: int, clock: Callable[[], float]) -> dict[str, object]:
    """What everything below takes on the disk, and whether that is all of it.

    It gives up at COUNT_MAX entries or COUNT_S_MAX seconds, and passes over what its own agent may not look into.
    """
    until = clock() + COUNT_S_MAX
    pending, linked = [b"."], set()
    taken = files = seen = 0
    complete = True
    while pending:
        path = pending.pop()
        for name, found in _below(root, path):
            seen += 1
            if seen > COUNT_MAX or clock() > until:
                return {"bytes": taken, "files": files, "complete": False}
            if found is None:
                complete = False
                continue
            if stat.S_ISDIR(found.st_mode):
                pending.append(path + b"/" + name)
            else:
                files += 1
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) in linked:
                    continue
                linked.add((found.st_dev, found.st_ino))
            taken = _bounded(taken + found.st_blocks * BLOCK_BYTES)
        if len(pending) > PENDING_MAX:
            del pending[PENDING_MAX:]
            complete = False
    return {"bytes": taken, "files": files, "complete": complete}


def _below(root: int, path: bytes) -> Iterator[tuple[bytes, os.stat_result | None]]:
    """What is in one folder; None for what is there but cannot be looked at. Nothing where it has gone."""
    try:
        folder = open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError:
        yield path, None
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                try:
                    yield name, os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError:
                    yield name, None
    finally:
        os.close(folder)


def _open(root: int, path: bytes, flags: int) -> int:
    try:
        return open_beneath(root, path or b".", flags)
    except OSError as fault:
        _refuse(path, fault)


def _refuse(path: bytes, fault: OSError) -> NoReturn:
    """Say what the kernel said, in words; what it says of our own doing stays a defect."""
    place = shown(path) or "the state itself"
    match fault.errno:
        case errno.ENOENT:
            raise Refused("not_found", f"there is no {place}")
        case errno.ELOOP:
            raise Refused("conflict", f"{place} is or passes a link, and links are not followed")
        case errno.EXDEV:
            raise Refused("conflict", f"{place} leads out of the state folder")
        case errno.ENOTDIR:
            raise Refused("conflict", f"{place} is no folder")
        case errno.EACCES | errno.EPERM:
            raise Refused("conflict", f"{place} is closed to the agent itself")
        case errno.ENXIO | errno.ENODEV:
            raise Refused("conflict", f"{place} is a device or a socket: only regular files are read")
        case errno.EAGAIN | errno.ETXTBSY:
            raise Refused("busy", f"{place} is held by the agent or changes just now: try again")
        case errno.ENAMETOOLONG:
            raise Refused("limit", f"{place} is longer than the kernel takes a path")
        case errno.EIO:
            raise Refused("failed", f"{place} cannot be read from the disk")
        case _:
            raise fault


def shown(name: bytes) -> str:
    """A name as text that can be shown anywhere and sent back: printable characters, the rest as escaped bytes."""
    return "".join(
        character if character.isprintable() and character != "\\" else _escaped(character)
        for character in name.decode("utf-8", "surrogateescape")
    )


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def name_of(text: str) -> bytes:
    """The bytes that a shown name stands for."""
    written = text.encode()
    if not PIECES.fullmatch(written):
        raise Refused("malformed", r"a backslash in a path is written as two, a byte as \xNN")
    return ESCAPED.sub(
        lambda found: b"\\" if found[0] == rb"\\" else bytes.fromhex(found[0][2:].decode()), written
    )


def path_of(text: str) -> bytes:
    """The bytes of a path below the state folder. NUL would end it early; the rest is the kernel's to judge."""
    path = name_of(text)
    if b"\0" in path:
        raise Refused("malformed", "a path holds no NUL")
    return path.rstrip(b"/")


def _bounded(number: int) -> int:
    return max(-INTEGER_MAX, min(INTEGER_MAX, number))


def _as_json(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode()
