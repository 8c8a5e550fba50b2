"""The applied repository of one agent: bare, root's, written by privd alone. Plain files that any git understands.

    objects/        one file each, never packed here
    refs/heads/     main, what is live: one commit for each generation
    refs/tags/      the record: annotated tags, each made once and never moved
    shallow         commits whose parents were never taken in, so that git does not look for them
    incoming-*/     the quarantine of objects that are being taken in; swept when privd starts

No object is ever changed once it is there: two objects of one id stay the first of them. What is read here, privd
wrote: it was admitted, or is privd's own.
"""

import contextlib
import errno
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from privd.durable import sync, write
from privd.policy.objects import Kind, object_id
from privd.policy.objects_made import AUTHOR, Made
from privd.policy.record import TAG_RULE
from protocol.problem import Problem, Refused

HEAD: Final = b"ref: refs/heads/main\n"
CONFIG: Final = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
FOLDERS: Final = ("objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags")
FOLDER_MODE: Final = 0o700
OBJECT_MODE: Final = 0o400
INCOMING: Final = "incoming-"
MAIN: Final = "refs/heads/main"
OBJECT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one object that is read again; what was taken in is smaller."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Tag(Struct, frozen=True):
    """One annotated tag: the commit, and the document that is its message."""

    commit: str
    document: bytes


class Applied:
    """One applied repository. Cheap to make; keeps nothing open. One writer at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> None:
        """Make the repository where there is none."""
        if (self._folder / "HEAD").exists():
            return
        with full_disk_refused():
            for folder in (self._folder.parent, self._folder, *(self._folder / name for name in FOLDERS)):
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            write(self._folder / "config", CONFIG)
            write(self._folder / "HEAD", HEAD)  # it is no repository before
            sync(self._folder.parent)

    def has(self, name: str) -> bool:
        """Whether an object is there, in whole."""
        return self._object(name).exists()

    @contextmanager
    def incoming(self) -> Iterator["Incoming"]:
        """A quarantine; whatever was not released when it is left is gone. Refused(storage_full) by a full disk."""
        with full_disk_refused():
            folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=self._folder))
            try:
                yield Incoming(folder)
            finally:
                remove(folder)

    def release(self, incoming: "Incoming") -> None:
        """Put what was taken in among the objects, durably. One that is there already stays as it is."""
        folders = {self._folder / "objects"}
        for name, file in incoming.files.items():
            sync(file)
            place = self._object(name)
            place.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.link(file, place)
            folders.add(place.parent)
        for folder in folders:
            sync(folder)

    def cut_history(self, commit: str, parents: Iterable[str]) -> None:
        """Let git end at a commit whose parents are not all here."""
        shallow = self._folder / "shallow"
        known = set(shallow.read_text().split()) if shallow.exists() else set()
        if commit not in known and not all(self.has(parent) for parent in parents):
            with full_disk_refused():
                write(shallow, "".join(f"{name}\n" for name in sorted({*known, commit})).encode())

    def put(self, objects: Iterable[Made]) -> None:
        """Put objects of privd's own among the others, durably."""
        with self.incoming() as incoming:
            for each in objects:
                if not self.has(each.id):
                    incoming.put(each.kind, each.id, each.content)
            self.release(incoming)

    def read(self, kind: Kind, name: str) -> bytes:
        """The content of an object that is there. Refused(not_found); Refused(failed) when it is damaged."""
        try:
            packed = self._object(name).read_bytes()
        except FileNotFoundError as error:
            raise Refused(
                Problem.NOT_FOUND, f"there is no {kind} {name} in the applied repository"
            ) from error
        reader = zlib.decompressobj()
        try:
            whole = reader.decompress(packed, OBJECT_BYTES_MAX)
        except zlib.error as error:
            raise _damaged(self._folder, name) from error
        head, _, content = whole.partition(b"\0")
        if object_id(kind, content) != name:
            if not head.startswith(f"{kind} ".encode()):
                raise Refused(Problem.NOT_FOUND, f"{name} is no {kind} in the applied repository")
            raise _damaged(self._folder, name)
        return content

    def main(self) -> str | None:
        """The commit that is live; None where nothing ever was."""
        try:
            return (self._folder / MAIN).read_text().strip()
        except FileNotFoundError:
            return None

    def move_main(self, commit: str) -> None:
        with full_disk_refused():
            write(self._folder / MAIN, f"{commit}\n".encode())

    def tags(self) -> dict[str, Tag]:
        """Every tag by name; one that is dropped meanwhile, or not."""
        found = {}
        for file in sorted((self._folder / "refs" / "tags").glob("*/*")):
            try:
                identity = file.read_text().strip()
            except FileNotFoundError:
                continue
            content = self.read(Kind.TAG, identity).decode()
            head, _, document = content.partition("\n\n")
            name = f"{file.parent.name}/{file.name}"
            lines = dict(line.partition(" ")[::2] for line in head.splitlines())
            found[name] = Tag(lines["object"], document.encode())
        return found

    def drop_tag(self, name: str) -> None:
        """Take a tag's name away; its object stays."""
        file = self._folder / "refs" / "tags" / name
        file.unlink(missing_ok=True)
        sync(file.parent)

    def tag(self, name: str, commit: str, document: bytes, at_s: int) -> str:
        """Make an annotated tag whose message is *document*; its id. `conflict` when there is one of that name."""
        if not TAG_RULE.fullmatch(name):
            raise ValueError(f"{name!a} is no tag of ours")
        head = f"object {commit}\ntype commit\ntag {name}\ntagger {AUTHOR} {at_s} +0000\n\n"
        content = head.encode() + document
        found = object_id(Kind.TAG, content)
        with self.incoming() as incoming:
            incoming.put(Kind.TAG, found, content)
            self.release(incoming)
        self._point(self._folder / "refs" / "tags" / name, found)
        return found

    def _point(self, ref: Path, name: str) -> None:
        """A reference that was not there before, whole or not at all."""
        with full_disk_refused():
            ref.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            fresh = self._folder / "reference"
            write(fresh, f"{name}\n".encode())
            try:
                os.link(fresh, ref)
            except FileExistsError as error:
                raise Refused(Problem.CONFLICT, f"{ref.parent.name}/{ref.name} was made before") from error
            finally:
                fresh.unlink()
            sync(ref.parent)
            sync(ref.parent.parent)

    def _object(self, name: str) -> Path:
        return self._folder / "objects" / name[:2] / name[2:]


class Incoming:
    """A quarantine: objects that git does not see."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, Path] = {}

    def put(self, kind: Kind, name: str, content: bytes) -> None:
        """Take an object in. That *content* has this id was found out before."""
        file = self._folder / name
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OBJECT_MODE)
        with open(descriptor, "wb") as opened:  # noqa: PTH123 - pathlib cannot set a mode
            opened.write(zlib.compress(b"%s %d\0" % (kind.encode(), len(content)) + content))
        self.files[name] = file


def _damaged(folder: Path, name: str) -> Refused:
    return Refused(Problem.FAILED, f"{folder}: the object {name} is damaged; restore the repository")


def remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Say `storage_full` where the system says that nothing more fits."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Refused(Problem.STORAGE_FULL, "the disk is full: nothing was taken in") from error
        raise
