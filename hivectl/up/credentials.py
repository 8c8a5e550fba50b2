"""Hands the model accounts' keys to egressd: each as a file of its own, in a folder that only it and root enter.

Only the file's path is in egressd's settings; the key itself is in no argument, no variable and no other file. The
folder is root's, so that egressd can change nothing in it.
"""

import os
from pathlib import Path
from typing import Final

from hivectl.places import Places
from hivectl.up.configuration import CA_NAME, KEY_SUFFIX, HiveSettings, Ids
from runtime.settings import SettingsFault

BYTES_MAX: Final = 1024 * 1024
"""Of a key or of a bundle of certificates."""


def hand_over(settings: HiveSettings, places: Places, who: Ids) -> None:
    """Copy what egressd needs, and take away what it needs no more. SettingsFault when a file cannot be read."""
    held = settings.held()
    wanted = {f"{name}{KEY_SUFFIX}": Path(account.key_file) for name, account in held.items()}
    if held and settings.model.ca_file is not None:
        wanted[CA_NAME] = Path(settings.model.ca_file)
    contents = {name: _read(source) for name, source in wanted.items()}
    folder = places.egress
    _lay(folder, who)
    for left in folder.iterdir():
        if left.name not in contents:
            left.unlink()
    for name, content in contents.items():
        _put(folder / name, content, who)


def _read(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise SettingsFault(f"{source}: cannot be read: {error.strerror}; see hive.toml") from None
    if len(content) > BYTES_MAX:
        raise SettingsFault(f"{source}: is larger than {BYTES_MAX} bytes; see hive.toml")
    return content


def _lay(folder: Path, who: Ids) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if who.separate:
        os.chown(folder, 0, who.egress)
        folder.chmod(0o710)


def _put(path: Path, content: bytes, who: Ids) -> None:
    """Whole or not at all, and never readable by anybody else."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # what was opened so must not be opened again
        file.write(content)
        if who.separate:
            os.fchown(descriptor, who.egress, who.egress)
    fresh.rename(path)
