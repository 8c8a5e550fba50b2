"""Where a hive's files and sockets are, from its folder: `up` makes them there, every other command finds them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEM_STATE: Final = Path("/var/lib/hyperhive")
SYSTEM_RUN: Final = Path("/run/hyperhive")
SYSTEM_SETTINGS: Final = Path("/etc/hyperhive")
"""Where `install` puts the settings of a hive that belongs to the service manager."""


@dataclass(frozen=True)
class Places:
    """The folders of one hive: what lasts (`state`) and what lives as long as the machine is up (`run`)."""

    state: Path
    run: Path

    @property
    def is_installed(self) -> bool:
        """Whether the service manager runs it, and not `up`."""
        return self.run == SYSTEM_RUN

    @property
    def settings(self) -> Path:
        return (SYSTEM_SETTINGS if self.is_installed else self.state) / "hive.toml"

    @property
    def rendered(self) -> Path:
        """The daemons' own settings, written anew by each `up` or `install`."""
        return SYSTEM_SETTINGS if self.is_installed else self.state / "etc"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def egress(self) -> Path:
        """Copies of keys and certificates for egressd, which alone can read them."""
        return self.state / "egress"

    def owner(self) -> int | None:
        """The uid of whoever started this hive; None when there is none in this folder."""
        try:
            return self.state.stat().st_uid if self.settings.exists() else None
        except OSError:
            return None

    def socket(self, daemon: str) -> Path:
        """The operator's socket of a daemon."""
        return self.run / daemon / "operator.sock"


def default_state() -> Path:
    """The folder that `--dir` means when it is not given: HIVE_DIR, else the system's for root, else the user's.

    Somebody who has no hive of their own means the one that is installed.
    """
    chosen = os.environ.get("HIVE_DIR")
    if chosen:
        return Path(chosen).absolute()
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").absolute()
    own = home / "hyperhive"
    if os.geteuid() == 0 or (_system_is_installed() and not (own / "hive.toml").exists()):
        return SYSTEM_STATE
    return own


def places(folder: Path | None) -> Places:
    """The places of the hive in *folder*; one that is installed has its sockets under /run."""
    state = (folder or default_state()).absolute()
    if state == SYSTEM_STATE and _system_is_installed():
        return Places(state, SYSTEM_RUN)
    return Places(state, state / "run")


def _system_is_installed() -> bool:
    return (SYSTEM_SETTINGS / "privd.toml").exists()
