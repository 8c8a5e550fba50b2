#!/usr/bin/python3 -I
"""An agent CLI that went mad: it reads its prompt and takes all it can get of what the prompt names.

Run as `claude` in a real cage. It goes on while `wanted` in the agent's state folder names the bomb (a harness that it
starves may deliver an older message once more), and notes there what was refused. Standard library only.
"""

import contextlib
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

STATE = Path("/agents/iris/state")
WANTED = STATE / "wanted"
LOG = STATE / "bomb.log"
LONGEST_S = 120.0
HOLDERS = 8
CHUNK = b"x" * (4 << 20)
DISK_BYTES_MAX = 400 << 20
"""What this takes of the real machine's disk at most, whatever the cage may."""


def note(text: str) -> None:
    with LOG.open("a") as log:
        log.write(text + "\n")


def is_wanted(kind: str) -> bool:
    try:
        return WANTED.read_text() == kind
    except OSError:  # too many files are open: the one who holds them looks
        return True


def over() -> bool:
    return time.monotonic() > END or not is_wanted(KIND)


def child(act: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            act()
        os._exit(0)
    return pid


def burn() -> None:
    while not over():
        for _ in range(50_000):
            pass


def fork() -> None:
    """As many as there may be, each as busy as it can."""
    told = False
    while not over():
        try:
            child(burn)
        except OSError as fault:
            if not told:
                note(f"fork refused {fault.errno}")
                told = True
            time.sleep(0.05)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def hoard() -> None:
    held = []
    try:
        while not over():
            held.append(bytearray(os.urandom(1) * (8 << 20)))
    except MemoryError:
        held.clear()
        note("memory refused")


def memory() -> None:
    """One process after the other that takes all there is."""
    told = False
    while not over():
        _, status = os.waitpid(child(hoard), 0)
        if os.WIFSIGNALED(status) and not told:
            note(f"memory ended by {os.WTERMSIG(status)}")
            told = True


def hold_files() -> None:
    held = []
    try:
        while not over():
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as fault:
        os.close(held.pop())  # for the note
        note(f"files refused {fault.errno}")
        while not over():
            time.sleep(0.05)


def files() -> None:
    for _ in range(HOLDERS):
        child(hold_files)
    while not over():
        time.sleep(0.05)


def disk() -> None:
    """Files as long as they may be, one beside the other."""
    written, number = 0, 0
    try:
        while not over():
            try:
                with (STATE / f"fill{number}").open("wb", buffering=0) as file:
                    while written < DISK_BYTES_MAX and not over():
                        written += file.write(CHUNK)
            except OSError as fault:
                note(f"disk refused {fault.errno} at {resource.getrlimit(resource.RLIMIT_FSIZE)[0]}")
            number += 1
            if written >= DISK_BYTES_MAX:
                while not over():
                    time.sleep(0.05)
    finally:
        for each in range(number + 1):
            (STATE / f"fill{each}").unlink(missing_ok=True)


def clear_away() -> None:
    """End every process of ours, so that the next turn finds room."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def line(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


END = time.monotonic() + LONGEST_S
KINDS = {"fork": fork, "memory": memory, "files": files, "disk": disk}
KIND = ""

if __name__ == "__main__":
    asked = re.findall(r"bomb:(\w+)", sys.stdin.read())
    session = "00000000-0000-4000-8000-000000000000"
    line(type="system", subtype="init", session_id=session, mcp_servers=[], model="bomb")
    KIND = next((kind for kind in asked if is_wanted(kind)), "")
    if KIND:
        note(f"begun {KIND}")
        KINDS[KIND]()
        clear_away()
        note(f"over {KIND}")
    line(type="result", subtype="success", is_error=False, result="done", session_id=session, num_turns=1)
