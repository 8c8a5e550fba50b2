"""The programs of an installed hive, in folders that are root's and named after what is in them.

    /opt/hyperhive/python-<hash>    daemons and hivectl         /opt/hyperhive/python   points to the newest
    /opt/hyperhive/cage-<hash>      what a cage runs
    /opt/hyperhive/claude-<hash>    the agent CLI, where ./hive has installed it

A cage keeps what it was started with: an older folder stays as long as any cage sees it.
"""

import hashlib
import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from hivectl.install.machine import Machine, ask
from hivectl.up.configuration import CLAUDE_FOLDER, CLAUDE_VARIABLE, cage_environment, claude_folder
from protocol.problem import Problem, Refused
from runtime.settings import SettingsFault

OPT: Final = Path("/opt/hyperhive")
PYTHON: Final = OPT / "python"
COMMAND: Final = Path("/usr/local/bin/hivectl")
COMMAND_TEXT: Final = f'#!/bin/sh\nexec {PYTHON}/bin/python -I -m hivectl "$@"\n'
PACKAGES: Final = ("protocol", "runtime", "boxes", "privd", "brokerd", "webd", "egressd", "hivectl")
OURS: Final = Path(__file__).parents[2]
"""The folder of our packages: a checkout, or the packages of an environment."""
NOT_AT_RUN: Final = frozenset({"pip"})
HASH_CHARS: Final = 12
PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


class Release(Struct, frozen=True):
    """The folders of one release."""

    python: Path
    cage: Path
    claude: Path | None


def found() -> Release:
    """What an installation from here would consist of. SettingsFault when something is missing."""
    if OURS.is_relative_to(OPT):
        return _installed()
    claude = os.environ.get(CLAUDE_VARIABLE)
    return Release(
        python=OPT / f"python-{_python_hash()}",
        cage=OPT / f"cage-{cage_environment().name}",
        claude=OPT / f"claude-{_claude_hash(claude_folder(Path(claude)))}" if claude else None,
    )


async def make(machine: Machine, release: Release) -> None:
    """Copy what is not there yet, and make it the one that units start."""
    await machine.make(release.python, _fill_python)
    await machine.make(release.cage, _fill_cage)
    if release.claude is not None:
        await machine.make(release.claude, _fill_claude)
    machine.link(PYTHON, release.python.name)
    machine.write(COMMAND, COMMAND_TEXT, 0o755)


def tidy(machine: Machine, release: Release) -> None:
    """Remove older folders that nothing uses any more."""
    kept = {release.python, release.cage, release.claude}
    for folder in sorted(OPT.glob("*-*")):
        if folder not in kept and not _is_used(folder):
            machine.remove(folder)


def remove(machine: Machine) -> None:
    if COMMAND.is_file() and COMMAND.read_text(errors="replace") == COMMAND_TEXT:
        machine.remove(COMMAND)
    machine.remove(OPT)


def _installed() -> Release:
    """What we run from, when that is an installation: settings can be given anew without a checkout."""
    cages = sorted(OPT.glob("cage-*"), key=lambda folder: folder.stat().st_mtime)
    claudes = sorted(OPT.glob("claude-*"), key=lambda folder: folder.stat().st_mtime)
    if not cages:
        raise SettingsFault(f"{OPT}: holds no environment for cages; install from a checkout: ./hive install")
    return Release(Path(sys.prefix).resolve(), cages[-1], claudes[-1] if claudes else None)


def _third_party() -> list[metadata.Distribution]:
    """The distributions that daemons and hivectl need, as the lock names them."""
    lock = Path(os.environ.get("HIVE_CHECKOUT", OURS)) / "requirements" / "run.txt"
    if not lock.exists():
        raise SettingsFault(f"{lock}: is not there; install from a checkout: ./hive install --systemd")
    return [
        metadata.distribution(name) for name in PINNED.findall(lock.read_text()) if name not in NOT_AT_RUN
    ]


def _sources() -> list[Path]:
    return sorted(
        file
        for package in PACKAGES
        for file in (OURS / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )


def _python_hash() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for distribution in _third_party():
        digest.update(f"{distribution.name}=={distribution.version}\n".encode())
    for file in _sources():
        digest.update(f"{file.relative_to(OURS)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:HASH_CHARS]


async def _fill_python(fresh: Path) -> None:
    """An environment of the distribution's interpreter that holds the third-party packages and ours."""
    await _run(os.path.realpath(sys.executable), "-I", "-m", "venv", "--without-pip", str(fresh))
    (site,) = fresh.glob("lib/python3.*/site-packages")
    for script in (fresh / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()
    for distribution in _third_party():
        for file in distribution.files or ():
            if ".." not in file.parts:  # scripts bear the path of another environment
                _copy_file(Path(str(distribution.locate_file(file))), site / file)
    for source in _sources():
        _copy_file(source, site / source.relative_to(OURS))
    ours = [str(site / name) for name in PACKAGES if (site / name).is_dir()]
    await _run(str(fresh / "bin/python"), "-I", "-m", "compileall", "-q", *ours)
    _close(fresh)


async def _fill_cage(fresh: Path) -> None:
    await _copy_folder(cage_environment(), fresh)


async def _fill_claude(fresh: Path) -> None:
    await _copy_folder(claude_folder(Path(os.environ[CLAUDE_VARIABLE])), fresh)


def _claude_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in sorted(CLAUDE_FOLDER):
        file = folder / name
        if name == "claude":
            digest.update(str(file.stat().st_size).encode())
        elif file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:HASH_CHARS]


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


async def _copy_folder(source: Path, fresh: Path) -> None:
    await trio.to_thread.run_sync(lambda: shutil.copytree(source, fresh, symlinks=True))
    _close(fresh)


def _close(folder: Path) -> None:
    """Root's, readable by everybody, writable by nobody else, whoever owned what was copied."""
    for place, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = Path(place, name)
            os.chown(path, 0, 0, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod((path.stat().st_mode & 0o755) | (0o555 if path.is_dir() else 0o444))


def _is_used(folder: Path) -> bool:
    """Whether any process of this machine sees it mounted, or runs from it."""
    name = f"/{folder.name}"
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            shown = (process / "mountinfo").read_text() + (process / "maps").read_text()
        except OSError:
            continue
        if f"{name} " in shown or f"{name}/" in shown:
            return True
    return False


async def _run(*argv: str) -> None:
    code, output = await ask(*argv)
    if code != 0:
        raise Refused(Problem.FAILED, f"{' '.join(argv)} ended with {code}: {output}")
