"""The skeleton that becomes a cage's `/`: a few files and mount points over the host's own /usr, a hundred kilobytes.

Made afresh over whatever stands there at every start; root owns all of it and the cage sees it read-only. Every
mount point must exist beforehand, because nothing can be made under a read-only root.
"""

import os
from pathlib import Path
from typing import Final

from privd.cages import syscalls
from privd.cages.identity import AGENT_UID, HARNESS_UID
from privd.cages.spec import FILTER_PATH, Bind, CageSpec, Places
from protocol.problem import Problem, Refused
from protocol.settings import SETTINGS_PATH

FOLDERS: Final = (
    "usr", "etc", "etc/hyperhive", "var", "tmp", "run", "root", "proc", "sys", "dev", "home", "opt", "agents", "shared",
)  # fmt: skip
LINKED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into /usr where the host has merged it, else folders of their own."""
HOST_FOLDERS: Final = ("/etc/alternatives", "/etc/ssl", "/etc/pki", "/etc/ca-certificates")
"""What programs in /usr expect beside it, where the host has it."""
HOST_FILES: Final = ("/etc/os-release", "/etc/ld.so.cache")


def host_binds() -> tuple[Bind, ...]:
    """The host's programs, read-only. Resolved, because a cage has no place for a link's other end."""
    found = [Bind("/usr", "/usr")]
    for name in (*(f"/{name}" for name in LINKED), *HOST_FOLDERS):
        place = Path(name)
        if place.is_dir() and not (place.is_symlink() and _leads_into_usr(place)):
            found.append(Bind(str(place.resolve()), name))
    return tuple(found)


def _leads_into_usr(place: Path) -> bool:
    return place.resolve().is_relative_to("/usr")


def make(spec: CageSpec, places: Places) -> None:
    """Bring the skeleton of one cage up to date."""
    root = places.root
    places.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _folder(root)
    for name in FOLDERS:
        _folder(root / name)
    for name in LINKED:
        if Path("/", name).is_symlink():
            _link(root / name, str(Path("/", name).readlink()).lstrip("/"))
    for bind in (*host_binds(), *spec.binds):
        if not bind.target.startswith("/run/"):  # a writable tmpfs: its mount points are made inside
            _mount_point(root, bind.target)
    for path, content in _files(spec).items():
        _write(root / path.lstrip("/"), content)
    _forget_others(root / "agents", {spec.agent})


def fault(spec: CageSpec, places: Places) -> str | None:
    """Which file of the skeleton is not what *spec* says; None when all are."""
    for path, content in _files(spec).items():
        file = places.root / path.lstrip("/")
        if path in HOST_FILES:  # the host's own, which may change at any time
            continue
        if file.is_symlink() or not file.is_file() or file.read_bytes() != content:
            return f"{file} is not what is deployed"
    return None


def _forget_others(agents: Path, known: set[str]) -> None:
    """Take away the mount points of agents that are gone; they are empty, nothing is ever mounted in the skeleton."""
    for folder in agents.iterdir():
        if folder.name not in known:
            for mount_point in folder.iterdir():
                mount_point.rmdir()
            folder.rmdir()


def _files(spec: CageSpec) -> dict[str, bytes]:
    filter_program = syscalls.program()
    if filter_program is None:
        raise Refused(
            Problem.FAILED, f"no system call filter for {os.uname().machine}: x86_64 and aarch64 have one"
        )
    agent, home = spec.agent, f"/agents/{spec.agent}"
    users = (
        ("root", 0, "/root", "/usr/sbin/nologin"),
        ("agent", AGENT_UID, f"{home}/state", "/bin/bash"),
        ("harness", HARNESS_UID, f"{home}/harness", "/usr/sbin/nologin"),
        ("nobody", 65_534, "/", "/usr/sbin/nologin"),
    )
    text = {
        "/etc/passwd": "".join(
            f"{name}:x:{uid}:{uid}::{place}:{shell}\n" for name, uid, place, shell in users
        ),
        "/etc/group": "".join(f"{name}:x:{uid}:\n" for name, uid, _, _ in users),
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "/etc/hosts": f"127.0.0.1 localhost {agent}\n::1 localhost {agent}\n",
        "/etc/hostname": f"{agent}\n",
    }
    files = {path: content.encode() for path, content in text.items()}
    for path in HOST_FILES:
        if Path(path).is_file():
            files[path] = Path(path).read_bytes()
    return files | {SETTINGS_PATH: spec.settings_json, FILTER_PATH: filter_program}


def _mount_point(root: Path, target: str) -> None:
    place = root
    for part in Path(target).parts[1:]:
        place = place / part
        _folder(place)


def _folder(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(path)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a running cage may be reading it."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.rename(path)
