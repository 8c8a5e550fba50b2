"""Which block of uids belongs to which hive of this machine: a link for each, so that no two hives share users.

    /var/lib/hyperhive-blocks/<first uid>  →  the hive's state folder

The state folder's path decides which block a hive would like (`identity.block_of`); one that another hive holds is
passed over. A link whose folder is gone is taken over after a while. Ordinary users have no blocks and claim none.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from privd.cages.identity import block_of
from runtime.clock import now_ms

REGISTRY: Final = Path("/var/lib/hyperhive-blocks")
REGISTRY_MODE: Final = 0o700
"""Whoever may open the folder may lock it, and every `up` would wait for them."""
UNUSED_S: Final = 60.0
"""How old a claim must be before a missing folder means that the hive is gone, and not still being made."""


def claim(state: Path, registry: Path = REGISTRY) -> int:
    """The first uid of this hive's block, the same whenever asked. Needs root to be more than a wish."""
    folder = str(state.resolve())
    if os.geteuid() != 0:
        return block_of(folder)
    registry.mkdir(mode=REGISTRY_MODE, parents=True, exist_ok=True)
    registry.chmod(REGISTRY_MODE)
    with _alone(registry):
        held = _claims(registry)
        for block, owner in held.items():
            if owner == folder:
                return block
        block = block_of(folder, held.keys())
        link = registry / str(block)
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        return block


def _claims(registry: Path) -> dict[int, str]:
    """Block → state folder, without those that nobody uses any more."""
    found = {}
    for link in registry.iterdir():
        if link.name.isdecimal() and link.is_symlink():
            age_s = now_ms() / 1000 - link.lstat().st_mtime
            if link.exists() or age_s < UNUSED_S:
                found[int(link.name)] = str(link.readlink())
    return found


@contextmanager
def _alone(registry: Path) -> Iterator[None]:
    folder = os.open(registry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
