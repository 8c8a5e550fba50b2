"""One commit of one repository, object by object: the commit, its tree, and every entry in git's order, each once.

    request     the commit's id, 40 hex digits
    reply       one part for each object: its kind (`c`, `t` or `b`), then its bytes as git would hash them

Root walks the same way over the trees that it gets, and so knows what must come next (`privd/policy/admission.py`). It
also judges them: what has a mode that no configuration may have is left out here, because root refuses it without
looking. The bounds here only keep a reading short; they lie above the ones that root says no with.
"""

import os
import re
from collections.abc import Iterator
from typing import Final

from boxes.reply import Refused
from boxes.repository_objects import Budget, loose, objects_folder
from boxes.repository_packs import Pack, packs

COMMIT, TREE, BLOB = b"c", b"t", b"b"
COMMIT_BYTES_MAX: Final = 64 * 1024
TREE_BYTES_MAX: Final = 64 * 1024
BLOB_BYTES_MAX: Final = 512 * 1024
BYTES_MAX: Final = 2 * 1024 * 1024
"""Of all objects together."""
ENTRIES_MAX: Final = 1_000
DEPTH_MAX: Final = 8
REQUEST_RULE: Final = re.compile(rb"[0-9a-f]{40}")
COMMIT_RULE: Final = re.compile(rb"tree ([0-9a-f]{40})\n")
ENTRY_RULE: Final = re.compile(rb"([0-7]{1,6}) [^\0]*\0(.{20})", re.DOTALL)
FOLDER_MODE: Final = b"40000"
FILE_MODES: Final = (b"100644", b"100755")
INPUT: Final = b"/in"


def answer(request: bytes) -> Iterator[bytes]:
    """Read one commit of the repository that the box shows. Refusals: `not_found`, `malformed`, `limit`, `failed`."""
    if not REQUEST_RULE.fullmatch(request):
        raise Refused("malformed", "a commit is named by 40 hex digits in lower case")
    top = os.open(INPUT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield from Reading(top).commit(request.decode())


class Reading:
    """One walk over one commit, and what it has given so far."""

    def __init__(self, top: int) -> None:
        self._budget = Budget()
        self._objects = objects_folder(top)
        self._packs: list[Pack] | None = None
        self._trees: dict[str, bytes] = {}
        self._given: set[str] = set()
        self._entries = 0
        self._bytes = 0

    def commit(self, name: str) -> Iterator[bytes]:
        """The commit, then its tree."""
        content = self._object(name, "commit", COMMIT_BYTES_MAX)
        yield COMMIT + content
        found = COMMIT_RULE.match(content)
        if found is None:
            raise Refused("malformed", f"the commit {name} names no tree")
        yield from self._folder(found[1].decode(), 0)

    def _folder(self, name: str, depth: int) -> Iterator[bytes]:
        """One tree and all below it. One that was given already is walked again, as root does, and given once."""
        if depth > DEPTH_MAX:
            raise Refused("limit", f"folders are nested deeper than {DEPTH_MAX}")
        content = self._trees.get(name)
        if content is None:
            content = self._trees[name] = self._object(name, "tree", TREE_BYTES_MAX)
            yield TREE + content
        for mode, entry in _entries(content):
            self._entries += 1
            if self._entries > ENTRIES_MAX:
                raise Refused("limit", f"there are more than {ENTRIES_MAX} files and folders")
            if mode == FOLDER_MODE:
                yield from self._folder(entry, depth + 1)
            elif mode in FILE_MODES and entry not in self._given:
                self._given.add(entry)
                yield BLOB + self._object(entry, "blob", BLOB_BYTES_MAX)

    def _object(self, name: str, kind: str, bytes_max: int) -> bytes:
        """One object, by its own file or out of a pack. That its bytes have this id is for root to see."""
        content = loose(self._objects, name, kind, bytes_max, self._budget)
        if content is None:
            content = self._packed(name, kind, bytes_max)
        self._bytes += len(content)
        if self._bytes > BYTES_MAX:
            raise Refused("limit", f"the commit has more than {BYTES_MAX} bytes")
        return content

    def _packed(self, name: str, kind: str, bytes_max: int) -> bytes:
        if self._packs is None:
            self._packs = list(packs(self._objects, self._budget))
        for pack in self._packs:
            offset = pack.find(bytes.fromhex(name))
            if offset is not None:
                return pack.read(offset, name, kind, bytes_max)
        raise Refused("not_found", f"there is no {kind} {name} in this repository")


def _entries(content: bytes) -> Iterator[tuple[bytes, str]]:
    """Mode and id of every entry; what is garbled ends it, and root says so."""
    at = 0
    while found := ENTRY_RULE.match(content, at):
        yield found[1], found[2].hex()
        at = found.end()
