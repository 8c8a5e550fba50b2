"""A stand-in for the harness, run inside a real cage: it does what the test says, as itself or as the agent's user.

Standard library only. It dials the broker socket as the real one does; each line from there is a JSON object:

    {"harness": SOURCE}   run as the harness       {"agent": SOURCE}    run as the agent, by the spawner
    {"on_stop": WORD}     what SIGTERM does from now on: end, finish, ignore

The answer is {"value": ...} with what SOURCE left in `value`, or {"error": ...}; an agent's error carries its code.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any

SOCKET = "/run/hive/broker/broker.sock"
PYTHON = sys.executable
FINISH_S = 0.3
AGENT = """
import json, sys
space = {}
try:
    exec(sys.stdin.read(), space)
    print(json.dumps({"value": space.get("value")}))
except BaseException as fault:
    print(json.dumps({"error": f"{type(fault).__name__}: {fault}", "errno": getattr(fault, "errno", None)}))
"""

on_stop = "end"


def stop(*_: object) -> None:
    print("stand-in: asked to stop", flush=True)
    if on_stop == "finish":
        time.sleep(FINISH_S)
        print("stand-in: finished", flush=True)
        os._exit(7)
    if on_stop == "end":
        os._exit(0)


def as_harness(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {}
    try:
        exec(source, space)
    except Exception as fault:
        return {"error": f"{type(fault).__name__}: {fault}", "errno": getattr(fault, "errno", None)}
    return {"value": space.get("value")}


def as_agent(spawner: socket.socket, source: str) -> dict[str, Any]:
    stdin = os.memfd_create("source")
    os.write(stdin, source.encode())
    os.lseek(stdin, 0, os.SEEK_SET)
    reading, writing = os.pipe()
    order = {"argv": [PYTHON, "-I", "-c", AGENT], "env": {"PATH": "/usr/bin:/bin"}, "cwd": "/"}
    socket.send_fds(spawner, [json.dumps(order).encode()], [stdin, writing, 2])
    os.close(stdin)
    os.close(writing)
    answer = heard(spawner)
    if "error" in answer:
        os.close(reading)
        return {"error": answer["error"]}
    with os.fdopen(reading, "rb") as output:
        said = output.read()
    end = heard(spawner)
    try:
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"error": f"the program ended with {end['code']}"}
    return found | {"code": end["code"]}


def heard(spawner: socket.socket) -> dict[str, Any]:
    """What the spawner says. Once it is lost, init is about to ask us to stop, and there is nothing else to do."""
    said = spawner.recv(65536)
    while not said:
        signal.pause()
    found: dict[str, Any] = json.loads(said)
    return found


def main() -> None:
    global on_stop
    signal.signal(signal.SIGTERM, stop)
    print("stand-in: here", flush=True)
    spawner = socket.socket(fileno=int(os.environ["HIVE_SPAWNER_FD"]))
    broker = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 20
    while True:
        try:
            broker.connect(SOCKET)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    with broker.makefile("rwb") as lines:
        for line in lines:
            order = json.loads(line)
            match order:
                case {"harness": source}:
                    answer = as_harness(source)
                case {"agent": source}:
                    answer = as_agent(spawner, source)
                case {"on_stop": on_stop}:
                    answer = {"value": on_stop}
                case _:
                    answer = {"error": "no such order"}
            lines.write(json.dumps(answer).encode() + b"\n")
            lines.flush()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        raise
