"""Code inside a real cage of a running hive, with exactly the power that a process of one of its users has there.

It enters all namespaces of the cage, becomes the user, drops every capability and installs the cage's own system call
filter; what it prints last is the answer.
"""

import json
import subprocess
from typing import Any

from tests.support.hive import RunningHive

AGENT_UID, HARNESS_UID, INIT_UID = 1_000, 1_001, 0
PATIENCE_S = 60.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
PRELUDE = r"""
import ctypes, errno, json, os, socket, struct, subprocess, sys
from harness.init import install_filter

def attempt(act):
    try:
        return {"did": act()}
    except BaseException as error:
        return {"refused": type(error).__name__, "errno": errno.errorcode.get(getattr(error, "errno", None))}

def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result

install_filter("/etc/hyperhive/syscalls.bpf")
"""


def leader(hive: RunningHive, agent: str) -> int:
    """The host's pid of a cage's init."""
    record = json.loads((hive.places.state / "cages" / agent / "running.json").read_text())
    pid: int = record["leader"]["pid"]
    return pid


def run_inside(hive: RunningHive, agent: str, script: str, *words: str, uid: int = AGENT_UID) -> Any:
    """Run a script in the agent's cage; the JSON that it printed."""
    return json.loads(print_inside(hive, agent, PRELUDE + script, *words, uid=uid))


def command_inside(
    hive: RunningHive, agent: str, script: str, *words: str, uid: int = AGENT_UID
) -> list[str]:
    """The command line that runs a script in the agent's cage, to be started with ENVIRONMENT; it ends with nsenter."""
    return [
        "nsenter", "--target", str(leader(hive, agent)), "--all", "--root", "--wd", "--",
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
        "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=KILL", "--",
        "/opt/hive/env/bin/python", "-I", "-c", script, *words,
    ]  # fmt: skip


def print_inside(
    hive: RunningHive, agent: str, script: str, *words: str, uid: int = AGENT_UID, stdin: str = ""
) -> str:
    """The same without the prelude's words and filter; what it printed."""
    done = subprocess.run(
        command_inside(hive, agent, script, *words, uid=uid),
        input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
