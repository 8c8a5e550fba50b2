"""P7: 200 open dashboards follow the message flow: how late at 50 messages a second, how many deliveries in a burst.

Ours is the whole way: a message is durable in brokerd, told to webd, told to 200 signed-in browsers' streams. The
references begin where an event is already in the process that serves the streams.
"""

import base64
import hashlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from bench.hive import Hive, hive
from bench.measure import CHECKOUT, PAYLOAD, Variant, compare, report
from bench.processes import OURS, THEIRS, environment, folder, free_port, has, native, serving, skip
from bench.wake import Peer
from bench.ways import Brokerd, line
from runtime.clock import new_request_key, now_ms
from runtime.store import connect
from webd.policy.cookies import cookie_name
from webd.store import schema, sessions

READERS = 200
STREAMS_A_SESSION = 10
STEADY_A_SECOND = 50
STEADY_EVENTS = 250
BURST_EVENTS = 1_000
PATIENCE_S = 60

Tell = Callable[[int], None]


def mark(number: int) -> str:
    """When an event was made, and its place: what the readers look for."""
    return f"@T{time.monotonic_ns():019}#{number:08}"


# ours


def webd(swarm: Hive, servers: ExitStack) -> tuple[int, Path]:
    """Webd beside the hive, with enough browsers signed in; its port and the readers' requests."""
    port, state = free_port(), swarm.state / "web"
    state.mkdir()
    shape = schema.shape(state)
    schema.migrate(shape.path, shape)
    tokens = [session_token() for _ in range(READERS // STREAMS_A_SESSION)]
    with closing(connect(shape)) as db:
        for token in tokens:
            digest = hashlib.sha256(token.encode()).digest()
            db.execute(sessions.START, (digest, "bench", "127.0.0.1", "bench", now_ms(), now_ms())).fetchall()
    config = swarm.run / "webd.toml"
    config.write_text(f'run = "{swarm.run}"\nstate = "{state}"\nport = {port}\n')
    servers.enter_context(serving(OURS, "-m", "webd", "--config", config, ready=port, log=swarm.log))
    return port, requests(swarm.run / "readers", port, tokens)


def session_token() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def requests(path: Path, port: int, tokens: list[str]) -> Path:
    name = cookie_name(port, https=False)
    path.write_text(
        "".join(
            f"GET /api/v1/stream?topics=flow HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
            f"Sec-Fetch-Site: same-origin\r\nCookie: {name}={token}\r\n\r\n"
            for token in tokens
        )
    )
    return path


class Operator:
    """Tells by sending durable messages to the agents in turn."""

    def __init__(self, swarm: Hive) -> None:
        self._peer = Peer(Brokerd(swarm.operator, swarm.run), swarm.operator)

    def tell(self, number: int) -> None:
        body = mark(number) + PAYLOAD[30:]
        to = f"a{number % 10:02}"
        self._peer.ask(
            line({"op": "send", "to": to, "body": body, "key": new_request_key(), "in_reply_to": None})
        )

    def close(self) -> None:
        self._peer.close()


# the references


class Lines:
    """Tells by a line at a unix socket."""

    def __init__(self, place: Path) -> None:
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.connect(str(place))

    def tell(self, number: int) -> None:
        body = mark(number) + PAYLOAD[30:]
        delivery = {"id": number, "recipient": "a00"}
        row = {
            "id": number,
            "sender": "operator",
            "to": "a00",
            "body": body,
            "sent_ms": now_ms(),
            "deliveries": [delivery],
        }
        self._stream.sendall(json.dumps(row).encode() + b"\n")

    def close(self) -> None:
        self._stream.close()


def uvicorn(kind: str, place: Path, servers: ExitStack) -> tuple[int, Path]:
    port = free_port()
    servers.enter_context(
        serving(THEIRS, "-m", "bench.servers.feed_uvicorn", str(port), place, kind, ready=place)
    )
    return port, requests(place.with_suffix(".readers"), port, ["x"])


# measuring


def follow(
    port: int, readers: Path, telling: Callable[[], Operator | Lines], events: int, rate: float
) -> dict[str, float]:
    """Open every reader, tell so many events at a rate (0: as fast as it goes), and wait until all have all."""
    command = [str(native("sse")), str(port), str(readers), str(READERS), str(events), str(PATIENCE_S)]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment()
        ) as reading,
        closing(telling()) as teller,
    ):
        assert reading.stdout is not None
        if reading.stdout.readline().strip() != "ready":
            raise SystemExit("the readers could not open their streams")
        began = time.monotonic()
        for number in range(events):
            if rate:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            teller.tell(number)
        figures: dict[str, float] = json.loads(reading.stdout.read())
    if figures["disordered"] or figures["missing"]:
        raise SystemExit(f"events came out of order, twice or not at all: {figures}")
    return {"deliveries_per_s": figures["deliveries"] / figures["seconds"], **figures}


def main() -> None:
    """Measure and print."""
    with hive(10) as swarm, folder() as run, ExitStack() as servers:
        ways: dict[str, tuple[int, Path, Callable[[], Operator | Lines]]] = {}
        ways["brokerd and webd"] = (*webd(swarm, servers), lambda: Operator(swarm))
        if has("uvloop"):
            for kind in ("queues", "batched"):
                place = run / f"{kind}.sock"
                ways[f"uvicorn, {kind}"] = (*uvicorn(kind, place, servers), partial(Lines, place))
        else:
            skip("uvicorn", "not in the environment of the references")
        for title, events, rate, key, goal in (
            (
                f"P7 fan-out, {READERS} readers, 50 events/s",
                STEADY_EVENTS,
                STEADY_A_SECOND,
                "p99_ms",
                "at most 250 ms",
            ),
            (f"P7 fan-out, {READERS} readers, burst", BURST_EVENTS, 0, "deliveries_per_s", "0.5x of uvicorn"),
        ):
            variants = [
                Variant(name, partial(follow, port, readers, telling, events, rate))
                for name, (port, readers, telling) in ways.items()
            ]
            compare(variants)
            report(title, goal, variants, key, more_is_better=key != "p99_ms")


if __name__ == "__main__":
    main()
