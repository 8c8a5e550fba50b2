"""`hivectl install --systemd`: look at the machine, put everything in its place, start it, print the link.

Run again it replaces programs and units and restarts the daemons; running cages are left alone.
"""

import argparse
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hivectl import tables
from hivectl.doctor import probe
from hivectl.install import accounts, release, settings, units
from hivectl.install.machine import Machine, Say, ask
from hivectl.places import SYSTEM_RUN, SYSTEM_STATE, Places
from hivectl.program import ADMIN_GROUP, TARGET
from hivectl.up import ground
from hivectl.up.agents import Agents
from hivectl.up.configuration import HiveSettings
from protocol.hello import Hello
from protocol.privd import ListCages
from protocol.problem import Problem, Refused
from protocol.webd import MintLogin
from runtime.client import Client, Disconnected

BOOTED: Final = Path("/run/systemd/system")
"""There where, and only where, systemd is PID 1."""
OF_UP: Final = ("run", "egress")
"""What `up` leaves in the hive's folder that nobody uses any more: dead sockets, and copies of keys."""
READY_S: Final = 60.0
JOURNAL_LINES: Final = "5"
AFTER: Final = {
    True: "Cages that run with older programs are brought up to these one by one; hivectl status says how far it is.",
    False: "Cages that run keep the programs they were started with; hivectl rebuild-all gives them the new ones.",
}
"""What becomes of cages that ran before, by `cages.rebuild_stale`."""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("install", help="install the hive on this server, as units of its systemd")
    child.add_argument("--systemd", action="store_true", required=True, help="the one kind there is")
    child.add_argument(
        "--admin",
        action="append",
        default=[],
        metavar="USER",
        help=f"who may act as the operator: joins {ADMIN_GROUP} (again for more; whoever ran sudo does, too)",
    )
    child.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    os.umask(0o022)
    began = time.monotonic()

    def say(glyph: str, text: str) -> None:
        print(f"  {time.monotonic() - began:5.1f}s  {glyph} {tables.printable(text)}", flush=True)

    check_machine(values.places)
    with alone():
        return await _install(values, say)


async def _install(values: argparse.Namespace, say: Say) -> int:
    machine, places = Machine(say, dry=values.dry_run), Places(SYSTEM_STATE, SYSTEM_RUN)
    ground.check_way(places.settings)
    ground.check_way(release.OPT / "python")
    chosen = release.found()
    given = settings.load(machine, places)
    settings.check(given, chosen, places.settings)
    secrets = settings.secrets(given)
    await _check_port(given)
    uid_first = await _uids(places, claim=not values.dry_run)
    await release.make(machine, chosen)
    await accounts.make(machine, (*values.admin, *_invoker()))
    settings.write(machine, given, places, uid_first, chosen)
    units.make(machine, settings.address(given), secrets)
    for folder in OF_UP:
        machine.remove(places.state / folder)
    await units.reload(machine)
    await _start(machine)
    if machine.dry:
        print("nothing was done", flush=True)
        return 0
    await _show(places, given, say)
    release.tidy(machine, chosen)
    return 0


def check_machine(places: Places) -> None:
    """Refused unless this is root, systemd runs the machine, and no hive of `up` is in the folder."""
    if os.geteuid() != 0:
        raise Refused(Problem.DENIED, "installing needs root: sudo ./hive install --systemd")
    if not BOOTED.is_dir():
        raise Refused(
            Problem.FAILED,
            "systemd does not run this machine (it is not process 1); a hive without it: ./hive up",
        )
    if places.state != SYSTEM_STATE:
        raise Refused(Problem.MALFORMED, f"--dir: an installed hive is in {SYSTEM_STATE}; leave --dir away")
    for lock in (SYSTEM_STATE / "up.lock", *sorted(SYSTEM_STATE.glob("cages/*/lock"))):
        if not places.is_installed and _is_held(lock):
            raise Refused(
                Problem.CONFLICT,
                f"a hive that was started by `up` runs in {SYSTEM_STATE} ({lock}); stop it first",
            )


@contextmanager
def alone() -> Iterator[None]:
    """Refused while another one changes this machine: the folder of the units is locked."""
    folder = os.open(units.SYSTEM, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(folder)
        yield
    finally:
        os.close(folder)


def _lock(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(Problem.BUSY, "another hivectl installs or uninstalls at this moment") from None


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def _check_port(given: HiveSettings) -> None:
    """SettingsFault or Refused when the dashboard's port cannot be had. One that our own socket holds is ours."""
    code, _ = await ask("systemctl", "is-active", "--quiet", units.HTTP_SOCKET)
    if code == 0:
        return
    host, port = given.web.host, given.web.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise Refused(
                Problem.CONFLICT,
                f"the dashboard cannot listen at {host}:{port}: {error.strerror}; see [web] in hive.toml",
            ) from None


async def _uids(places: Places, *, claim: bool) -> int:
    """The first uid of this hive's block. Refused when this machine can make no cage that an installed hive has."""
    found = await probe(places.state, claim=claim)
    if found.backend != "nspawn":
        why = next((each for each in found.findings if each.subject == "systemd-nspawn"), None)
        said = f"{why.what}; {why.mend}" if why else "no systemd-nspawn"
        raise Refused(Problem.FAILED, f"this machine can make no nspawn cage: {said}")
    return found.uid_first or 0


def _invoker() -> tuple[str, ...]:
    """The person who ran sudo."""
    name = os.environ.get("SUDO_USER", "")
    return (name,) if name else ()


async def _start(machine: Machine) -> None:
    """Start every unit. Refused(failed) with what the first one says that does not start."""
    try:
        await units.start(machine)
    except Refused:
        for daemon in units.DAEMONS:
            code, _ = await ask("systemctl", "is-active", "--quiet", f"hive-{daemon}.service")
            if code != 0:
                raise Refused(Problem.FAILED, await _why(daemon, "its unit does not start")) from None
        raise


async def _show(places: Places, given: HiveSettings, say: Say) -> None:
    """Wait for every daemon, create the first agents of a hive that has none, and print the link."""
    for daemon in units.DAEMONS:
        async with Client(places.socket(daemon)) as client:
            try:
                greeting = await client.call(Hello(), patience_s=READY_S)
            except (Disconnected, Refused) as fault:
                raise Refused(Problem.FAILED, await _why(daemon, str(fault))) from None
        say("●", daemon + (f" · {greeting.backend} cages" if greeting.backend else ""))
        for text in greeting.degraded:
            say("⚠", text)
    async with Client(places.socket("privd")) as privd:
        is_new = not await privd.call(ListCages())
    if is_new:
        await Agents(places, say).wake(None, given)
    async with Client(places.socket("webd")) as webd:
        link = await webd.call(MintLogin(), patience_s=READY_S)
    print(f"\n  ◆ {tables.printable(link.url)}\n", flush=True)
    print(
        f"  works once, for five minutes; hivectl login prints another. The hive: systemctl status {TARGET}"
    )
    if not is_new:
        print(f"  {AFTER[given.cages.rebuild_stale]}")


async def _why(daemon: str, fault: str) -> str:
    _, journal = await ask(
        "journalctl",
        "--no-pager",
        "--output=cat",
        "--lines",
        JOURNAL_LINES,
        "--unit",
        f"hive-{daemon}.service",
    )
    return f"{daemon} did not come up: {fault}: {' / '.join(journal.splitlines())}"
