"""What one agent's cage is made of, derived from its record and privd's settings; nothing here comes from the wire.

Pure: it names folders, binds and the command; `privd.cages` makes them real.
"""

from pathlib import Path
from typing import Final

import msgspec

from privd.cages.identity import Identity
from privd.cages.spec import Bind, CageSpec, Folder
from privd.proposed import config_folder, configurations, folders_of
from privd.registry import AgentRecord
from privd.settings import PrivdSettings
from protocol.settings import AgentRole, Credential, Runner

ENVIRONMENT_TARGET: Final = "/opt/hive/env"
CLAUDE_TARGET: Final = "/opt/hive/claude"
BROKER_TARGET: Final = "/run/hive/broker"
EGRESS_TARGET: Final = "/run/hive/egress"
PYTHON: Final = f"{ENVIRONMENT_TARGET}/bin/python"
OWN: Final = ("state", "harness", "claude")
"""What an agent's cage may write at the same path inside and out."""
KEPT: Final = ("state", "claude")
"""An agent's folders that outlive its cage, beside its proposed configuration."""
CA_NAME: Final = "ca.pem"
KEY_NAME: Final = "api_key"


def programs(settings: PrivdSettings, runner: Runner) -> dict[str, str]:
    """Folders of ours that a cage of this runner sees, by the part of its base that they are."""
    seen = {"hyperhive": settings.environment}
    return seen | {"claude": settings.claude} if settings.claude and runner is Runner.CLAUDE else seen


def agent_folder(settings: PrivdSettings, agent: str) -> Path:
    return Path(settings.state) / "agents" / agent


def socket_folder(settings: PrivdSettings, agent: str) -> Path:
    return Path(settings.run) / "agents" / agent


def shared_folder(settings: PrivdSettings) -> Path:
    """Writable by every agent, in a folder that no other user of the host can enter."""
    return Path(settings.state) / "shared" / "files"


def furnish(
    record: AgentRecord,
    settings: PrivdSettings,
    identity: Identity,
    own: tuple[int, int],
    *,
    editor: Identity,
    separate: bool,
    base: dict[str, str],
) -> CageSpec:
    """The whole cage of one agent. `own` is privd's uid and gid.

    `editor` owns the proposed configuration: the manager, or the agent itself while there is no manager.
    """
    agent = record.agent
    manager = record.settings.role is AgentRole.MANAGER
    home = agent_folder(settings, agent)
    configs = configurations(settings)
    return CageSpec(
        agent=agent,
        role=record.settings.role,
        uid_base=record.uid_base,
        limits=record.settings.limits,
        folders=_folders(settings, agent, identity, own, editor=editor, manager=manager, separate=separate),
        binds=(
            *((Bind(str(configs), "/agents", writable=True),) if manager else ()),
            *(Bind(str(home / name), f"/agents/{agent}/{name}", writable=True) for name in OWN),
            *(() if manager else (_config_to_read(settings, agent),)),
            Bind(str(shared_folder(settings)), "/shared", writable=True),
            Bind(str(socket_folder(settings, agent) / "broker"), BROKER_TARGET),
            Bind(str(socket_folder(settings, agent) / "egress"), EGRESS_TARGET),
            Bind(settings.environment, ENVIRONMENT_TARGET),
            *(
                (Bind(settings.claude, CLAUDE_TARGET),)
                if settings.claude and record.settings.runner is Runner.CLAUDE
                else ()
            ),
        ),
        command=(PYTHON, "-I", "-m", "harness.init"),
        environment={"HIVE_AGENT": agent, "HIVE_STOP_GRACE_S": str(max(1, settings.stop_grace_s - 5))},
        settings_json=msgspec.json.format(msgspec.json.encode(record.settings)),
        absent=(str(home / "claude" / KEY_NAME),) if record.settings.credential is Credential.EGRESS else (),
        base=base,
    )


def _config_to_read(settings: PrivdSettings, agent: str) -> Bind:
    """An agent sees its own proposed configuration, which the manager may be changing just now."""
    config, above = config_folder(settings, agent), configurations(settings)
    return Bind(str(config), f"/agents/{agent}/config", beneath=str(above))


def _folders(
    settings: PrivdSettings,
    agent: str,
    identity: Identity,
    own: tuple[int, int],
    *,
    editor: Identity,
    manager: bool,
    separate: bool,
) -> tuple[Folder, ...]:
    """Folders with their owners, outer ones first. `separate`: the daemons have uids of their own.

    What an agent owns lies behind folders that only privd enters: it may open its own to everybody, and put
    programs into them that run as its uid, but nobody on the host gets there. Binds need no path.
    """
    uid, gid = own
    home, sockets = agent_folder(settings, agent), socket_folder(settings, agent)
    broker = settings.peers.broker_uid if separate else uid
    egress = settings.peers.egress_uid if separate else uid
    shared = shared_folder(settings)
    return (
        Folder(str(home.parent), uid, gid, 0o700),
        Folder(str(home), uid, gid, 0o700),
        Folder(str(home / "state"), identity.agent_uid, identity.agent_gid, 0o750),
        Folder(str(home / "claude"), identity.agent_uid, identity.agent_gid, 0o700),
        Folder(str(home / "harness"), identity.harness_uid, identity.harness_gid, 0o700),
        *folders_of(settings, agent, own, editor, OWN if manager else ()),
        Folder(str(shared.parent), uid, gid, 0o700),
        Folder(str(shared), uid, gid, 0o1777),
        Folder(str(sockets.parent), uid, gid, 0o711),
        Folder(str(sockets), uid, gid, 0o711),
        Folder(str(sockets / "broker"), broker, identity.harness_gid, 0o710),
        Folder(str(sockets / "egress"), egress, gid, 0o711),
    )
