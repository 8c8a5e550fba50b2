"""Processes of other users of this machine: they connect, say what they are told, and report what they heard.

What they are is decided by the kernel (uid and gid of the process), as for any attacker. Nothing here is privileged.
"""

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
HELLO = b'{"op":"hello"}\n'
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")

CALLER = r"""
import base64, json, socket, sys, threading, time

questions, heard = json.load(sys.stdin), {}

def connected(to):
    if isinstance(to, str):
        s = socket.socket(socket.AF_UNIX)
    else:
        s, to = socket.socket(socket.AF_INET), tuple(to)
    s.settimeout(10)
    s.connect(to)
    return s

def ask(name, to, said, finish, patience_s, read):
    began, said = time.monotonic(), base64.b64decode(said)
    got, found = b"", heard[name]
    try:
        s = connected(to)
    except OSError as error:
        found["errno"] = error.errno
        return
    with s:
        try:
            s.settimeout(patience_s)
            try:
                s.sendall(said)
                if finish:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed before it was all said: what was answered can still be read
            while read and (data := s.recv(65536)):
                got += data
            if not read:
                time.sleep(patience_s)
        except ConnectionError:
            pass
        except TimeoutError:
            found["open"] = True
    found.update(heard=base64.b64encode(got).decode(), took_s=time.monotonic() - began)

threads = []
for name, question in questions.items():
    heard[name] = {}
    threads.append(threading.Thread(target=ask, args=(name, *question)))
    threads[-1].start()
for thread in threads:
    thread.join()
print(json.dumps(heard))
"""


@dataclass(frozen=True)
class User:
    """A user of this machine, as the kernel knows one; it need not have a name."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Question:
    """What is said at one address: a unix socket, or a host and a port."""

    to: Path | tuple[str, int]
    said: bytes = HELLO
    finish: bool = True
    """Whether to say that nothing more comes."""
    patience_s: float = 10.0
    read: bool = True
    """Or hold the connection for `patience_s` without reading."""


@dataclass(frozen=True)
class Heard:
    """What came of one attempt: the kernel's refusal, or the bytes until the other side closed."""

    errno: int | None = None
    said: bytes = b""
    still_open: bool = False
    took_s: float = 0.0

    @property
    def answer(self) -> Any:
        """The first line as JSON."""
        return json.loads(self.said.partition(b"\n")[0])

    @property
    def is_silence(self) -> bool:
        """Connected, and closed without a byte."""
        return self.errno is None and not self.said and not self.still_open


class Asking:
    """Questions under way, all at once, in a process of another user."""

    def __init__(self, user: User, questions: Mapping[str, Question]) -> None:
        orders = {
            name: (
                list(each.to) if isinstance(each.to, tuple) else str(each.to),
                base64.b64encode(each.said).decode(),
                each.finish,
                each.patience_s,
                each.read,
            )
            for name, each in questions.items()
        }
        self._process = _start(user, CALLER)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders))
        self._process.stdin.close()
        self._process.stdin = None

    def answers(self) -> dict[str, Heard]:
        """What came of each; waits for the last."""
        printed, faults = self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0, faults
        return {
            name: Heard(
                each.get("errno"),
                base64.b64decode(each.get("heard", "")),
                each.get("open", False),
                each.get("took_s", 0.0),
            )
            for name, each in json.loads(printed).items()
        }


def ask_all(user: User, questions: Mapping[str, Question]) -> dict[str, Heard]:
    """Ask everything at once and read each answer to its end."""
    return Asking(user, questions).answers()


def ask(user: User, path: Path, said: bytes = HELLO) -> Heard:
    return ask_all(user, {"it": Question(path, said)})["it"]


def run_as(user: User, script: str, *words: str, stdin: str = "") -> str:
    """Run a script as another user, in an empty environment; what it printed."""
    process = _start(user, script, *words)
    printed, faults = process.communicate(stdin, timeout=PATIENCE_S)
    assert process.returncode == 0, faults
    return printed


def _start(user: User, script: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*PYTHON, script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        user=user.uid, group=user.gid, extra_groups=[], cwd="/", env={},
    )  # fmt: skip
