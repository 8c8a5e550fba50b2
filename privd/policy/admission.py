"""Which trees may become an agent's configuration. Pure: raw bytes in, files or a refusal out.

The walk is a generator: it says which object it wants (`Wanted`), is sent that object's bytes, and returns the files.
It wants the commit, its tree, then every entry in git's order, each object once. What it is sent must have the id that
the object before named, so whoever hands the bytes over need not be trusted. It counts while it goes and stops at the
first rule that is broken; a refusal says where, what and what is allowed (`malformed`, `limit` for a bound).
"""

import re
from collections.abc import Generator, Iterable
from typing import Final

from msgspec import Struct

from privd.policy.objects import HIDDEN, Entry, Kind, malformed, object_id, parse_commit, parse_tree, shown
from protocol.problem import Problem, Refused

ENTRIES_MAX: Final = 200
"""Files and folders, counted along every path: one tree that is used twice counts twice."""
DEPTH_MAX: Final = 4
"""Folders within folders."""
FILE_BYTES_MAX: Final = 256 * 1024
FILES_BYTES_MAX: Final = 1024 * 1024
PATH_BYTES_MAX: Final = 255
NAME_RULE: Final = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._-]*")
PROGRAM_MODE: Final = b"100755"
PROGRAMS: Final = "bin/"
"""The one folder whose files may be executable."""
TOP: Final = "the top folder"


class Wanted(Struct, frozen=True):
    """The object whose bytes must be sent next, and the place in the configuration that it is for."""

    kind: Kind
    id: str
    where: str


class File(Struct, frozen=True):
    """One file of a configuration."""

    path: str
    executable: bool
    id: str
    bytes: int


class Admitted(Struct, frozen=True):
    """A commit that may become a configuration. All that it needs was wanted once, and has been sent."""

    commit: str
    tree: str
    parents: tuple[str, ...]
    files: tuple[File, ...]
    bytes: int
    """Of all files, each counted wherever it stands."""


def admit(commit: str, required: Iterable[str] = ()) -> Generator[Wanted, bytes, Admitted]:
    """Walk one commit. *required* are paths of files without which it is no configuration."""
    walk = _Walk()
    top = parse_commit((yield from fetch(Kind.COMMIT, commit, "the commit")))
    yield from walk.folder(top.tree, "", 0)
    for path in required:
        if not any(file.path == path for file in walk.files):
            raise malformed(path, "the file is missing")
    return Admitted(commit, top.tree, top.parents, tuple(walk.files), walk.bytes)


def fetch(kind: Kind, name: str, where: str) -> Generator[Wanted, bytes, bytes]:
    """One object's bytes, hashed."""
    content = yield Wanted(kind, name, where)
    if object_id(kind, content) != name:
        raise Refused(
            Problem.FAILED, f"{where}: the repository gave other bytes for the {kind} {name}: it is damaged"
        )
    return content


class _Walk:
    """One walk: what was admitted so far, and how much of it."""

    def __init__(self) -> None:
        self._entries = 0
        self._trees: dict[str, tuple[Entry, ...]] = {}
        self._sizes: dict[str, int] = {}
        self.bytes = 0
        self.files: list[File] = []

    def folder(self, name: str, path: str, depth: int) -> Generator[Wanted, bytes, None]:
        """One folder and all below it. *path* is empty or ends in a slash."""
        where = path or TOP
        if depth > DEPTH_MAX:
            raise Refused(Problem.LIMIT, f"{where}: folders are nested deeper than {DEPTH_MAX}")
        if name not in self._trees:
            content = yield from fetch(Kind.TREE, name, where)
            self._trees[name] = parse_tree(content, where)
            _check_twins(self._trees[name], where)
        entries = self._trees[name]
        self._entries += len(entries)
        if self._entries > ENTRIES_MAX:
            raise Refused(
                Problem.LIMIT, f"{where}: more than {ENTRIES_MAX} files and folders up to this folder"
            )
        if not entries:
            raise malformed(where, "the folder is empty")
        for entry in entries:
            check_name(entry.name, path)
            here = path + entry.name.decode()
            check_mode(entry.mode, here)
            if entry.is_folder:
                yield from self.folder(entry.id, f"{here}/", depth + 1)
            else:
                yield from self._file(entry, here)

    def _file(self, entry: Entry, path: str) -> Generator[Wanted, bytes, None]:
        if entry.id not in self._sizes:
            content = yield from fetch(Kind.BLOB, entry.id, path)
            check_text(content, path)
            self._sizes[entry.id] = len(content)
        size = self._sizes[entry.id]
        self.bytes += size
        if self.bytes > FILES_BYTES_MAX:
            raise Refused(Problem.LIMIT, f"{path}: all files together have more than {FILES_BYTES_MAX} bytes")
        self.files.append(File(path, entry.mode == PROGRAM_MODE, entry.id, size))


def check_name(name: bytes, folder: str) -> None:
    """Refuse a name outside of one small alphabet.

    That alone rules out `..`, `.git` in every spelling, slashes, dashes in front and whatever a file system folds.
    """
    where = folder + shown(name)
    if len(folder) + len(name) > PATH_BYTES_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{where}: the path has {len(folder) + len(name)} bytes, at most {PATH_BYTES_MAX} are allowed",
        )
    if not NAME_RULE.fullmatch(name):
        raise malformed(
            where,
            "the name is not allowed: only ASCII letters, digits, `.`, `_` and `-`, no `.` or `-` in front",
        )


def check_mode(mode: bytes, path: str) -> None:
    """Refuse everything but plain files, folders, and programs where they belong."""
    match mode:
        case b"100644" | b"40000":
            return
        case b"100755" if path.startswith(PROGRAMS):
            return
        case b"100755":
            raise malformed(
                path, f"file mode 100755 is not allowed: only files under {PROGRAMS} may be executable"
            )
        case b"120000":
            raise malformed(path, "symbolic links are not allowed")
        case b"160000":
            raise malformed(path, "submodules are not allowed")
    raise malformed(path, f"file mode {mode.decode()} is not allowed")


def check_text(content: bytes, path: str) -> None:
    """Refuse a file that is too large, or that a reviewer would not see as it is."""
    if len(content) > FILE_BYTES_MAX:
        raise Refused(Problem.LIMIT, f"{path}: {len(content)} bytes, at most {FILE_BYTES_MAX} are allowed")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise malformed(path, f"byte {error.start} is not UTF-8 text") from error
    if found := HIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise malformed(
            path,
            f"line {line}: U+{ord(found[0]):04X} is a control or invisible character (possible hidden text)",
        )


def _check_twins(entries: tuple[Entry, ...], where: str) -> None:
    """Two names that differ in case alone: one file on some file systems, two on others."""
    folded: dict[bytes, bytes] = {}
    for entry in entries:
        twin = folded.setdefault(entry.name.lower(), entry.name)
        if twin != entry.name:
            raise malformed(where, f"{shown(twin)} and {shown(entry.name)} differ in case alone")
