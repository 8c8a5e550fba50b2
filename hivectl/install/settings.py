"""The daemons' settings of an installed hive: those of `up`, and what is different where systemd starts everything."""

from pathlib import Path
from typing import Any, Final

from hivectl.install import accounts, units
from hivectl.install.machine import Machine
from hivectl.install.release import Release
from hivectl.places import Places
from hivectl.up import configuration
from hivectl.up.configuration import HiveSettings, Programs
from protocol.settings import Credential, Runner
from runtime.settings import SettingsFault, load_settings

PRIVD: Final = "hive-privd.service"
EGRESSD: Final = "hive-egressd.service"
CAGES_ARE_UNITS: Final = "units"


def load(machine: Machine, places: Places) -> HiveSettings:
    """hive.toml: what an embedded hive left in its folder, or the template, becomes the first one."""
    path = places.settings
    if not path.exists():
        embedded = places.state / "hive.toml"
        machine.write(path, embedded.read_text() if embedded.exists() else _template())
    if machine.dry and not path.exists():
        embedded = places.state / "hive.toml"
        settings = load_settings(embedded, HiveSettings) if embedded.exists() else HiveSettings()
    else:
        settings = load_settings(path, HiveSettings)
    return settings


def check(settings: HiveSettings, release: Release, path: Path) -> None:
    """SettingsFault for what an installed hive cannot do."""
    if settings.cages.backend == "bwrap":
        raise SettingsFault(f"{path}: cages.backend: an installed hive has nspawn cages; leave it at auto")
    if settings.web.port == 0:
        raise SettingsFault(f"{path}: web.port: name one; systemd listens there before the dashboard runs")
    if settings.agents.runner is Runner.CLAUDE and release.claude is None:
        raise SettingsFault(f"{path}: agents.runner: Claude Code is not installed here: ./hive env claude")


def address(settings: HiveSettings) -> str:
    """Where browsers come in, as a socket unit writes it."""
    host = f"[{settings.web.host}]" if ":" in settings.web.host else settings.web.host
    return f"{host}:{settings.web.port}"


def secrets(settings: HiveSettings) -> dict[str, dict[str, str]]:
    """Files that systemd hands to a daemon, wherever they are and whoever owns them, by unit and name."""
    model, held = settings.model, settings.held()
    in_cages = model.key_file if model.credential is Credential.CAGE else None
    given = {
        PRIVD: {"model-key": in_cages, "model-ca": model.ca_file},
        EGRESSD: {
            "model-ca": model.ca_file if held else None,
            **{f"account-{name}": account.key_file for name, account in held.items()},
        },
    }
    files = {
        unit: {name: str(file) for name, file in each.items() if file is not None}
        for unit, each in given.items()
    }
    for file in (file for each in files.values() for file in each.values()):
        if not Path(file).is_file():
            raise SettingsFault(f"{file}: is not there; see [model] and [accounts] in hive.toml")
    return files


def write(machine: Machine, settings: HiveSettings, places: Places, uid_first: int, release: Release) -> None:
    """Render every daemon's file."""
    programs = Programs(release.cage, release.claude)
    if machine.dry:
        for daemon in units.DAEMONS:
            machine.write(places.rendered / f"{daemon}.toml", "")
        return
    tables = configuration.render(settings, places, uid_first, accounts.ids(), programs)
    for daemon, table in _for_units(tables).items():
        machine.write(places.rendered / f"{daemon}.toml", configuration.to_toml(table))


def _for_units(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Members of the operators' group may come in; cages are units; secrets lie where systemd puts them."""
    gid = accounts.admin_gid()
    for daemon, table in tables.items():
        (table["peers"] if daemon == "privd" else table)["admin_gid"] = gid
    privd = tables["privd"]
    privd["cages"] = CAGES_ARE_UNITS
    api = privd["model_api"]
    for key, name in (("key_file", "model-key"), ("ca_file", "model-ca")):
        if key in api:
            api[key] = str(units.credential(PRIVD, name))
    egressd = tables["egressd"]
    if "ca_file" in egressd:
        egressd["ca_file"] = str(units.credential(EGRESSD, "model-ca"))
    for name, account in egressd["accounts"].items():
        account["key_file"] = str(units.credential(EGRESSD, f"account-{name}"))
    return tables


def _template() -> str:
    text = configuration.TEMPLATE.format(name="my-hive", port=configuration.PORT_DEFAULT)
    return text.replace("`hivectl up` reads them at each start", "after a change: hivectl install --systemd")
