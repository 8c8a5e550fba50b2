"""Where a hive's files and sockets are, from its folder: `up` makes them there, every other command finds them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEM_STATE: Final = Path("/var/lib/hyperhive")
SYSTEM_RUN: Final = Path("/run/hyperhive")


@dataclass(frozen=True)
class Places:
    """The folders of one hive: what lasts (`state`) and what lives as long as the machine is up (`run`)."""

    state: Path
    run: Path

    @property
    def settings(self) -> Path:
        return self.state / "hive.toml"

    @property
    def rendered(self) -> Path:
        """The daemons' own settings, written anew by each `up`."""
        return self.state / "etc"

    @property
    def logs(self) -> Path:
        return self.state / "log"

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
    """The folder that `--dir` means when it is not given: HIVE_DIR, else the system's for root, else the user's."""
    chosen = os.environ.get("HIVE_DIR")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return SYSTEM_STATE
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home.absolute() / "hyperhive"


def places(folder: Path | None) -> Places:
    """The places of the hive in *folder*; a hive of the service manager has its sockets under /run."""
    state = (folder or default_state()).absolute()
    if state == SYSTEM_STATE and (SYSTEM_RUN / "privd").is_dir() and not (state / "run" / "privd").is_dir():
        return Places(state, SYSTEM_RUN)
    return Places(state, state / "run")
