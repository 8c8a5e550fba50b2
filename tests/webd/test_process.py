"""webd as a process, alone on its port: what raw bytes do to it, what it holds in memory, how it starts and stops."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from protocol.hello import Hello
from protocol.problem import Problem, Refused
from protocol.webd import MintLogin
from runtime.client import Client, Disconnected
from runtime.settings import EXIT_SETTINGS
from tests.support.waiting import until
from tests.webd.support.browser import Browser, raw
from tests.webd.support.hive import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

ROOT = Path(__file__).parents[2]
BODY_S = 0.5
STOP_S = 10.0


@dataclass
class Webd:
    """One webd: where it is, and its process."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def socket(self) -> Path:
        return self.folder / "webd" / "operator.sock"

    async def browser(self) -> Browser:
        async with Client(self.socket) as client:
            link = await client.call(MintLogin(), patience_s=10)
        browser = Browser(self.port)
        assert (await browser.post("/login", {"code": link.url.partition("#code=")[2]})).status == 200
        return browser

    def resident_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("a process without memory")

    async def ended(self) -> int:
        await until(lambda: self.process.poll() is not None, what="the end of webd")
        return self.process.returncode


@contextmanager
def started(folder: Path, port: int, **how: object) -> Iterator[Webd]:
    (folder / "webd.toml").write_text(
        f'run = "{folder}"\nstate = "{folder}/web"\nport = {port}\nbody_s = {BODY_S}\n'
        f"operator_uids = [{os.geteuid()}]\n"
    )
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "webd", "--config", str(folder / "webd.toml")],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=log,
            **how,  # type: ignore[call-overload]  # what a test varies
        )
    try:
        yield Webd(folder, port, process)
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Webd]:
    with started(folder, free_port()) as webd:
        await until(lambda: answers(webd.port), what="webd's port")
        yield webd


@pytest.fixture
async def webd(short_folder: Path, anyio_backend: object) -> AsyncIterator[Webd]:
    async with serving(short_folder) as webd:
        yield webd


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(webd: Webd, *headers: str, path: str = "/login") -> bytes:
    host = f"127.0.0.1:{webd.port}"
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        f"Origin: http://{host}",
        "Content-Type: application/json",
        *headers,
    )
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_body_of_300_mb_is_refused_and_not_kept(webd: Webd) -> None:
    before_kib = webd.resident_kib()
    whole = 300 * 1024 * 1024
    for headers in ((f"Content-Length: {whole}",), ("Transfer-Encoding: chunked",)):
        async with await trio.open_tcp_stream("127.0.0.1", webd.port) as stream:
            await stream.send_all(post(webd, *headers))
            sent = 0
            try:
                with trio.fail_after(30):
                    while sent < whole:
                        await stream.send_all(b"x" * 1_048_576)
                        sent += 1_048_576
            except trio.BrokenResourceError:
                pass
            assert sent < whole / 4, "webd went on reading"
        refused = await raw(webd.port, post(webd, *headers), b"x" * 1_000_000)
        assert refused.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 411 "))
    assert webd.resident_kib() - before_kib < 8 * 1024


async def test_a_slow_body_is_given_up(webd: Webd) -> None:
    drops: list[bytes | float] = [b"x", 0.1] * 20
    received = await raw(webd.port, post(webd, "Content-Length: 50"), *drops)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"request body took longer than 0.5 s" in received


async def test_only_http_1_1_is_spoken(webd: Webd) -> None:
    host = f"Host: 127.0.0.1:{webd.port}\r\n".encode()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    refused = {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
        b"PRI * HTTP/2.0\r\n" + host + b"\r\nSM\r\n\r\n": 505,
        b"GET / HTTP/1.1\r\n" + host + upgrade + b"\r\n": 400,
        b"GET / HTTP/1.0\r\n" + host + b"\r\n": 505,
        b"GET /\r\n\r\n": 400,
    }
    for request, status in refused.items():
        received = await raw(webd.port, request)
        assert received.startswith(b"HTTP/1.1 %d " % status), request
        assert b"\r\nHTTP/1.1 " not in received, "only one answer"


async def test_odd_methods_and_smuggled_requests_end_their_connection(webd: Webd) -> None:
    host = f"Host: 127.0.0.1:{webd.port}\r\n".encode()
    hidden = b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n"
    for request, status in (
        (b"CONNECT example.test:443 HTTP/1.1\r\n" + host + b"\r\n", 405),
        (b"TRACE / HTTP/1.1\r\n" + host + b"\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n", 405),
        (post(webd, "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (post(webd, "Content-Length: 4", "Content-Length: 5") + b"{}  ", 400),
        (post(webd, "Transfer-Encoding: chunked") + b"0\r\n\r\n", 411),
        (b"GET /healthz HTTP/1.1\r\n" + host + b"Content-Length: %d\r\n\r\n" % len(hidden), 400),
    ):
        received = await raw(webd.port, request + hidden)
        assert received.startswith(b"HTTP/1.1 %d " % status), (request, received[:60])
        assert b"\r\nHTTP/1.1 " not in received, "only one answer"
        assert b"ok\n" not in received
    assert (await Browser(webd.port).get("/healthz")).body == b"ok\n"


async def test_another_name_for_this_address_is_none(webd: Webd) -> None:
    for host in (f"rebind.test:{webd.port}", f"localhost.:{webd.port}", "127.0.0.1", "127.0.0.1:99999"):
        received = await raw(webd.port, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert received.startswith(b"HTTP/1.1 421 "), host


async def test_a_crowd_of_idle_connections_keeps_nobody_out(webd: Webd) -> None:
    async with trio.open_nursery() as nursery:
        idle = [await trio.open_tcp_stream("127.0.0.1", webd.port) for _ in range(300)]
        for stream in idle[:150]:
            nursery.start_soon(stream.send_all, b"GET / HT")
        assert (await Browser(webd.port).get("/healthz")).status == 200
        for stream in idle:
            nursery.start_soon(stream.aclose)


async def test_it_stops_at_once_though_a_reader_does_not_read(webd: Webd) -> None:
    browser = await webd.browser()
    async with browser.stream("hive") as frames:
        await frames.next("snapshot")
        async with await trio.open_tcp_stream("127.0.0.1", webd.port):
            webd.process.send_signal(signal.SIGTERM)
            assert (await frames.next("bye")).data == {"reason": "restart"}
        with trio.fail_after(STOP_S):
            assert await webd.ended() == 0


async def test_a_kill_loses_no_session(webd: Webd, short_folder: Path) -> None:
    browser = await webd.browser()
    webd.process.kill()
    await webd.ended()
    with started(short_folder, webd.port) as again:
        await until(lambda: answers(again.port), what="webd's port")
        assert (await browser.get("/api/state")).status == 200


async def test_a_port_that_somebody_holds_is_told_and_waited_for(short_folder: Path) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    with started(short_folder, port) as webd:
        async with Client(webd.socket) as client:
            conflict = f"port {port} is held by process {os.getpid()} ("

            async def told() -> bool:
                try:
                    return any(text.startswith(conflict) for text in (await client.call(Hello())).degraded)
                except Disconnected:
                    return False

            await until(told, what="the conflict")
            with pytest.raises(Refused, match="no link is made before") as refused:
                await client.call(MintLogin())
            assert refused.value.problem is Problem.CONFLICT
            assert refused.value.detail.startswith(conflict)
            holder.close()

            async def free() -> bool:
                return (await client.call(Hello())).degraded == ()

            await until(free, what="the port", deadline_ms=5_000)
            assert (await client.call(MintLogin())).url.startswith(f"http://127.0.0.1:{port}/")
        assert (await Browser(port).get("/healthz")).status == 200


HANDED_OVER = """
import os, sys
os.dup2(int(sys.argv[2]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
os.execv(sys.executable, [sys.executable, "-m", "webd", "--config", sys.argv[1]])
"""


async def test_a_socket_that_the_service_manager_holds_is_served_as_it_is(short_folder: Path) -> None:
    config = short_folder / "webd.toml"
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        config.write_text(f'run = "{short_folder}"\nstate = "{short_folder}/web"\nport = {port}\n')
        command = [sys.executable, "-c", HANDED_OVER, str(config), str(held.fileno())]
        async with trio.open_nursery() as nursery:
            run = partial(
                trio.run_process,
                command,
                cwd=ROOT,
                pass_fds=(held.fileno(),),
                stderr=subprocess.DEVNULL,
                check=False,
            )
            nursery.start_soon(run)
            assert (await Browser(port).get("/healthz")).status == 200
            nursery.cancel_scope.cancel()


async def test_settings_that_are_wrong_are_named_and_nothing_starts(short_folder: Path) -> None:
    config = short_folder / "webd.toml"
    config.write_text(f'run = "{short_folder}"\nstate = "{short_folder}"\nprot = 1\n')
    done = await trio.run_process(
        [sys.executable, "-m", "webd", "--config", str(config)], cwd=ROOT, check=False, capture_stderr=True
    )
    assert done.returncode == EXIT_SETTINGS
    assert b"webd.toml: unknown key `prot`" in done.stderr
