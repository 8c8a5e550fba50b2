"""The ground that an embedded hive stands on, before any daemon starts: who may write there, owners and modes.

Everything in the hive's folder is believed: the settings decide what root does. So nobody but root and whoever runs
`up` may be able to change, or ever have been able to plant, anything on the way there.
"""

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from hivectl.places import Places
from hivectl.program import typed
from hivectl.up.configuration import Ids
from protocol.names import AGENT_NAME_CHARS_MAX
from runtime.settings import SettingsFault
from runtime.sockets import PATH_BYTES_MAX

BELIEVED: Final = ("etc", "log", "cages", "agents", "shared", "run", "egress")
"""Folders in the hive's own whose content is taken for ours, as if nobody else could have made it."""
STATE_BYTES_MAX: Final = PATH_BYTES_MAX - len("/run/agents//egress/egress.sock.new") - AGENT_NAME_CHARS_MAX
"""The kernel bounds the path of a socket; the longest ones lie this deep in the hive's folder."""
LINKS_MAX: Final = 40
OTHERS_MAY_WRITE: Final = stat.S_IWOTH
GROUP_MAY_WRITE: Final = stat.S_IWGRP


def check(places: Places) -> None:
    """SettingsFault unless the hive's folder can be one: ours or free to be, and out of everybody else's hands."""
    check_place(places)
    check_way(places.settings)
    for path in (places.state, *(places.state / name for name in BELIEVED)):
        if path.is_dir() and path.stat().st_uid != os.geteuid():
            raise SettingsFault(
                f"{path}: belongs to uid {path.stat().st_uid}, but uid {os.geteuid()} starts this hive; "
                "start it as that user, or choose another folder with --dir"
            )


def check_place(places: Places) -> None:
    """SettingsFault for a folder that is too deep, no folder, or full of somebody's other things."""
    size = len(os.fsencode(places.state))
    if size > STATE_BYTES_MAX:
        raise SettingsFault(
            f"{places.state}: the folder's path has {size} bytes, at most {STATE_BYTES_MAX} leave room for sockets; "
            "choose a shorter --dir"
        )
    if places.state.exists() and not places.state.is_dir():
        raise SettingsFault(f"{places.state}: is no folder; choose another with --dir")
    if places.state.is_dir() and not places.settings.exists() and any(places.state.iterdir()):
        raise SettingsFault(
            f"{places.state}: holds other things and no hive.toml; choose an empty or a new folder with --dir"
        )


def check_way(path: Path, links: int = LINKS_MAX) -> None:
    """SettingsFault when somebody else could put another thing in the place of *path* or of what leads to it."""
    if not links:
        raise SettingsFault(f"{path}: too many symbolic links lead there")
    place = Path("/")
    for name in path.parts[1:]:
        _check_folder(place, path)
        place = place / name
        try:
            found = place.lstat()
        except FileNotFoundError:
            return
        if found.st_uid not in (0, os.geteuid()):
            raise SettingsFault(
                f"{path}: {place} belongs to uid {found.st_uid}, who decides what is found there; "
                "choose another folder with --dir"
            )
        if stat.S_ISLNK(found.st_mode):
            check_way(Path(os.path.normpath(place.parent / place.readlink())), links - 1)
            place = place.resolve()
            check_way(place, links - 1)
    if place.is_file():
        _check_unwritten(place, place.stat(), path)


def _check_folder(folder: Path, path: Path) -> None:
    found = folder.stat()
    if not found.st_mode & stat.S_ISVTX:
        _check_unwritten(folder, found, path)


def _check_unwritten(place: Path, found: os.stat_result, path: Path) -> None:
    """A group may write where it is root's own, or where an ordinary user shares with their own group."""
    forbidden = OTHERS_MAY_WRITE | (GROUP_MAY_WRITE if os.geteuid() == 0 and found.st_gid != 0 else 0)
    if found.st_mode & forbidden:
        raise SettingsFault(
            f"{path}: others may write to {place} ({stat.S_IMODE(found.st_mode):04o}) and so change this hive; "
            f"chmod go-w {place}, or choose another folder with --dir"
        )


def lay(places: Places, who: Ids) -> None:
    """Make the hive's folders. SettingsFault when the daemons' uids could not reach them."""
    _folder(places.state, 0o711)
    _folder(places.rendered, 0o755)
    _folder(places.logs, 0o700)
    _folder(places.state / "broker", 0o700, who.broker if who.separate else None)
    _folder(places.state / "web", 0o700, who.web if who.separate else None)
    _folder(places.run, 0o711)
    _folder(places.run / "privd", 0o711)
    _folder(places.run / "brokerd", 0o711, who.broker if who.separate else None)
    _folder(places.run / "webd", 0o711, who.web if who.separate else None)
    _folder(places.run / "egressd", 0o711, who.egress if who.separate else None)
    _folder(places.run / "agents", 0o711)
    if who.separate:
        _check_reachable(places.state)


def take_lock(places: Places) -> int:
    """Hold the hive for this process; SettingsFault names the one that holds it already."""
    path = places.state / "up.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise SettingsFault(
            f"{places.state}: this hive is up already (process {holder or 'unknown'}); "
            f"look at it: {typed('status', places)}; or start another with --dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _folder(path: Path, mode: int, owner: int | None = None) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsFault(
            f"{path}: cannot be made: {error.strerror}; choose another folder with --dir"
        ) from None
    if path.is_symlink():
        raise SettingsFault(f"{path}: is a symbolic link; a hive's folders are real ones")
    if path.stat().st_uid not in (os.geteuid(), owner):
        raise SettingsFault(
            f"{path}: belongs to uid {path.stat().st_uid}; was this hive's folder moved, or made by somebody else?"
        )
    if owner is not None:
        os.chown(path, owner, owner)
    path.chmod(mode)


def _check_reachable(path: Path) -> None:
    """Daemons run under uids of their own: everybody must be able to pass through every folder above."""
    for folder in (path, *path.parents):
        if not folder.stat().st_mode & 0o001:
            raise SettingsFault(
                f"{path}: the hive's users cannot pass through {folder}; try another --dir, or chmod o+x {folder}"
            )
