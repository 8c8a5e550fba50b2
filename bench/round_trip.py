"""P6: how many small requests a second one process answers over its unix socket, at 1 and at 64 connections."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.measure import Variant, compare, report
from bench.processes import OURS, THEIRS, ask, folder, has, load, native, serving, skip

TEXT = "x" * 120
REQUEST = f'{{"op":"echo","text":"{TEXT}"}}\n'
ANSWER = f'{{"ok":"{TEXT}"}}\n'
HTTP = f"GET /echo?text={TEXT} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def main() -> None:
    """Measure and print."""
    with folder() as run, ExitStack() as servers:
        answer = run / "answer"
        answer.write_text(ANSWER)
        sockets = start(servers, run, answer)
        assert ask(sockets["ours"][0], REQUEST.encode()) == ANSWER.encode()
        for connections in (1, 64):
            variants = [
                Variant(name, partial(load, path, connections, request, lines=lines))
                for name, (path, request, lines) in sockets.items()
            ]
            compare(variants)
            goal = "1.0x of C" if connections == 1 else "0.15x of C, 10x of HTTP"
            report(f"P6 round trip, {connections} connections", goal, variants, "calls_per_s")


def start(servers: ExitStack, run: Path, answer: Path) -> dict[str, tuple[Path, str, int]]:
    """Each server's socket, what to say there, and how many lines its answer has."""
    ours, plain, bare, http = (run / f"{name}.sock" for name in ("ours", "c", "python", "http"))
    servers.enter_context(serving(OURS, "-m", "bench.servers.echo", ours, ready=ours))
    servers.enter_context(serving(native("echo"), plain, answer, ready=plain))
    servers.enter_context(serving(OURS, "-m", "bench.servers.epoll_echo", bare, answer, ready=bare))
    sockets = {
        "ours": (ours, REQUEST, 1),
        "epoll in C": (plain, REQUEST, 1),
        "epoll in Python": (bare, REQUEST, 1),
    }
    if has("hypercorn"):
        servers.enter_context(serving(THEIRS, "-m", "bench.servers.http_echo", http, answer, ready=http))
        sockets["HTTP by hypercorn"] = (http, HTTP, ask(http, HTTP.encode()).count(b"\n"))
    else:
        skip("HTTP by hypercorn", "not in the environment of the references")
    return sockets


if __name__ == "__main__":
    main()
