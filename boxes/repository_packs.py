"""Git's packs: finding an object by a pack's index, and making it out of its deltas, within bounds.

For packs as git writes them (index version 2). Nothing is mapped or read whole: an index of a million objects costs
twenty small reads for each object that is wanted.
"""

import os
import re
import struct
from collections.abc import Iterator
from typing import Final

from boxes.beneath import open_beneath
from boxes.reply import Refused
from boxes.repository_objects import Budget, Inflater, check, open_file

PACKS_MAX: Final = 64
PACK_BYTES_MAX: Final = 256 * 1024 * 1024
PACK_OBJECTS_MAX: Final = 1_000_000
CHAIN_MAX: Final = 64
"""Deltas upon deltas; git makes 50 at most."""
PART_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of what is only made to make an object: the base of a delta, and a delta."""
INDEX_NAME: Final = re.compile(r"pack-[0-9a-f]{40}\.idx", re.ASCII)
INDEX_HEAD: Final = b"\xfftOc\0\0\0\2"
FANOUT_AT: Final = 8
NAMES_AT: Final = FANOUT_AT + 1024
ID_BYTES: Final = 20
PACK_HEAD_BYTES: Final = 12
KINDS: Final = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
BASE_BY_OFFSET: Final = 6
BASE_BY_ID: Final = 7
ENTRY_HEAD_BYTES_MAX: Final = 48
LARGE: Final = 1 << 31
"""Set in an offset that stands in the table of long ones."""
DIGITS_MAX: Final = 9
"""Seven bits each: more than any size that is allowed."""


def packs(objects: int, budget: Budget) -> Iterator["Pack"]:
    """Every pack of the repository."""
    try:
        folder = open_beneath(objects, b"pack", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refused("failed", f"objects/pack cannot be opened: {error.strerror}") from error
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(each for each in entries if INDEX_NAME.fullmatch(each.name)):
                if count == PACKS_MAX:
                    raise Refused("limit", f"the repository has more than {PACKS_MAX} packs: run `git gc`")
                yield Pack(objects, entry.name.removesuffix(".idx"), budget)
    finally:
        os.close(folder)


class Pack:
    """One pack and its index."""

    def __init__(self, objects: int, name: str, budget: Budget) -> None:
        self._name = name
        self._budget = budget
        self._index = self._open(objects, "idx")
        self._pack = self._open(objects, "pack")
        self._size = os.fstat(self._pack).st_size
        head = os.pread(self._index, NAMES_AT, 0)
        if len(head) < NAMES_AT or not head.startswith(INDEX_HEAD):
            raise self._broken("its index is not of version 2")
        self._fanout = struct.unpack_from(">256I", head, FANOUT_AT)
        self._count = self._fanout[-1]
        if self._size > PACK_BYTES_MAX:
            raise Refused(
                "limit", f"{name} has {self._size} bytes, at most {PACK_BYTES_MAX} are read: repack it"
            )
        if self._count > PACK_OBJECTS_MAX:
            raise Refused("limit", f"{name} has {self._count} objects, at most {PACK_OBJECTS_MAX} are read")

    def find(self, wanted: bytes) -> int | None:
        """The offset of an object; None when it is not in this pack."""
        low = self._fanout[wanted[0] - 1] if wanted[0] else 0
        high = min(self._fanout[wanted[0]], self._count)
        while low < high:
            middle = (low + high) // 2
            found = self._at(NAMES_AT + middle * ID_BYTES, ID_BYTES)
            if found == wanted:
                return self._offset(middle)
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        return None

    def read(self, offset: int, name: str, kind: str, bytes_max: int) -> bytes:
        """The object at an offset: its base, then every delta upon it."""
        deltas: list[tuple[int, int]] = []
        number, size, at, base = self._head(offset)
        while number not in KINDS:
            if len(deltas) == CHAIN_MAX:
                raise Refused("limit", f"{name} is more than {CHAIN_MAX} deltas deep: repack with --depth=50")
            deltas.append((at, size))
            number, size, at, base = self._head(base)
        check(name, KINDS[number], size, kind, PART_BYTES_MAX if deltas else bytes_max)
        content = self._inflate(at, size)
        while deltas:
            at, size = deltas.pop()
            content = self._changed(content, self._inflate(at, size), PART_BYTES_MAX if deltas else bytes_max)
        return content

    def _head(self, offset: int) -> tuple[int, int, int, int]:
        """What stands at an offset: (kind's number, unpacked size, where its data begins, where its base stands)."""
        if not PACK_HEAD_BYTES <= offset < self._size:
            raise self._broken("an object lies outside of it")
        head = os.pread(self._pack, ENTRY_HEAD_BYTES_MAX, offset).ljust(ENTRY_HEAD_BYTES_MAX, b"\0")
        number = head[0] >> 4 & 7
        size, at = _size(head, 4)
        base = 0
        if number == BASE_BY_OFFSET:
            back, at = _distance(head, at)
            base = offset - back
        elif number == BASE_BY_ID:
            base = self.find(head[at : at + ID_BYTES]) or 0
            at += ID_BYTES
        elif number not in KINDS:
            raise self._broken("an object is of no known kind")
        return number, size, offset + at, base

    def _inflate(self, at: int, size: int) -> bytes:
        if size > PART_BYTES_MAX:
            raise Refused(
                "limit", f"{self._name} needs a part of {size} bytes, at most {PART_BYTES_MAX} are made"
            )
        self._budget.make(size)
        return Inflater(self._pack, at).exactly(size)

    def _changed(self, base: bytes, delta: bytes, bytes_max: int) -> bytes:
        """A base after one delta: pieces of the base, and bytes of the delta's own."""
        try:
            base_bytes, at = _size(delta, 7)
            size, at = _size(delta, 7, at)
            if base_bytes != len(base):
                raise self._broken("a delta is for another base")
            if size > bytes_max:
                raise Refused(
                    "limit", f"{self._name}: a delta makes {size} bytes, at most {bytes_max} are made"
                )
            self._budget.make(size)
            made = self._steps(base, delta, at, size)
        except IndexError as error:
            raise self._broken("a delta is cut off") from error
        if len(made) != size:
            raise self._broken("a delta makes another length than it says")
        return bytes(made)

    def _steps(self, base: bytes, delta: bytes, at: int, size: int) -> bytearray:
        made = bytearray()
        while at < len(delta) and len(made) <= size:
            self._budget.step()
            code = delta[at]
            at += 1
            if code & 0x80:
                first, at = _bytes(delta, at, code, 4)
                count, at = _bytes(delta, at, code >> 4, 3)
                part = base[first : first + (count or 0x10000)]
            elif code:
                part = delta[at : at + code]
                at += code
                if at > len(delta):
                    raise self._broken("a delta is cut off")
            else:
                raise self._broken("a delta has a step of no known kind")
            made += part
        return made

    def _offset(self, number: int) -> int:
        names_end = NAMES_AT + self._count * (ID_BYTES + 4)
        (offset,) = struct.unpack(">I", self._at(names_end + number * 4, 4))
        if offset < LARGE:
            return int(offset)
        (offset,) = struct.unpack(">Q", self._at(names_end + self._count * 4 + (offset - LARGE) * 8, 8))
        return int(offset)

    def _at(self, offset: int, size: int) -> bytes:
        found = os.pread(self._index, size, offset)
        if len(found) != size:
            raise self._broken("its index is cut off")
        return found

    def _open(self, objects: int, ending: str) -> int:
        opened = open_file(objects, f"pack/{self._name}.{ending}".encode())
        if opened is None:
            raise self._broken(f"its .{ending} is missing")
        return opened

    def _broken(self, what: str) -> Refused:
        return Refused("failed", f"{self._name} is broken: {what}")


def _size(content: bytes, bits: int, at: int = 0) -> tuple[int, int]:
    """A size, seven bits a byte and *bits* in the first, and where it ends."""
    value, shift = content[at] & (1 << bits) - 1, bits
    for _ in range(DIGITS_MAX):
        at += 1
        if not content[at - 1] & 0x80:
            return value, at
        value |= (content[at] & 0x7F) << shift
        shift += 7
    raise Refused("limit", "a packed object says a size that no object has")


def _distance(content: bytes, at: int) -> tuple[int, int]:
    """How far before an object its base stands, and where that number ends. At least 1: nobody is their own base."""
    value = content[at] & 0x7F
    for _ in range(DIGITS_MAX):
        at += 1
        if not content[at - 1] & 0x80:
            return max(value, 1), at
        value = (value + 1) << 7 | content[at] & 0x7F
    raise Refused("failed", "a packed object's base is out of reach")


def _bytes(content: bytes, at: int, present: int, count: int) -> tuple[int, int]:
    """A number of which only some bytes are there: those whose bit is set."""
    value = 0
    for position in range(count):
        if present >> position & 1:
            value |= content[at] << 8 * position
            at += 1
    return value, at
