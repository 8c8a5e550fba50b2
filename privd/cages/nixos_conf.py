"""What a NixOS container is told: nspawn's flags, its conf, the drop-in of its unit. Pure: text out, nothing touched.

`nixos-container` writes a conf that systemd reads as an environment file, and the unit's shell expands the flags in it
without any quoting: they are split at spaces and globbed. So every word that gets in matches WORD_RULE, in which
nothing is left to split, glob, quote or end a line with; what does not match is refused before anything runs.
"""

import re
from pathlib import Path
from typing import Final

from privd.cages.spec import FILTER_PATH, CageSpec, Places
from protocol.problem import Problem, Refused
from protocol.settings import SETTINGS_PATH

PREFIX: Final = "h-"
NAME_CHARS_MAX: Final = 11
"""What `nixos-container create` takes."""
WORD_RULE: Final = re.compile(r"[A-Za-z0-9@_+=,./:-]+", re.ASCII)
STORE_NAME_RULE: Final = re.compile(r"[0-9a-z]{32}-[A-Za-z0-9+._=-]{1,180}", re.ASCII)
FROM_CLOSURE: Final = "/opt/hive/"
"""What other cages see of the hive's own programs; here the agent's system brings them."""
OWNER: Final = "HIVE_OWNER"
SYSTEM: Final = "SYSTEM_PATH"
FLAKE: Final = "FLAKE"
BUILT_FROM: Final = "HIVE_FLAKE"
"""The name of the flake that the pinned system was built from."""
FLAGS: Final = "EXTRA_NSPAWN_FLAGS"
COVERED: Final = ("/nix/var/nix/daemon-socket:ro", "/nix/var/nix/profiles:mode=0755,size=1M",
                  "/nix/var/nix/gcroots:mode=0755,size=1M")  # fmt: skip
"""The unit binds these of the host into every container: root's Nix daemon, and two folders that root's own Nix reads.

A tmpfs over each; the kernel lets nobody inside take it off again."""
CAPABILITIES_DROPPED: Final = tuple(
    f"CAP_{name}"
    for name in (
        "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "IPC_LOCK", "LEASE", "LINUX_IMMUTABLE",
        "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BROADCAST", "NET_RAW", "PERFMON", "SYS_MODULE",
        "SYS_NICE", "SYS_PACCT", "SYS_RAWIO", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM",
    )
)  # fmt: skip
"""Its init is a whole systemd and keeps what that needs, in its own user namespace only."""
LANDLOCK: Final = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
NOTHING: Final = (
    "HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "LOCAL_MAC_ADDRESS", "HOST_BRIDGE", "HOST_PORT",
    "INTERFACES", "MACVLANS", "NETWORK_NAMESPACE_PATH",
)  # fmt: skip
"""Every way in which the unit would give the container a network. Empty: loopback is all there is."""
OOM_SCORE: Final = 300
START_S: Final = 120
STOP_S: Final = 630
"""The longest grace that settings allow, and a little: so long a unit stops when nobody is there to end it sooner."""
MIB: Final = 1024 * 1024


def container_of(agent: str) -> str:
    """The container's name. Agent names have at most nine characters, so that no valid one is refused here."""
    name = f"{PREFIX}{agent}"
    if len(name) > NAME_CHARS_MAX:
        raise ValueError(f"{name!a} is no container's name: at most {NAME_CHARS_MAX} characters")
    return name


def unit_of(agent: str) -> str:
    return f"container@{container_of(agent)}.service"


def own_files(places: Places) -> dict[str, Path]:
    """Path in the cage → the file of ours that is seen there."""
    return {SETTINGS_PATH: places.root / "agent.json", FILTER_PATH: places.root / "syscalls.bpf"}


def flags(spec: CageSpec, places: Places) -> tuple[str, ...]:
    """What is added to nspawn's command line. Of two that disagree nspawn takes the later one, and ours come last.

    The root is an overlay that vanishes with the cage, and no capability of the host's reaches into it.
    """
    shown = [bind for bind in spec.binds if not bind.target.startswith(FROM_CLOSURE)]
    environment = spec.environment | spec.init_variables(None)
    return tuple(
        _word(flag)
        for flag in (
            "--private-users-ownership=auto",
            "--volatile=overlay",
            "--no-new-privileges=yes",
            f"--drop-capability={','.join(CAPABILITIES_DROPPED)}",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            f"--hostname={spec.agent}",
            *(f"--system-call-filter={call}" for call in LANDLOCK),
            *((f"--rlimit=NOFILE={spec.limits.files_max}",) if spec.limits.files_max is not None else ()),
            *(f"--tmpfs={place}" for place in COVERED),
            *(f"--bind-ro={_path(str(file))}:{target}" for target, file in own_files(places).items()),
            *(
                f"--bind{'' if bind.writable else '-ro'}={_path(bind.source)}:{_path(bind.target)}"
                for bind in shown
            ),
            *(f"--setenv={variable}={value}" for variable, value in sorted(environment.items())),
        )
    )


def conf_text(spec: CageSpec, places: Places, *, system: str | None, owner: str, flake: str = "") -> str:
    """The whole conf. Without FLAKE: the unit would build what it says, as root, where a profile is missing.

    COPY_RESOLV_CONF is said because some versions of the unit's script end where it is not.
    """
    values = {
        OWNER: owner,
        "AUTO_START": "0",
        "PRIVATE_NETWORK": "1",
        **dict.fromkeys(NOTHING, ""),
        "PRIVATE_USERS": str(spec.uid_base),
        "COPY_RESOLV_CONF": "0",
        **({SYSTEM: system, BUILT_FROM: flake} if system is not None else {}),
    }
    lines = [f"{name}={_word(value) if value else ''}" for name, value in values.items()]
    return "\n".join([*lines, f'{FLAGS}="{" ".join(flags(spec, places))}"', ""])


def read_conf(text: str) -> dict[str, str]:
    """Name → value of a conf, of ours or as `nixos-container` wrote it; quotes around a value go."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.removeprefix('"').removesuffix('"') for name, _, value in pairs}


def drop_in_text(spec: CageSpec, places: Places) -> str:
    """What the unit of this one cage does otherwise than every container's.

    privd alone decides whether a cage starts again: a unit that did so too would give it two lives.
    """
    journal = _path(str(places.journal))
    limits = spec.limits
    lines = [
        "[Unit]",
        "StartLimitIntervalSec=0",
        "[Service]",
        "Restart=no",
        "RestartForceExitStatus=",
        f"TimeoutStartSec={START_S}",
        f"TimeoutStopSec={STOP_S}",
        f"StandardOutput=append:{journal}",
        f"StandardError=append:{journal}",
        f"OOMScoreAdjust={OOM_SCORE}",
    ]
    if limits.memory_mib_max is not None:
        lines += [f"MemoryMax={limits.memory_mib_max * MIB}", "MemorySwapMax=0"]
    if limits.tasks_max is not None:
        lines += [f"TasksMax={limits.tasks_max}"]
    if limits.cpu_percent_max is not None:
        lines += [f"CPUQuota={limits.cpu_percent_max}%"]
    return "\n".join([*lines, ""])


def is_system(path: str, store: Path) -> bool:
    """Whether this names something of the store itself."""
    place = Path(path)
    return place.parent == store and bool(STORE_NAME_RULE.fullmatch(place.name))


def _word(word: str) -> str:
    if not WORD_RULE.fullmatch(word):
        raise Refused(
            Problem.FAILED,
            f"{word!a} cannot be said to a NixOS container: letters, digits and @ _ + = , . / : - only",
        )
    return word


def _path(path: str) -> str:
    """A path as part of a flag: the colon would divide it."""
    if ":" in path or "," in path:
        raise Refused(Problem.FAILED, f"{path!a} cannot be bound into a NixOS container: no colon, no comma")
    return _word(path)
