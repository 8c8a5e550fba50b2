"""One connection at an egress socket, with real sockets on both sides and a real TLS server behind."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from egressd.policy.target import Target
from protocol.limits import EGRESS_CONNECTIONS_MAX
from protocol.privd import Cage, CageChanged, CagesNow, Power
from protocol.settings import AgentSettings
from runtime.service import Service
from tests.egressd.conftest import Certificate, Record, echo_host, open_doors
from tests.support.daemon import running_service
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SHORT_S = 0.2


def cage(*hosts: str, power: Power = Power.RUNNING, uid: int | None = None) -> Cage:
    uid = os.geteuid() if uid is None else uid
    return Cage("iris", power, 0, "bwrap", uid, uid, AgentSettings("iris", egress_hosts=hosts))


class NoTunnel(Exception):
    """What was answered instead of 200."""


class WayOut:
    """iris's egress socket, and what stands behind it."""

    def __init__(self, folder: Path, service: Service, port: int) -> None:
        (folder / "iris" / "egress").mkdir(parents=True)
        self.path = folder / "iris" / "egress" / "egress.sock"
        self.service = service
        private = frozenset({Target("localhost", port), Target("127.0.0.1", port)})
        self.doors, self.news = open_doors(folder, service, private=private)

    async def allow(self, *hosts: str) -> None:
        self.doors.apply(CagesNow((cage(*hosts),)))
        await until(self.path.exists, what="the egress socket")

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.path)

    async def ask(self, request: bytes) -> bytes:
        """Send a request and read until the other side ends."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_to_end(stream)

    async def tunnel(self, target: str) -> trio.SocketStream:
        stream = await self.connect()
        await stream.send_all(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        answer = await stream.receive_some(200)
        if answer != b"HTTP/1.1 200 Connection Established\r\n\r\n":
            await stream.aclose()
            raise NoTunnel(answer)
        return stream


@asynccontextmanager
async def way_out(folder: Path, port: int = 443) -> AsyncIterator[WayOut]:
    async with running_service("egressd") as service:
        yield WayOut(folder, service, port)


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    try:
        while more := await stream.receive_some(64 * 1024):
            data += more
    except trio.BrokenResourceError:
        pass  # what we sent was not all read: the kernel says so after the answer
    return bytes(data)


def lines(records: list[Record]) -> list[Record]:
    return [record for record in records if record["event"] == "egress"]


async def test_an_allowed_host_is_reached_encrypted_end_to_end(
    tmp_path: Path, certificate: Certificate, records: list[Record]
) -> None:
    async with echo_host(certificate.server()) as port, way_out(tmp_path, port) as out:
        await out.allow(f"localhost:{port}")
        tunnel = await out.tunnel(f"localhost:{port}")
        stream = trio.SSLStream(tunnel, certificate.client(), server_hostname="localhost")
        async with stream:
            await stream.send_all(b"question")
            assert await stream.receive_some() == b"question"
        await until(lambda: lines(records), what="the line in the log")
    (line,) = lines(records)
    assert line["log_level"] == "info"
    assert (line["agent"], line["host"], line["port"]) == ("iris", "localhost", port)
    assert line["verdict"] == "connected"
    assert line["ended"] in ("closed", "lost")
    assert line["bytes_out"] > 500
    assert line["bytes_in"] > 500
    assert isinstance(line["ms"], int)
    assert line["uid"] == os.geteuid()


async def test_an_unlisted_host_is_refused_by_name(tmp_path: Path, records: list[Record]) -> None:
    async with way_out(tmp_path) as out:
        await out.allow("other.example.org")
        answer = await out.ask(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n\x16\x03\x01")
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"\r\nX-Hive-Problem: denied" in head
    assert b"\r\nConnection: close" in head
    assert body == b"egress: iris may not connect to example.org:443\n"
    (line,) = lines(records)
    assert line["log_level"] == "warning"
    assert (line["agent"], line["host"], line["port"], line["verdict"]) == (
        "iris",
        "example.org",
        443,
        "denied",
    )
    assert (line["bytes_out"], line["bytes_in"], line["ended"]) == (0, 0, None)


async def test_without_a_list_there_is_no_way_out(tmp_path: Path) -> None:
    async with echo_host() as port, way_out(tmp_path, port) as out:
        await out.allow()
        assert b" 403 " in await out.ask(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())


async def test_a_listed_name_that_leads_inside_is_refused(tmp_path: Path) -> None:
    async with echo_host() as port, way_out(tmp_path) as out:
        await out.allow(f"localhost:{port}", f"127.0.0.1:{port}")
        for host in ("localhost", "127.0.0.1"):
            answer = await out.ask(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert answer.endswith(
                f"egress: iris may not connect to {host}:{port}: its address is loopback\n".encode()
            )


@pytest.mark.parametrize(
    ("request_bytes", "status", "said"),
    [
        (
            b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
            405,
            "only CONNECT host:port is offered here, not GET",
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405, "not POST"),
        (b"CONNECT example.org HTTP/1.1\r\n\r\n", 400, "write host:port"),
        (b"\x00\x01\x02\n", 400, "CR LF"),
        (b"CONNECT a:1 HTTP/1.1\r\nA: " + b"b" * 9000, 431, "longer than 8192 bytes"),
    ],
)
async def test_other_requests_get_one_line_that_says_why(
    tmp_path: Path, request_bytes: bytes, status: int, said: str, records: list[Record]
) -> None:
    async with way_out(tmp_path) as out:
        await out.allow()
        answer = await out.ask(request_bytes)
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nX-Hive-Problem: malformed" in head
    assert (b"\r\nAllow: CONNECT" in head) == (status == 405)
    assert said.encode() in body
    assert body.count(b"\n") == 1
    assert body.endswith(b"\n")
    assert [line["verdict"] for line in lines(records)] == ["malformed"]


async def test_a_slow_head_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egressd.proxy.HEAD_S", SHORT_S)
    async with way_out(tmp_path) as out:
        await out.allow()
        async with await out.connect() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(drip, stream)
            answer = await read_to_end(stream)
            nursery.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"no whole request head within 0.2 s" in answer


async def drip(stream: trio.SocketStream) -> None:
    """One byte at a time: each would have put off a limit on silence alone."""
    for byte in b"CONNECT example.org:443 HTTP/1.1\r\nA: " + b"b" * 1000:
        try:
            await stream.send_all(bytes([byte]))
        except trio.BrokenResourceError:
            return
        await trio.sleep(SHORT_S / 20)


async def test_leaving_early_disturbs_nobody(tmp_path: Path, records: list[Record]) -> None:
    async with way_out(tmp_path) as out:
        await out.allow()
        for said in (b"", b"CONN"):
            async with await out.connect() as stream:
                await stream.send_all(said)
        await until(lambda: len(lines(records)) == 2, what="two lines in the log")
        assert b" 403 " in await out.ask(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n")
    assert [line["verdict"] for line in lines(records)] == ["left", "left", "denied"]


async def test_an_unreachable_host_is_502(tmp_path: Path, records: list[Record]) -> None:
    async with way_out(tmp_path) as out:
        await out.allow("no-such-host.invalid")
        answer = await out.ask(b"CONNECT no-such-host.invalid:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"X-Hive-Problem: failed" in answer
    assert b"egress: no-such-host.invalid:443 cannot be reached: the name does not resolve" in answer
    assert [line["verdict"] for line in lines(records)] == ["unreachable"]


async def test_one_agent_holds_a_bounded_number_of_connections(tmp_path: Path) -> None:
    async with echo_host() as port, way_out(tmp_path, port) as out:
        await out.allow(f"localhost:{port}")
        held = [await out.tunnel(f"localhost:{port}") for _ in range(EGRESS_CONNECTIONS_MAX)]
        answer = await out.ask(b"")
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"X-Hive-Problem: busy" in answer
        assert f"{EGRESS_CONNECTIONS_MAX} connections are open already".encode() in answer
        await held.pop().aclose()
        held.append(await until(lambda: tunnel_or_none(out, port), what="the free place"))
        for stream in held:
            await stream.send_all(b"still here")
            assert await stream.receive_some() == b"still here"
            await stream.aclose()


async def tunnel_or_none(out: WayOut, port: int) -> trio.SocketStream | None:
    try:
        return await out.tunnel(f"localhost:{port}")
    except NoTunnel:
        return None


async def test_megabytes_pass_both_ways_at_once(tmp_path: Path, records: list[Record]) -> None:
    block = os.urandom(1 << 20)
    async with echo_host() as port, way_out(tmp_path, port) as out:
        await out.allow(f"localhost:{port}")
        async with await out.tunnel(f"localhost:{port}") as stream:
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    for _ in range(8):
                        await stream.send_all(block)
                    await stream.send_eof()

                nursery.start_soon(send)
                assert await read_to_end(stream) == block * 8
        await until(lambda: lines(records), what="the line in the log")
    (line,) = lines(records)
    assert (line["bytes_out"], line["bytes_in"], line["ended"]) == (8 << 20, 8 << 20, "closed")


async def test_new_settings_end_the_tunnels_that_they_do_not_allow(
    tmp_path: Path, records: list[Record]
) -> None:
    async with echo_host() as port, way_out(tmp_path, port) as out:
        await out.allow(f"localhost:{port}", f"127.0.0.1:{port}")
        kept, cut = await out.tunnel(f"127.0.0.1:{port}"), await out.tunnel(f"localhost:{port}")
        out.doors.apply(CageChanged(cage(f"127.0.0.1:{port}")))
        assert await read_to_end(cut) == b""
        await kept.send_all(b"kept")
        assert await kept.receive_some() == b"kept"
        assert b" 403 " in await out.ask(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
        await kept.aclose()
        await cut.aclose()
    assert [line["ended"] for line in lines(records) if line["host"] == "localhost"] == ["revoked", None]


async def test_a_stop_ends_idle_tunnels_soon(tmp_path: Path, records: list[Record]) -> None:
    async with echo_host() as port:
        async with way_out(tmp_path, port) as out:
            await out.allow(f"localhost:{port}")
            tunnel, waiting = await out.tunnel(f"localhost:{port}"), await out.connect()
            out.service.stopping.set()
            assert await read_to_end(tunnel) == b""
            assert await read_to_end(waiting) == b""
            await tunnel.aclose()
            await waiting.aclose()
    assert sorted(str(line["ended"]) for line in lines(records)) == ["None", "stopped"]
    assert not out.path.exists()


@pytest.mark.root
async def test_another_uid_is_turned_away_before_a_byte(tmp_path: Path, records: list[Record]) -> None:
    async with way_out(tmp_path) as out:
        out.doors.apply(CagesNow((cage(uid=os.geteuid() + 1),)))
        await until(out.path.exists, what="the egress socket")
        assert await out.ask(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n") == b""
    assert [record["event"] for record in records if record.get("uid") == os.geteuid()] == [
        "turned a peer away"
    ]
    assert lines(records) == []
