"""Users of the daemons and the group of the operators, as systemd-sysusers makes them.

Which of them were made here is written down, because only those are removed again.
"""

import grp
import pwd
from pathlib import Path
from typing import Final

from hivectl.install.machine import Machine
from hivectl.places import SYSTEM_SETTINGS
from hivectl.program import ADMIN_GROUP
from hivectl.up.configuration import Ids
from protocol.problem import Problem, Refused

DECLARED: Final = Path(__file__).with_name("sysusers.conf")
DECLARATION: Final = Path("/etc/sysusers.d/hyperhive.conf")
RECORD: Final = SYSTEM_SETTINGS / "accounts"
"""The names that were made, one a line."""
USERS: Final = ("hive-broker", "hive-web", "hive-egress")


async def make(machine: Machine, members: tuple[str, ...]) -> None:
    """The users and the group, and who belongs to it."""
    for member in members:
        if member != "root" and not _has_user(member):
            raise Refused(Problem.NOT_FOUND, f"--admin: there is no user {member!a} on this machine")
    fresh = [name for name in (ADMIN_GROUP, *USERS) if not (_has_group(name) or _has_user(name))]
    made = [*_made(), *(name for name in fresh if name not in _made())]
    machine.write(RECORD, "".join(f"{name}\n" for name in made))
    machine.write(DECLARATION, DECLARED.read_text())
    if fresh:
        await machine.run("systemd-sysusers", str(DECLARATION))
    for member in members:
        if member != "root" and not _is_member(member):
            await machine.run("usermod", "--append", "--groups", ADMIN_GROUP, "--", member)


def ids() -> Ids:
    """The daemons' uids, once their users are there."""
    broker, web, egress = (pwd.getpwnam(name).pw_uid for name in USERS)
    return Ids(broker, web, egress, separate=True)


def admin_gid() -> int:
    return grp.getgrnam(ADMIN_GROUP).gr_gid


async def remove(machine: Machine) -> None:
    """Take away what `make` made, and the record of it."""
    made = _made()
    for name in USERS:
        if name in made and _has_user(name):
            await machine.run("userdel", "--", name)
    for name in (*USERS, ADMIN_GROUP):
        if name in made and _has_group(name):
            await machine.run("groupdel", "--", name)
    machine.remove(DECLARATION)
    machine.remove(RECORD)


def has_processes(user: str) -> bool:
    """Whether anything still runs as this user."""
    if not _has_user(user):
        return False
    uid = pwd.getpwnam(user).pw_uid
    return any(_owner(process) == uid for process in Path("/proc").iterdir() if process.name.isdecimal())


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except FileNotFoundError:  # it has ended
        return None


def _made() -> list[str]:
    return RECORD.read_text().split() if RECORD.exists() else []


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _is_member(user: str) -> bool:
    return _has_group(ADMIN_GROUP) and user in grp.getgrnam(ADMIN_GROUP).gr_mem
