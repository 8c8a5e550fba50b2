"""Git repositories that tests make: as git makes them, and as nobody but an attacker does.

Real git makes whatever git can make; objects, trees and packs that it would refuse are written here byte by byte.
"""

import hashlib
import os
import secrets
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from boxes.repository import Reading

WHO = {"NAME": "Test", "EMAIL": "test@example.org", "DATE": "1700000000 +0000"}
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in WHO.items()},
}
PERSON = f"{WHO['NAME']} <{WHO['EMAIL']}> {WHO['DATE']}"
FILE, PROGRAM, LINK, SUBMODULE, FOLDER = "100644", "100755", "120000", "160000", "40000"
PACKED = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}

Entry = tuple[str, str | bytes, str]
"""(mode, name, id)"""


def name_of(kind: str, content: bytes) -> str:
    """The id of an object."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def tree_of(entries: Iterable[Entry]) -> bytes:
    """A tree's bytes, in the order given."""
    return b"".join(
        mode.encode()
        + b" "
        + (name.encode() if isinstance(name, str) else name)
        + b"\0"
        + bytes.fromhex(found)
        for mode, name, found in entries
    )


def commit_of(tree: str, parents: Sequence[str] = (), message: str = "test\n") -> bytes:
    """A commit's bytes as git writes them."""
    lines = (
        f"tree {tree}",
        *(f"parent {parent}" for parent in parents),
        f"author {PERSON}",
        f"committer {PERSON}",
    )
    return "\n".join((*lines, "", message)).encode()


class Repository:
    """One repository. `uid` owns it and runs its git; None is whoever runs the test."""

    def __init__(self, folder: Path, uid: int | None = None, *, bare: bool = False) -> None:
        self.folder = folder
        self.uid = uid
        self.inner = folder if bare else folder / ".git"
        folder.mkdir(parents=True, exist_ok=True)
        if uid is not None:
            os.chown(folder, uid, uid)
        self.git("init", "-q", "-b", "main", *(["--bare"] if bare else []))

    def git(self, *words: str, check: bool = True) -> str:
        """What git says, run in the repository as its owner."""
        return self.git_bytes(*words, check=check).decode().strip()

    def git_bytes(self, *words: str, check: bool = True) -> bytes:
        """The same, byte by byte."""
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=ENVIRONMENT, capture_output=True, timeout=120, check=False,
            user=self.uid, group=self.uid, extra_groups=None if self.uid is None else [],
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"git {words}: {done.stderr.decode()}")
        return done.stdout

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        """A file anywhere below the folder, its owner's."""
        file = self.folder / path
        for parent in reversed(file.relative_to(self.folder).parents):
            if not (self.folder / parent).is_dir():
                (self.folder / parent).mkdir()
                self.own(self.folder / parent)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)
        self.own(file)
        return file

    def own(self, path: Path) -> None:
        if self.uid is not None:
            os.lchown(path, self.uid, self.uid)

    def commit(self, files: dict[str, str | bytes], message: str = "test") -> str:
        """Commit files with git; the commit's id."""
        for path, content in files.items():
            self.write(path, content, 0o755 if path.startswith("bin/") else 0o644)
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def put(self, kind: str, content: bytes) -> str:
        """A loose object, whatever git thinks of it; its id."""
        found = name_of(kind, content)
        self.put_loose(found, zlib.compress(f"{kind} {len(content)}\0".encode() + content))
        return found

    def put_loose(self, found: str, compressed: bytes) -> None:
        """The file of a loose object, whatever is in it."""
        place = self.inner / "objects" / found[:2] / found[2:]
        place.unlink(missing_ok=True)
        self.write(str(place.relative_to(self.folder)), compressed)

    def blob(self, content: bytes = b"x\n") -> str:
        return self.put("blob", content)

    def tree(self, *entries: Entry) -> str:
        return self.put("tree", tree_of(entries))

    def commit_tree(self, *entries: Entry) -> str:
        """A commit of one folder, as given; its id."""
        return self.put("commit", commit_of(self.tree(*entries)))

    def put_pack(self, entries: Sequence[tuple[str, bytes]], *, count: int | None = None) -> None:
        """A pack of (id, bytes of its entry), and an index that says so."""
        name = f"pack-{secrets.token_hex(20)}"
        pack, offsets = bytearray(struct.pack(">4sII", b"PACK", 2, len(entries))), {}
        for found, content in entries:
            offsets[found] = len(pack)
            pack += content
        self.write(
            str((self.inner / f"objects/pack/{name}.pack").relative_to(self.folder)), bytes(pack) + bytes(20)
        )
        self.write(
            str((self.inner / f"objects/pack/{name}.idx").relative_to(self.folder)),
            index_of(offsets, count=count),
        )


def index_of(offsets: dict[str, int], *, count: int | None = None) -> bytes:
    """A pack's index (version 2); *count* is what it says of its length."""
    names = sorted(bytes.fromhex(found) for found in offsets)
    fanout = [sum(found[0] <= first for found in names) for first in range(256)]
    if count is not None:
        fanout[-1] = count
    return b"".join(
        (
            b"\xfftOc\0\0\0\2",
            struct.pack(">256I", *fanout),
            *names,
            bytes(4 * len(names)),
            *(struct.pack(">I", offsets[found.hex()]) for found in names),
            bytes(40),
        )
    )


def packed(kind: str, content: bytes, *, size: int | None = None) -> bytes:
    """An entry of a pack: a whole object. *size* is what it says of its length."""
    return _entry(PACKED[kind], len(content) if size is None else size) + zlib.compress(content)


def delta_upon(base: str, delta: bytes) -> bytes:
    """An entry of a pack: a delta upon the object of that id."""
    return _entry(7, len(delta)) + bytes.fromhex(base) + zlib.compress(delta)


def delta_back(distance: int, delta: bytes) -> bytes:
    """An entry of a pack: a delta upon the object that begins so many bytes before."""
    digits = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        digits.append(0x80 | distance & 0x7F)
    return _entry(6, len(delta)) + bytes(reversed(digits)) + zlib.compress(delta)


def delta_of(base_bytes: int, size: int, steps: bytes) -> bytes:
    """A delta's bytes."""
    return _number(base_bytes) + _number(size) + steps


def copy_step(offset: int, size: int) -> bytes:
    """A step of a delta: a piece of the base."""
    return b"\xff" + offset.to_bytes(4, "little") + size.to_bytes(3, "little")


def _entry(number: int, size: int) -> bytes:
    head, size = [number << 4 | size & 0xF], size >> 4
    while size:
        head[-1] |= 0x80
        head.append(size & 0x7F)
        size >>= 7
    return bytes(head)


def _number(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits[-1] |= 0x80
        digits.append(value & 0x7F)
    return bytes(digits)


def read_alone(folder: Path, commit: str) -> list[bytes]:
    """What the reader says of a commit, here and now, without a box. It leaves its files open, as it ends in a box."""
    before = set(os.listdir("/proc/self/fd"))
    try:
        return list(Reading(os.open(folder, os.O_RDONLY)).commit(commit))
    finally:
        for left in set(os.listdir("/proc/self/fd")) - before:
            with suppress(OSError):  # of the listing itself
                os.close(int(left))


@contextmanager
def ground() -> Iterator[Path]:
    """A folder that every user of the machine may pass through; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hive-repositories-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
