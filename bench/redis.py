"""Redis as the reference for durable work: append-only file, synced before each answer (`appendfsync always`)."""

from contextlib import ExitStack
from pathlib import Path

from bench.measure import BUILT
from bench.processes import serving, skip

ROOT = BUILT / "redis"
PROGRAM = ROOT / "usr" / "bin" / "redis-server"


def start(servers: ExitStack, run: Path, state: Path) -> Path | None:
    """A server of our own at a unix socket, its file on the disk; None when there is no Redis."""
    if not PROGRAM.exists():
        skip("Redis", "bench/run could not get it")
        return None
    path = run / "redis.sock"
    libraries = ROOT / "usr" / "lib" / "x86_64-linux-gnu"
    servers.enter_context(
        serving(
            *("/usr/bin/env", f"LD_LIBRARY_PATH={libraries}", PROGRAM, "--port", "0", "--unixsocket", path),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", state),
            *("--auto-aof-rewrite-percentage", "0"),
            ready=path,
        )
    )
    return path


def command(*words: str) -> str:
    """One command as the protocol writes it."""
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
