"""The flakes of the cages of a NixOS hive on disk: what each one's next start builds.

    <flakes>/<agent>/aim            the name of the flake that counts
    <flakes>/<agent>/<name>/        flake.nix, flake.lock, source/: the configuration; named after them, never changed

A flake is there whole before anything aims at it, so whoever is killed in between leaves the old one or the new one.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from privd import durable
from privd.policy.flakes import LOCK, Ground, Pin, base_of, flake, pin_of
from privd.policy.nar import Content, nar_hash
from privd.settings import NixosInputs

AIM: Final = "aim"
SOURCE: Final = "source"
FRESH: Final = ".new"
NAME_CHARS: Final = 12
FILE_MODE, PROGRAM_MODE = 0o644, 0o755


class Flakes(Struct, frozen=True):
    """All of them."""

    folder: Path

    def aimed(self, agent: str) -> Path | None:
        """The flake that the next start builds; None where nothing was deployed."""
        try:
            name = (self.folder / agent / AIM).read_text()
        except FileNotFoundError:
            return None
        return self.folder / agent / name

    def base(self, agent: str) -> dict[str, str]:
        """What the flake that counts is built from; empty where there is none."""
        place = self.aimed(agent)
        lock = place / LOCK if place is not None else None
        return base_of(lock.read_bytes()) if lock is not None and lock.exists() else {}

    def pin(self, agent: str) -> Pin | None:
        """The configuration that counts; None where nothing was deployed."""
        place = self.aimed(agent)
        lock = place / LOCK if place is not None else None
        return pin_of(lock.read_bytes(), agent) if lock is not None and lock.exists() else None

    def write(self, agent: str, files: Mapping[str, Content], ground: Ground) -> Path:
        """Make the flake of one configuration, unless it is there; nothing aims at it yet."""
        home = self.folder / agent
        hashed = nar_hash(files)
        name = hashlib.sha256(
            b"\0".join(flake(ground, {agent: Pin(str(home / SOURCE), hashed)}).values())
        ).hexdigest()[:NAME_CHARS]
        place = home / name
        if place.is_dir():
            return place
        fresh = home / f"{name}{FRESH}"
        shutil.rmtree(fresh, ignore_errors=True)
        for path, content in files.items():
            _write(fresh / SOURCE / path, content)
        for path, data in flake(ground, {agent: Pin(str(place / SOURCE), hashed)}).items():
            _write(fresh / path, Content(data))
        fresh.rename(place)
        durable.sync(home)
        return place

    def aim(self, agent: str, place: Path) -> None:
        """Let the next start build this flake; what nothing can ask for any more goes."""
        durable.write(self.folder / agent / AIM, place.name.encode())
        for other in (self.folder / agent).iterdir():
            if other.is_dir() and other != place:
                shutil.rmtree(other)

    def renew(self, agent: str, ground: Ground) -> None:
        """Aim at the same configuration over another ground."""
        place = self.aimed(agent)
        if place is None or not (place / SOURCE).is_dir():
            return
        self.aim(agent, self.write(agent, _read(place / SOURCE), ground))

    def forget(self, agent: str) -> None:
        shutil.rmtree(self.folder / agent, ignore_errors=True)


def ground_of(inputs: NixosInputs, machine: str) -> Ground:
    """What every system of this machine is built from."""
    hyperhive, nixpkgs = (Pin(each.path, each.nar_hash) for each in (inputs.hyperhive, inputs.nixpkgs))
    return Ground(hyperhive, nixpkgs, f"{machine}-linux")


def _read(folder: Path) -> dict[str, Content]:
    return {
        str(file.relative_to(folder)): Content(
            file.read_bytes(), executable=bool(file.stat().st_mode & 0o100)
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _write(file: Path, content: Content) -> None:
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    durable.write(file, content.data)
    file.chmod(PROGRAM_MODE if content.executable else FILE_MODE)
