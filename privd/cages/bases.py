"""What cages over the machine's own /usr are made from, named so that a change of it can be told."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from privd.cages.skeleton import HOST_FILES
from privd.cages.spec import Places
from privd.policy.nar import Content

HASH_CHARS: Final = 12
PIN: Final = ".pinned"
"""Which program a folder holds, where ./hive put it."""


class OverHost(Struct, frozen=True):
    """What backends have in common whose cages are made from the machine's own system: nothing is built for one."""

    def base(self, programs: Mapping[str, str]) -> dict[str, str]:
        return of_host(programs)

    def sources(self) -> dict[str, str]:
        return {}

    def record(self, agents: Iterable[str]) -> dict[str, bytes]:
        return {}

    async def build(
        self, agent: str, files: Mapping[str, Content], places: Places, say: Callable[[str], None]
    ) -> None:
        await trio.lowlevel.checkpoint()

    async def aim(self, agent: str, files: Mapping[str, Content]) -> None:
        await trio.lowlevel.checkpoint()


def of_host(programs: Mapping[str, str]) -> dict[str, str]:
    """The base of a skeleton: *programs* are folders of ours by part, each named after what is in it."""
    return {"host": _digest(HOST_FILES), **{part: _name(Path(folder)) for part, folder in programs.items()}}


def _name(folder: Path) -> str:
    try:
        return (folder / PIN).read_text().strip()[:HASH_CHARS]
    except OSError:  # no pin: the folder has its name from its content (decision 7)
        return folder.resolve().name


def _digest(files: tuple[str, ...]) -> str:
    """Of the files that every skeleton holds a copy of: which system it is, and which libraries it has."""
    content = hashlib.sha256()
    for file in files:
        try:
            content.update(hashlib.sha256(Path(file).read_bytes()).digest())
        except OSError:  # a machine without it is a machine without it
            content.update(b"-")
    return content.hexdigest()[:HASH_CHARS]
