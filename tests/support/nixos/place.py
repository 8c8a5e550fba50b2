"""Where the programs of a made-up NixOS host find things, and what they share. Standard library only.

HOST/knobs.json says what goes wrong, HOST/calls.jsonl who was called how, HOST/state what systemd knows.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

HOST = Path(os.environ["NIXOS_HOST"])
"""Said by the wrapper that stands for a program, never by who calls it."""
CONFS, ROOTS, STORE, UNITS = HOST / "etc", HOST / "roots", HOST / "store", HOST / "units"
PROFILES, GCROOTS, STATE = HOST / "profiles", HOST / "gcroots", HOST / "state"
WAIT_S = 60.0


def knobs() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((HOST / "knobs.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def die(text: str, code: int = 2) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(code)


def run(*words: str) -> int:
    return subprocess.run(words, check=False).returncode


def until(ask: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not ask():
        if time.monotonic() > deadline:
            die(f"{what} did not happen")
        time.sleep(0.01)


def unit_state(name: str) -> dict[str, Any]:
    state: dict[str, Any] = {
        "active": "inactive",
        "result": "success",
        "main": 0,
        "leader": 0,
        "code": 0,
        "status": 0,
        "id": "",
    }
    try:
        state |= json.loads((STATE / f"{name}.json").read_text())
    except FileNotFoundError:
        return state
    return state


def write_state(name: str, **changes: Any) -> None:
    with (STATE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = STATE / f".{name}.{os.getpid()}"
        fresh.write_text(json.dumps(unit_state(name) | changes))
        fresh.rename(STATE / f"{name}.json")
