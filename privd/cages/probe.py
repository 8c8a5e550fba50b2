"""What this machine can isolate: found out by trying, once at privd's start and for `hivectl doctor`.

nspawn and bwrap are each asked to run `true` in the kind of box a cage is; control groups are made and removed.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from privd.cages import control_groups
from privd.cages.backend import Backend
from privd.cages.boot import NO_USERS
from privd.cages.bwrap import of_this_process
from privd.cages.children import Children
from privd.cages.identity import RANGE_UIDS, UID_LAST, hive_tag
from privd.cages.launch import limit_disk
from privd.cages.nixos import Nixos
from privd.cages.nixos_flakes import Flakes, ground_of
from privd.cages.nixos_host import NixosHost
from privd.cages.nspawn import Nspawn
from privd.cages.running import QUOTAS
from privd.cages.skeleton import LINKED
from privd.cages.syscalls import program
from privd.cages.units import Units
from privd.settings import BackendChoice, Launching, NixosInputs
from protocol.problem import Problem, Refused
from protocol.settings import CageLimits

PROGRAM_PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"
NSPAWN_VERSION_MIN: Final = 250
"""The first that takes --private-users-ownership=off."""
TRIAL_S: Final = 20.0
TRIAL_UID: Final = UID_LAST + 1 - RANGE_UIDS
"""A range that no hive's block reaches."""
NOBODY: Final = 65_534
REASON_CHARS_MAX: Final = 300
TRIAL: Final = "probe"
NSPAWN: Final = "systemd-nspawn"
NIXOS_MARK: Final = Path("/etc/NIXOS")
NIXOS: Final = NixosHost()
NIXOS_CONTAINER: Final = "nixos-container"
OTHER_KIND: Final = "take another kind of cage"


class Finding(Struct, frozen=True):
    """One thing that was looked at; `mend` says what to do, empty when nothing is needed or possible."""

    subject: str
    good: bool
    what: str
    mend: str = ""


class Report(Struct, frozen=True):
    """All of it; `backend` is empty when no cage can be made."""

    backend: str
    findings: tuple[Finding, ...]


async def choose(
    choice: BackendChoice, launching: Launching, state: Path, inputs: NixosInputs | None = None
) -> Backend:
    """The backend for the hive in this folder. `failed` with the reason when the machine cannot do it."""
    hive = hive_tag(str(state.resolve()))
    tried: list[Finding] = []
    attempts = ATTEMPTS_FOR_UNITS if launching is Launching.UNITS else ATTEMPTS
    for kind, attempt in attempts.items():
        if choice in (kind, BackendChoice.AUTO) and not any(finding.good for finding in tried):
            tried.append(await attempt())
    good = next((finding for finding in tried if finding.good), None)
    if good is None:
        reasons = "; ".join(f"{finding.subject}: {finding.what} ({finding.mend})" for finding in tried)
        raise Refused(Problem.FAILED, f"this machine can make no cage: {reasons}")
    return _backend(good.subject, launching, hive, state, inputs)


def _backend(
    subject: str, launching: Launching, hive: str, state: Path, inputs: NixosInputs | None = None
) -> Backend:
    if subject == NIXOS_CONTAINER:
        ground = None if inputs is None else ground_of(inputs, os.uname().machine)
        return Nixos(hive, Flakes(state.resolve() / "flakes"), NIXOS, ground)
    program_path = _find(subject)
    if program_path is None:
        raise Refused(Problem.FAILED, f"{subject} is gone")
    launcher = Units() if launching is Launching.UNITS else Children(hive)
    return Nspawn(program_path, launcher) if subject == NSPAWN else of_this_process(program_path, launcher)


async def report(state: Path | None = None) -> Report:
    """Everything there is to say about this machine, and about the disk below a hive's folder."""
    tried = [await attempt() for attempt in ATTEMPTS.values()]
    chosen = next((finding for finding in tried if finding.good), None)
    if not (NIXOS_MARK.exists() or tried[0].good):
        tried = tried[1:]  # nothing that anybody could or should mend there
    findings = [_who(), *tried]
    if chosen is not None:
        backend = _backend(chosen.subject, Launching.CHILDREN, TRIAL, Path("/"))
        findings += [
            Finding("separation", good=False, what=text, mend=AS_ROOT) for text in backend.degraded()
        ]
        return Report(backend.name, (*findings, *await _limits(), *_disk(state), _system_calls()))
    return Report("", tuple(findings))


AS_ROOT: Final = "run the hive as root with systemd-nspawn installed"


def _who() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", good=True, what="root: daemons and cages get users of their own")
    return Finding(
        "user", good=False, what=f"uid {os.geteuid()}: daemons and cages share this user", mend="run as root"
    )


def _find(program_name: str) -> str | None:
    return shutil.which(program_name, path=PROGRAM_PATH)


async def _try_nixos() -> Finding:
    if os.geteuid() != 0:
        return Finding(NIXOS_CONTAINER, good=False, what="needs root", mend="run as root")
    if not NIXOS_MARK.exists():
        return Finding(
            NIXOS_CONTAINER, good=False, what=f"this is no NixOS: no {NIXOS_MARK}", mend=OTHER_KIND
        )
    if not (NIXOS.programs / NIXOS_CONTAINER).exists():
        mend = "set boot.enableContainers = true"
        return Finding(NIXOS_CONTAINER, good=False, what=f"not in {NIXOS.programs}", mend=mend)
    return Finding(NIXOS_CONTAINER, good=True, what="a system of its own for every cage")


async def _look_for_nspawn() -> Finding:
    """Whether there is a usable one; what it can do here is not tried."""
    subject, found = NSPAWN, _find(NSPAWN)
    if os.geteuid() != 0:
        return Finding(subject, good=False, what="needs root", mend="run as root")
    if found is None:
        install = "apt-get install --no-install-recommends systemd-container"
        return Finding(subject, good=False, what="not installed", mend=install)
    _, version = await _run(found, "--version")
    number = re.search(r"systemd (\d+)", version)
    if number is None or int(number[1]) < NSPAWN_VERSION_MIN:
        needed = f"systemd {NSPAWN_VERSION_MIN} or newer is needed"
        return Finding(
            subject, good=False, what=version.splitlines()[0] if version else "no version", mend=needed
        )
    return Finding(subject, good=True, what=f"systemd {number[1]}: a range of uids for every cage")


async def _try_nspawn() -> Finding:
    there, found = await _look_for_nspawn(), _find(NSPAWN)
    if not there.good or found is None:
        return there
    with tempfile.TemporaryDirectory(prefix="hive-probe-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("usr", "proc", "sys", "dev", "run", "tmp", "etc", "var"):
            (root / name).mkdir()
        for name in LINKED:
            if Path("/", name).is_symlink():
                (root / name).symlink_to(Path("/", name).readlink())
        code, output = await _run(
            found, "--quiet", "--register=no", "--keep-unit", "--settings=no", f"--directory={root}", "--read-only",
            "--bind-ro=/usr", f"--private-users={TRIAL_UID}:{RANGE_UIDS}", "--private-users-ownership=off",
            "--private-network", "--timezone=off", "--resolv-conf=off", "--link-journal=no", "--console=pipe",
            "--", "/usr/bin/true",
        )  # fmt: skip
    if code == 0:
        return there
    advice = "a container or a hardened service may forbid mounts and namespaces: run the hive outside of it"
    return Finding(NSPAWN, good=False, what=_short(output, code), mend=advice)


async def _try_bwrap() -> Finding:
    subject, found = "bwrap", _find("bwrap")
    if found is None:
        install = "apt-get install --no-install-recommends bubblewrap"
        return Finding(subject, good=False, what="not installed", mend=install)
    code, output = await _run(
        found, "--unshare-all", "--unshare-user", "--disable-userns", "--as-pid-1", "--size", "4096", "--tmpfs", "/tmp",  # noqa: S108  # the cage's own
        "--ro-bind", "/usr", "/usr", *(word for name in LINKED if Path("/", name).is_symlink()
                                       for word in ("--symlink", str(Path("/", name).readlink()), f"/{name}")),
        "--proc", "/proc", "--dev", "/dev", "--", "/usr/bin/true", unprivileged=True,
    )  # fmt: skip
    if code == 0:
        return Finding(subject, good=True, what="one user for all of a cage")
    advice = "bubblewrap 0.8 or newer, and user namespaces for ordinary users, are needed"
    return Finding(subject, good=False, what=_short(output, code), mend=advice)


ATTEMPTS: Final = {
    BackendChoice.NIXOS: _try_nixos,
    BackendChoice.NSPAWN: _try_nspawn,
    BackendChoice.BWRAP: _try_bwrap,
}
"""In the order of preference."""
ATTEMPTS_FOR_UNITS: Final = {BackendChoice.NIXOS: _try_nixos, BackendChoice.NSPAWN: _look_for_nspawn}
"""privd may not make a cage itself there: a unit may, and says why it could not."""


async def _limits() -> list[Finding]:
    limits = CageLimits()
    groups = await control_groups.create(TRIAL, TRIAL, limits)
    await control_groups.remove(groups.folders)
    advice = "boot a systemd with unified control groups, or run as root"
    held = ", ".join(f"{resource} by {by}" for resource, by in groups.held.items())
    return [
        *((Finding("limits", good=True, what=held),) if held else ()),
        *(Finding("limits", good=False, what=text, mend=advice) for text in groups.degraded),
    ]


def _disk(state: Path | None) -> list[Finding]:
    """Whether the file system of a hive would hold a cage to its disk limit; nobody's quota is changed."""
    if state is None:
        return []
    place = next(folder for folder in (state.resolve(), *state.resolve().parents) if folder.is_dir())
    reason = limit_disk(str(place), [], 0) if os.geteuid() == 0 else NO_USERS
    if not reason:
        return [Finding("disk", good=True, what=f"by {QUOTAS}")]
    what = f"nothing holds what a cage keeps in {state}: {reason}; it is counted now and then"
    return [Finding("disk", good=False, what=what, mend="put it on ext4 or xfs, mounted with usrquota")]


def _system_calls() -> Finding:
    if program() is not None:
        return Finding("system calls", good=True, what=f"filtered on {os.uname().machine}")
    return Finding("system calls", good=False, what=f"no filter for {os.uname().machine}: cages cannot start")


async def _run(*argv: str, unprivileged: bool = False) -> tuple[int, str]:
    """Exit code and everything a trial printed; -1 when it took too long."""
    user = NOBODY if unprivileged and os.geteuid() == 0 else None
    with trio.move_on_after(TRIAL_S):
        done = await trio.run_process(
            argv,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={"PATH": PROGRAM_PATH},
            user=user,
            cwd="/",
        )
        return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")
    return -1, f"did not end within {TRIAL_S:.0f} s"


def _short(output: str, code: int) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {code}")[:REASON_CHARS_MAX]
