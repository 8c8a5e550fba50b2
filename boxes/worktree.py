"""Makes an ordinary git work tree of a configuration in the empty folder that the box shows, as that folder's owner.

    request     one line of JSON, then the contents of all objects in their order:
                {"commit": id, "name": …, "email": …, "objects": [[kind, id, bytes] …], "files": [[path, mode, id] …]}
    reply       one part: `made`, or `there` where a repository was there before, which is left alone

Loose objects, an index, a branch and a configuration with an identity for whoever works here; no git is run. The
repository has its name last: what a crash left half-made is made again. Files that are there already stay.
"""

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

INPUT: Final = "/in"
HALF: Final = ".git.new"
WHOLE: Final = ".git"
FOLDERS: Final = ("objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags")
HEAD: Final = b"ref: refs/heads/main\n"
CONFIG: Final = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
[user]
\tname = {name}
\temail = {email}
"""
ENTRY: Final = struct.Struct(">10L20sH")


def answer(request: bytes) -> Iterator[bytes]:
    """Make the work tree."""
    head, _, contents = request.partition(b"\n")
    os.chdir(INPUT)
    yield make(json.loads(head), contents)


def make(asked: dict[str, Any], contents: bytes) -> bytes:
    """Make it in the current folder."""
    os.umask(0o022)
    if os.path.lexists(WHOLE):
        return b"there"
    for folder in ("", *FOLDERS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{HALF}/{folder}")  # noqa: PTH102 - pathlib is more than a box needs
    blobs, at = {}, 0
    for kind, name, size in asked["objects"]:
        content = contents[at : at + size]
        at += size
        blobs[name] = content
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{HALF}/objects/{name[:2]}")  # noqa: PTH102 - as above
        _write(
            f"{HALF}/objects/{name[:2]}/{name[2:]}",
            zlib.compress(f"{kind} {size}\0".encode() + content),
            0o444,
        )
    for path, mode, name in asked["files"]:
        _folders_above(path)
        with contextlib.suppress(FileExistsError):
            _write(path, blobs[name], 0o755 if mode == "100755" else 0o644, again=False)
    _write(f"{HALF}/index", index([(path, int(mode, 8), name) for path, mode, name in asked["files"]]))
    _write(f"{HALF}/config", CONFIG.format(name=asked["name"], email=asked["email"]).encode())
    _write(f"{HALF}/refs/heads/main", f"{asked['commit']}\n".encode())
    _write(f"{HALF}/HEAD", HEAD)
    os.rename(HALF, WHOLE)  # noqa: PTH104 - as above
    return b"made"


def index(files: list[tuple[str, int, str]]) -> bytes:
    """Git's index, version 2. Sizes and times are left at nothing, so that git looks at each file itself once."""
    entries = b""
    for path, mode, name in sorted(files, key=lambda file: file[0].encode()):
        raw = path.encode()
        entry = ENTRY.pack(0, 0, 0, 0, 0, 0, mode, 0, 0, 0, bytes.fromhex(name), len(raw)) + raw
        entries += entry + bytes(8 - len(entry) % 8)
    content = b"DIRC" + struct.pack(">LL", 2, len(files)) + entries
    return content + hashlib.sha1(content, usedforsecurity=False).digest()


def _folders_above(path: str) -> None:
    at = path.find("/")
    while at > 0:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path[:at])  # noqa: PTH102 - as above
        at = path.find("/", at + 1)


def _write(path: str, content: bytes, mode: int = 0o644, *, again: bool = True) -> None:
    """A file as a whole; one that a crash left is written again, and nothing is followed on the way."""
    if again:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - as above
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
