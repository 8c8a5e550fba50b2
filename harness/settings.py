"""The agent's settings as privd rendered them, and what init tells the harness in its environment."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from protocol.limits import STOP_GRACE_S
from protocol.settings import AgentSettings
from runtime.settings import SettingsFault

AGENT_UID: Final = 1000
HARNESS_UID: Final = 1001
"""The users in a cage (privd.cages.identity); in a cage with one uid, both are that one."""
GRACE_VARIABLE: Final = "HIVE_STOP_GRACE_S"
GRACE_MARGIN_S: Final = 5.0
"""Kept from the cage's own grace for ending the CLI and telling brokerd."""
GRACE_S_MAX: Final = 3600.0


def load_settings(path: Path) -> AgentSettings:
    """Read agent.json. Raises SettingsFault."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AgentSettings)
    except OSError as error:
        raise SettingsFault(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsFault(f"{path}: {error}") from None


def stop_grace_s(environment: Mapping[str, str]) -> float:
    """How long a running turn may take to end after SIGTERM."""
    text = environment.get(GRACE_VARIABLE)
    if text is None:
        return STOP_GRACE_S - GRACE_MARGIN_S
    try:
        grace_s = float(text)
    except ValueError:
        grace_s = math.nan
    if not 0 <= grace_s <= GRACE_S_MAX:
        raise SettingsFault(f"{GRACE_VARIABLE}: {text!a} is not between 0 and {GRACE_S_MAX:g} seconds")
    return grace_s


def agent_uid() -> int:
    """The uid that the agent CLI runs as, in our user namespace."""
    return AGENT_UID if os.getuid() == HARNESS_UID else os.getuid()
