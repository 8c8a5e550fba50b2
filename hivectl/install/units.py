"""The units of an installed hive: the files beside this module, and drop-ins for what hive.toml decides."""

from pathlib import Path
from typing import Final

from hivectl.install.machine import Machine
from hivectl.program import TARGET

SHIPPED: Final = Path(__file__).with_name("units")
SYSTEM: Final = Path("/etc/systemd/system")
CONTROL: Final = Path("/run/systemd/system.control")
"""Where systemd keeps the limits that privd sets for a cage."""
FOLDERS: Final = Path(__file__).with_name("tmpfiles.conf")
FOLDERS_DECLARED: Final = Path("/etc/tmpfiles.d/hyperhive.conf")
DAEMONS: Final = ("privd", "brokerd", "egressd", "webd")
SERVICES: Final = tuple(f"hive-{daemon}.service" for daemon in DAEMONS)
HTTP_SOCKET: Final = "hive-webd-http.socket"
DROP_IN: Final = "50-hive.conf"
"""Ours in a unit's .d folder; whatever else is there is the operator's."""
CREDENTIALS: Final = Path("/run/credentials")


def names() -> tuple[str, ...]:
    return tuple(sorted(path.name for path in SHIPPED.iterdir()))


def sockets() -> tuple[str, ...]:
    return tuple(name for name in names() if name.endswith(".socket"))


def make(machine: Machine, address: str, secrets: dict[str, dict[str, str]]) -> None:
    """Write every unit. `address` is where browsers come in, `secrets` are files for daemons, by unit and name."""
    for name in names():
        machine.write(SYSTEM / name, (SHIPPED / name).read_text())
    machine.write(FOLDERS_DECLARED, FOLDERS.read_text())
    machine.write(_drop_in(HTTP_SOCKET), f"[Socket]\nListenStream=\nListenStream={address}\n")
    for service in SERVICES:
        given = secrets.get(service, {})
        if given:
            lines = "".join(f"LoadCredential={name}:{file}\n" for name, file in sorted(given.items()))
            machine.write(_drop_in(service), f"[Service]\n{lines}")
        else:
            machine.remove(_drop_in(service))


def credential(service: str, name: str) -> Path:
    """Where a service finds a file that is handed to it."""
    return CREDENTIALS / service / name


async def reload(machine: Machine) -> None:
    await machine.run("systemd-tmpfiles", "--create", str(FOLDERS_DECLARED))
    await machine.run("systemctl", "daemon-reload")


async def start(machine: Machine) -> None:
    """Start what does not run, restart what runs, cages excepted; a socket stays open unless its file changed."""
    await machine.run("systemctl", "enable", "--quiet", TARGET)
    await machine.run("systemctl", "reset-failed", "hive-*")
    files = {name: {SYSTEM / name, _drop_in(name)} for name in sockets()}
    again = [name for name in sockets() if machine.changed & files[name]]
    await machine.run("systemctl", "restart", *again, *SERVICES)
    await machine.run("systemctl", "start", TARGET)


async def stop(machine: Machine) -> None:
    """Stop the whole hive, its cages first. An installation that was cut short may have no units."""
    if not (SYSTEM / TARGET).exists():
        return
    await machine.run("systemctl", "stop", TARGET)
    await machine.run("systemctl", "stop", "hive-cage@*.service", *SERVICES, *sockets(), "hive-cages.service")
    await machine.run("systemctl", "stop", "hyperhive-cages.slice", "hyperhive.slice")


async def remove(machine: Machine) -> None:
    if (SYSTEM / TARGET).exists():
        await machine.run("systemctl", "disable", "--quiet", TARGET)
    for name in names():
        machine.remove(SYSTEM / name)
        machine.remove(_drop_in(name))
        if (SYSTEM / f"{name}.d").is_dir() and not any((SYSTEM / f"{name}.d").iterdir()):
            machine.remove(SYSTEM / f"{name}.d")
    for folder in sorted(CONTROL.glob("hive-cage@*.service.d")):
        machine.remove(folder)
    machine.remove(FOLDERS_DECLARED)
    await machine.run("systemctl", "daemon-reload")
    await machine.run("systemctl", "reset-failed")


def _drop_in(unit: str) -> Path:
    return SYSTEM / f"{unit}.d" / DROP_IN
