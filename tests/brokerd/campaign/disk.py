"""A disk that can lose its power: what sqlite does to its files is recorded, and any moment of it can be played back.

    with Disk.recorded(folder) as disk:        every database below the folder that this process opens from now on
        …                                      what is done, and `disk.mark(…)` where something was acknowledged
    disk.image(moment, chance, Loss.POWER)     the files as they are found after the power went at that moment

It stands in the very sqlite that Python uses, by a VFS of its own that hands everything on to the usual one; nothing
is compiled and no other sqlite is put in its place. What was written and not yet synced may be there or not after a
power cut, each sector of 512 bytes for itself, the write that was under way among them. After a kill everything is
there but the end of the write that was under way.

`disk.sync_fails` decides which syncs fail, as those of a dying disk do: what they were for may be lost for good, though
whoever reads it finds it in memory, and the next sync succeeds.
"""

import ctypes
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

SECTOR_BYTES = 512
OK, IOERR_FSYNC = 0, sqlite3.SQLITE_IOERR | 4 << 8
NAME = b"recorded"
UNRECORDED = ("-shm",)
"""Shared memory is made anew by whoever opens the database first."""

IO_METHODS = (
    "close",
    "read",
    "write",
    "truncate",
    "sync",
    "file_size",
    "lock",
    "unlock",
    "check_reserved_lock",
    "file_control",
    "sector_size",
    "device_characteristics",
    "shm_map",
    "shm_lock",
    "shm_barrier",
    "shm_unmap",
    "fetch",
    "unfetch",
)
VFS_METHODS = (
    "open",
    "delete",
    "access",
    "full_pathname",
    "dl_open",
    "dl_error",
    "dl_sym",
    "dl_close",
    "randomness",
    "sleep",
    "current_time",
    "get_last_error",
    "current_time_int64",
    "set_system_call",
    "get_system_call",
    "next_system_call",
)


class IoMethods(Structure):
    """sqlite3_io_methods, as far as version 3."""

    _fields_ = [
        ("version", c_int),
        *((name, c_void_p) for name in IO_METHODS),
    ]


class File(Structure):
    """sqlite3_file."""

    _fields_ = [("methods", POINTER(IoMethods))]


class Vfs(Structure):
    """sqlite3_vfs, as far as version 3."""

    _fields_ = [
        ("version", c_int),
        ("file_bytes", c_int),
        ("path_bytes_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        *((name, c_void_p) for name in VFS_METHODS),
    ]


FileP = POINTER(File)
# Names are handed on as they came: sqlite keeps the pointer, and looks for parameters behind the name.
OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, FileP, c_int, POINTER(c_int))
DELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
WRITE = ctypes.CFUNCTYPE(c_int, FileP, c_void_p, c_int, c_int64)
TRUNCATE = ctypes.CFUNCTYPE(c_int, FileP, c_int64)
SYNC = ctypes.CFUNCTYPE(c_int, FileP, c_int)


def library() -> ctypes.CDLL | None:
    """The sqlite that Python's own module uses; None where it is built into that module."""
    sqlite3.connect(":memory:").close()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libsqlite3" in line:
            return ctypes.CDLL(line.split()[-1])
    return None


class Loss(Enum):
    """How it ends."""

    POWER = "power"
    KILL = "kill"


@dataclass(frozen=True)
class Write:
    path: str
    offset: int
    content: bytes


@dataclass(frozen=True)
class Truncate:
    path: str
    size: int


@dataclass(frozen=True)
class Delete:
    path: str


@dataclass(frozen=True)
class Sync:
    path: str


@dataclass(frozen=True)
class FailedSync:
    """Some of what was written is on disk; the rest never will be, and no later sync says so."""

    path: str


@dataclass(frozen=True)
class SyncFolder:
    """Which files there are is on disk; what is in them need not be."""


@dataclass(frozen=True)
class Mark:
    """Something that happened between two operations."""

    what: Any


Operation = Write | Truncate | Delete | Sync | FailedSync | SyncFolder | Mark


@dataclass
class Recorded:
    """One file while it is played back: what is certainly on disk, and what may be."""

    synced: bytearray | None
    unsynced: list[Write | Truncate | Delete] = field(default_factory=list)

    def sync(self) -> None:
        for operation in self.unsynced:
            self.synced = applied(self.synced, operation)
        self.unsynced.clear()

    def fail_to_sync(self, chance: Random) -> None:
        for operation in self.unsynced:
            self.synced = _lost(self.synced, operation, chance, Loss.POWER, is_last=False)
        self.unsynced.clear()

    def sync_name(self) -> None:
        """A file that was removed is gone; one that was made since keeps what is certain of it."""
        for place in reversed(range(len(self.unsynced))):
            if isinstance(self.unsynced[place], Delete):
                self.synced = None
                del self.unsynced[: place + 1]
                return


def applied(content: bytearray | None, operation: Write | Truncate | Delete) -> bytearray | None:
    match operation:
        case Write(_, offset, written):
            kept = bytearray() if content is None else content
            kept.extend(bytes(max(0, offset - len(kept))))
            kept[offset : offset + len(written)] = written
            return kept
        case Truncate(_, size):
            kept = bytearray() if content is None else content
            del kept[size:]
            kept.extend(bytes(size - len(kept)))
            return kept
        case Delete():
            return None


def sectors(write: Write) -> Iterator[Write]:
    """The parts of a write that reach the disk each for itself."""
    start, end = write.offset, write.offset + len(write.content)
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Write(write.path, start, write.content[start - write.offset : stop - write.offset])
        start = stop


class Disk:
    """Everything that sqlite did to the files below a folder, in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start = {
            str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if self._is_ours(str(path))
        }
        self.operations: list[Operation] = []
        self.syncs = 0
        self.sync_fails: Callable[[int], bool] = lambda _number: False
        """Whether the sync of that number, counted from 1, is to fail."""
        self._paths: dict[int, str] = {}
        self._tables: dict[int, IoMethods] = {}
        self._kept: list[Any] = []
        """What sqlite holds pointers to."""

    def _is_ours(self, path: str) -> bool:
        return path.startswith(f"{self._folder}/") and not path.endswith(UNRECORDED) and Path(path).is_file()

    def mark(self, what: Any) -> None:
        """Note that something was acknowledged, seen or begun at this moment."""
        self.operations.append(Mark(what))

    def sync_folder(self) -> None:
        """Note that the folder was synced, which sqlite was not asked to do."""
        self.operations.append(SyncFolder())

    @classmethod
    @contextmanager
    def recorded(cls, folder: Path) -> Iterator["Disk"]:
        """Record what this process does to databases below *folder*, in whatever thread, until the end of the block."""
        sqlite = library()
        assert sqlite is not None, "this Python has an sqlite of its own"
        sqlite.sqlite3_vfs_find.restype = POINTER(Vfs)
        sqlite.sqlite3_vfs_find.argtypes = [c_char_p]
        sqlite.sqlite3_vfs_register.argtypes = [POINTER(Vfs), c_int]
        sqlite.sqlite3_vfs_unregister.argtypes = [POINTER(Vfs)]
        usual = sqlite.sqlite3_vfs_find(None)
        disk = cls(folder)
        vfs = disk._made_of(usual)
        assert sqlite.sqlite3_vfs_register(ctypes.byref(vfs), 1) == OK
        try:
            yield disk
        finally:
            sqlite.sqlite3_vfs_register(usual, 1)
            sqlite.sqlite3_vfs_unregister(ctypes.byref(vfs))

    def _made_of(self, usual: Any) -> Vfs:
        vfs = Vfs.from_buffer_copy(usual.contents)
        vfs.name, vfs.next = NAME, None
        usual_open, usual_delete = OPEN(usual.contents.open), DELETE(usual.contents.delete)
        place = ctypes.cast(usual, c_void_p)

        def opened(_vfs: int, name: int | None, file: Any, flags: int, flags_out: Any) -> int:
            result: int = usual_open(place, name, file, flags, flags_out)
            path = ctypes.string_at(name).decode() if name else ""
            if result == OK and path.startswith(f"{self._folder}/"):
                self._paths[ctypes.addressof(file.contents)] = path
                file.contents.methods = ctypes.pointer(self._methods_over(file.contents.methods))
            return result

        def deleted(_vfs: int, name: int, sync_folder: int) -> int:
            result: int = usual_delete(place, name, sync_folder)
            path = ctypes.string_at(name).decode()
            if result == OK and path.startswith(f"{self._folder}/"):
                self.operations.append(Delete(path))
                if sync_folder:
                    self.operations.append(Sync(path))
            return result

        callbacks = OPEN(opened), DELETE(deleted)
        self._kept += [usual_open, usual_delete, *callbacks, vfs]
        vfs.open, vfs.delete = (ctypes.cast(each, c_void_p).value for each in callbacks)
        return vfs

    def _methods_over(self, usual: Any) -> IoMethods:
        """The usual methods with ours before them; sqlite has a few tables of them."""
        place = ctypes.addressof(usual.contents)
        if place not in self._tables:
            self._tables[place] = self._recording(usual.contents)
        return self._tables[place]

    def _recording(self, usual: IoMethods) -> IoMethods:
        write, truncate, sync = WRITE(usual.write), TRUNCATE(usual.truncate), SYNC(usual.sync)

        def path_of(file: Any) -> str:
            return self._paths[ctypes.addressof(file.contents)]

        def written(file: Any, content: int, size: int, offset: int) -> int:
            result: int = write(file, content, size, offset)
            if result == OK:
                self.operations.append(Write(path_of(file), offset, ctypes.string_at(content, size)))
            return result

        def truncated(file: Any, size: int) -> int:
            result: int = truncate(file, size)
            if result == OK:
                self.operations.append(Truncate(path_of(file), size))
            return result

        def synced(file: Any, flags: int) -> int:
            self.syncs += 1
            if self.sync_fails(self.syncs):
                self.operations.append(FailedSync(path_of(file)))
                return IOERR_FSYNC
            result: int = sync(file, flags)
            if result == OK:
                self.operations.append(Sync(path_of(file)))
            return result

        callbacks = WRITE(written), TRUNCATE(truncated), SYNC(synced)
        made = IoMethods.from_buffer_copy(usual)
        made.write, made.truncate, made.sync = (ctypes.cast(each, c_void_p).value for each in callbacks)
        self._kept += [write, truncate, sync, *callbacks, made]
        return made

    # played back

    def image(self, moment: int, chance: Random, loss: Loss) -> dict[str, bytes]:
        """The files, by their path below the folder, when it ended within the operation of that number."""
        files = {path: Recorded(bytearray(content)) for path, content in self._start.items()}
        for operation in self.operations[: moment + 1]:
            _play(operation, files, chance, loss)
        last = self.operations[moment]
        found: dict[str, bytes] = {}
        for path, file in files.items():
            content = file.synced
            for operation in file.unsynced:
                content = _lost(content, operation, chance, loss, is_last=operation is last)
            if content is not None and not path.endswith(UNRECORDED):
                found[path.removeprefix(f"{self._folder}/")] = bytes(content)
        return found

    def marks(self, moment: int) -> list[Any]:
        """What was marked before the end."""
        return [each.what for each in self.operations[:moment] if isinstance(each, Mark)]


def _play(operation: Operation, files: dict[str, Recorded], chance: Random, loss: Loss) -> None:
    match operation:
        case Write(path) | Truncate(path) | Delete(path):
            files.setdefault(path, Recorded(None)).unsynced.append(operation)
        case Sync(path):
            files[path].sync()
        case FailedSync(path) if loss is Loss.POWER:
            files[path].fail_to_sync(chance)
        case SyncFolder():
            for file in files.values():
                file.sync_name()
        case FailedSync() | Mark():
            pass


def _lost(
    content: bytearray | None,
    operation: Write | Truncate | Delete,
    chance: Random,
    loss: Loss,
    *,
    is_last: bool,
) -> bytearray | None:
    """One unsynced operation, as far as it got."""
    if loss is Loss.KILL:
        if is_last and isinstance(operation, Write):
            operation = Write(
                operation.path,
                operation.offset,
                operation.content[: chance.randrange(len(operation.content) + 1)],
            )
        return applied(content, operation)
    for part in sectors(operation) if isinstance(operation, Write) else (operation,):
        if chance.random() < 0.5:
            content = applied(content, part)
    return content


def lay(image: dict[str, bytes], folder: Path) -> None:
    """Put an image into an empty folder."""
    for name, content in image.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
