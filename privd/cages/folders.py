"""Folders that an agent owns, made and removed by root without ever following what the agent put there.

Only a folder's own entry is touched, through its parent, which is root's; nothing below it is opened, re-owned
or trusted. Removal stays on one file system and takes links, not their targets. It takes every folder away from its
owner before it looks inside: a daemon that still runs could otherwise change what was just looked at, and go on
filling it for ever.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from privd.cages.spec import Folder
from protocol.problem import Problem, Refused

PARENT_MODE: Final = 0o711
"""Of the folders above an agent's: others may pass through, never look around."""
_PLACE_ONLY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ROUNDS_MAX: Final = 1_000_000
"""How often what is deleted is looked at again: for deep folders once a level, and for whoever still writes there."""
_FOLDER_ONLY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(folder: Folder) -> None:
    """Make a folder, or set the owner and mode of one that has others. Refuses what is no real folder."""
    path = Path(folder.path)
    path.parent.mkdir(mode=PARENT_MODE, parents=True, exist_ok=True)
    parent = os.open(path.parent, _FOLDER_ONLY)
    try:
        with contextlib.suppress(FileExistsError):  # what it is, opening it decides
            os.mkdir(path.name, 0o700, dir_fd=parent)
        _own(path, parent, folder)
    finally:
        os.close(parent)


def _own(path: Path, parent: int, folder: Folder) -> None:
    try:
        opened = os.open(path.name, _FOLDER_ONLY, dir_fd=parent)
    except OSError as error:
        raise Refused(Problem.FAILED, f"{path} is not a real folder: {error.strerror}") from error
    try:
        found = os.fstat(opened)
        if (found.st_uid, found.st_gid) != (folder.uid, folder.gid):
            os.fchown(opened, folder.uid, folder.gid)
        if stat.S_IMODE(found.st_mode) != folder.mode:
            os.fchmod(opened, folder.mode)
    finally:
        os.close(opened)


def hold(above: Path, folder: Path) -> int:
    """A folder as an open place (O_PATH); no name below `above` is followed elsewhere. OSError says what is there."""
    held = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in folder.relative_to(above).parts:  # one by one: a hardened unit may not ask openat2
        try:
            below = os.open(name, _PLACE_ONLY, dir_fd=held)
        finally:
            os.close(held)
        held = below
    return held


def remove(path: Path) -> None:
    """Delete a folder and all below it, however deep. Refuses what is mounted inside, leaving that where it is."""
    try:
        parent = os.open(path.parent, _FOLDER_ONLY)
    except FileNotFoundError:
        return
    try:
        if _is_there(parent, path.name):
            _remove_entry(parent, path.name)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Refused(
                Problem.CONFLICT, f"something is mounted below {path}: unmount it, then try again"
            ) from error
        raise
    finally:
        os.close(parent)


def _remove_entry(parent: int, name: str) -> None:
    """Folders that lie deeper are first moved up, so that depth costs neither recursion nor open files."""
    if not _is_folder(parent, name):
        os.unlink(name, dir_fd=parent)
        return
    top = _open_below(parent, name)
    try:
        for _ in range(ROUNDS_MAX):
            if not _each(top, lambda below: _remove_raised(top, below)) and _is_emptied(parent, name):
                return
    finally:
        os.close(top)
    raise Refused(
        Problem.BUSY, f"something keeps writing into {name} while it is deleted: end it, then try again"
    )


def _remove_raised(top: int, name: str) -> None:
    if not _is_folder(top, name):
        os.unlink(name, dir_fd=top)
        return
    opened = _open_below(top, name)
    try:
        _each(opened, lambda below: _raise(top, opened, below))
    finally:
        os.close(opened)
    _is_emptied(top, name)


def _is_emptied(parent: int, name: str) -> bool:
    """Delete an empty folder. False when there is something in it again: an ordinary user's cages have its own uid."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _raise(top: int, opened: int, name: str) -> None:
    if _is_folder(opened, name):
        os.rename(name, secrets.token_hex(16), src_dir_fd=opened, dst_dir_fd=top)
    else:
        os.unlink(name, dir_fd=opened)


def _each(folder: int, act: Callable[[str], None]) -> bool:
    """Act on what is in a folder, read piece by piece: an agent may have put millions of names there.

    What is read while it changes may come out short; False says that nothing was left to act on.
    """
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            found = True
            with contextlib.suppress(FileNotFoundError):  # whoever still writes there took it away
                act(entry.name)
    return found


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _open_below(parent: int, name: str) -> int:
    """Open a folder of the same mount and make it ours; another mount answers EBUSY, as the kernel does to a move."""
    try:
        opened = os.open(name, _FOLDER_ONLY, dir_fd=parent)
    except PermissionError:  # an ordinary user's own folder that was closed to its owner
        os.chmod(name, 0o700, dir_fd=parent)
        opened = os.open(name, _FOLDER_ONLY, dir_fd=parent)
    try:
        if _mount_of(opened) != _mount_of(parent):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        os.fchown(opened, os.geteuid(), os.getegid())
        os.fchmod(opened, 0o700)
    except OSError:
        os.close(opened)
        raise
    return opened


def _mount_of(descriptor: int) -> str:
    """The mount a descriptor lies in: a bind mount of the same file system differs here, and in nothing else."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))
