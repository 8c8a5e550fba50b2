"""Git's objects out of one repository's own files, within bounds.

Only `objects/` is read, and every link on the way is refused. Configuration, hooks, attributes, references,
alternates, grafts, replacements, commit graphs and multi-pack indexes are never opened, so nothing that is written
there leads anywhere. What is read is still the work of whoever owns the repository: every size is compared with its
bound before anything of that size is made.
"""

import os
import re
import stat
import zlib
from typing import Final

from boxes.beneath import open_beneath
from boxes.reply import Refused

UNPACKED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of everything that one reading makes, bases of deltas included."""
STEPS_MAX: Final = 1_000_000
"""Of all deltas of one reading."""
BLOCK_BYTES: Final = 64 * 1024
PLACES: Final = (b".git/objects", b"objects")
"""Of a work tree, of a bare repository."""
HEADER: Final = re.compile(rb"(commit|tree|blob|tag) (0|[1-9][0-9]{0,18})\0")
HEADER_BYTES_MAX: Final = 32


class Budget:
    """What one reading may still do."""

    def __init__(self) -> None:
        self._bytes = UNPACKED_BYTES_MAX
        self._steps = STEPS_MAX

    def make(self, count: int) -> None:
        """Count bytes that are about to be made."""
        self._bytes -= count
        if self._bytes < 0:
            raise Refused(
                "limit", f"the repository unpacks to more than {UNPACKED_BYTES_MAX} bytes: repack it"
            )

    def step(self) -> None:
        """Count one step of a delta."""
        self._steps -= 1
        if self._steps < 0:
            raise Refused("limit", f"the repository's deltas take more than {STEPS_MAX} steps: repack it")


def objects_folder(top: int) -> int:
    """The folder of objects of the repository that *top* is, or that lies in it."""
    for place in PLACES:
        try:
            return open_beneath(top, place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Refused(
                "not_found",
                f"{place.decode()} cannot be opened ({error.strerror}): a repository must be whole in its own folder,"
                " without links and without files that point elsewhere",
            ) from error
    raise Refused("not_found", "there is no git repository: run `git init` and commit first")


def open_file(objects: int, path: bytes) -> int | None:
    """A regular file below the folder of objects; None when there is none of that name."""
    try:
        opened = open_beneath(objects, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused("failed", f"objects/{path.decode()} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        raise Refused("failed", f"objects/{path.decode()} is no regular file")
    return opened


def loose(objects: int, name: str, kind: str, bytes_max: int, budget: Budget) -> bytes | None:
    """An object that has a file of its own; None when it has none."""
    file = open_file(objects, f"{name[:2]}/{name[2:]}".encode())
    if file is None:
        return None
    try:
        source = Inflater(file, 0)
        head = HEADER.match(source.upto(HEADER_BYTES_MAX))
        if head is None:
            raise Refused("failed", f"the object {name} has a broken header")
        check(name, head[1].decode(), int(head[2]), kind, bytes_max)
        budget.make(int(head[2]))
        return source.exactly(head.end() + int(head[2]))[head.end() :]
    finally:
        os.close(file)


def check(name: str, found: str, size: int, kind: str, bytes_max: int) -> None:
    """Refuse an object that is another kind than wanted, or too large."""
    if found != kind:
        more = "; send the commit's own id" if found == "tag" else ""
        raise Refused("malformed", f"{name} is a {found}, not a {kind}{more}")
    if size > bytes_max:
        raise Refused("limit", f"the {kind} {name} has {size} bytes, at most {bytes_max} are read")


class Inflater:
    """Compressed bytes of a file from an offset on, unpacked no further than asked."""

    def __init__(self, file: int, offset: int) -> None:
        self._file = file
        self._offset = offset
        self._zlib = zlib.decompressobj()
        self._made = bytearray()
        self._taken = 0

    def upto(self, size: int) -> bytes:
        """The first *size* bytes, or all there are."""
        while len(self._made) < size and not self._zlib.eof:
            block = self._zlib.unconsumed_tail or self._block()
            try:
                part = self._zlib.decompress(block, size - len(self._made))
            except zlib.error as error:
                raise Refused("failed", "an object is compressed wrongly") from error
            if not block and not part and not self._zlib.eof:
                raise Refused("failed", "an object is cut off")
            self._made += part
        return bytes(self._made)

    def exactly(self, size: int) -> bytes:
        """All of it, which must be *size* bytes; the sum at its end is looked at by asking for one byte more."""
        if len(self.upto(size + 1)) != size:
            raise Refused("failed", "an object has another length than it says")
        return bytes(self._made)

    def _block(self) -> bytes:
        """The next compressed bytes. Empty blocks make nothing: who writes a gigabyte of them is stopped here."""
        block = os.pread(self._file, BLOCK_BYTES, self._offset)
        self._offset += len(block)
        self._taken += len(block)
        if self._taken > 2 * (len(self._made) + BLOCK_BYTES):
            raise Refused("failed", "an object takes more room compressed than unpacked")
        return block
