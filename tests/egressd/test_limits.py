"""How much one agent moves by tunnels, how many it has, and what watchers are told when it is turned away."""

import socket
from pathlib import Path

import pytest
import trio

from egressd.policy.scope import Scope, parse_rule
from egressd.policy.target import Target
from protocol.egressd import EgressRefused, Refusal
from protocol.privd import CageChanged, CageGone, CagesNow, Power
from protocol.settings import AgentSettings, Credential, EgressLimits
from runtime.service import Service
from tests.egressd.api import read_to_end, taken
from tests.egressd.conftest import cage_of, echo_host, open_doors
from tests.support.daemon import running_service
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"


class Way:
    """iris's proxy, behind it an echo on this machine."""

    def __init__(self, folder: Path, service: Service, port: int) -> None:
        self.port = port
        self.path = folder / "iris" / "egress" / "egress.sock"
        self.path.parent.mkdir(parents=True)
        private = frozenset({Target("localhost", port), Target("::1", port)})
        hive = Scope((parse_rule(f"localhost:{port}"),))
        self.doors, self.news = open_doors(folder, service, hive=hive, private=private)

    async def settle(self, settings: AgentSettings) -> None:
        self.doors.apply(CageChanged(cage_of(settings)))
        await until(self.path.exists, what="the egress socket")

    async def ask(self, target: str) -> bytes:
        async with await trio.open_unix_socket(self.path) as stream:
            await stream.send_all(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode("utf-8", "surrogateescape"))
            return await read_to_end(stream)

    async def tunnel(self, host: str = "localhost") -> trio.SocketStream:
        stream = await trio.open_unix_socket(self.path)
        await stream.send_all(f"CONNECT {host}:{self.port} HTTP/1.1\r\n\r\n".encode())
        assert await stream.receive_some() == ESTABLISHED
        return stream


def limited(**limits: int) -> AgentSettings:
    return AgentSettings("iris", egress_limits=EgressLimits(**limits))


async def echoed(stream: trio.SocketStream, count: int) -> int:
    """Send bytes through the echo; how many came back before the tunnel ended."""
    came = 0
    async with trio.open_nursery() as nursery:

        async def say() -> None:
            try:
                await stream.send_all(b"x" * count)
                await stream.send_eof()
            except trio.BrokenResourceError:
                return  # the tunnel has ended, which the reader sees

        nursery.start_soon(say)
        came = len(await read_to_end(stream))
    return came  # noqa: RET504 — the nursery may end by an exception before it is set


@pytest.mark.parametrize("direction", ["out", "in"])
async def test_the_hours_bytes_end_a_tunnel_and_refuse_the_next(tmp_path: Path, direction: str) -> None:
    async with echo_host() as port, running_service("egressd") as service:
        way = Way(tmp_path, service, port)
        await way.settle(limited(**{f"{direction}_mib_per_hour_max": 1}))
        with way.news.events.subscribed() as told:
            async with await way.tunnel() as stream:
                assert await echoed(stream, MIB) == MIB
            assert taken(told) == []
            refused = await way.ask(f"localhost:{port}")
            assert refused.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert b"X-Hive-Problem: limit" in refused
            assert b"egress: iris has used up its bytes of this hour; again in " in refused
            (event,) = taken(told)
            assert isinstance(event, EgressRefused)
            assert (event.why, event.host, event.port) == (Refusal.VOLUME, "localhost", port)


async def test_a_tunnel_carries_what_is_left_of_the_hour_and_no_more(tmp_path: Path) -> None:
    async with echo_host() as port, running_service("egressd") as service:
        way = Way(tmp_path, service, port)
        await way.settle(limited(out_mib_per_hour_max=2))
        async with await way.tunnel() as first, await way.tunnel() as second:
            both = [0, 0]
            async with trio.open_nursery() as nursery:

                async def carry(which: int, stream: trio.SocketStream) -> None:
                    both[which] = await echoed(stream, 2 * MIB)

                nursery.start_soon(carry, 0, first)
                nursery.start_soon(carry, 1, second)
        assert MIB < sum(both) <= 2 * MIB


async def test_neither_new_settings_nor_a_new_cage_begin_a_new_hour(tmp_path: Path) -> None:
    async with echo_host() as port, running_service("egressd") as service:
        way = Way(tmp_path, service, port)
        await way.settle(limited(out_mib_per_hour_max=1))
        async with await way.tunnel() as stream:
            await echoed(stream, MIB)
        await way.settle(limited(out_mib_per_hour_max=2))
        async with await way.tunnel() as stream:
            assert await echoed(stream, 1000) == 1000
        way.doors.apply(CageChanged(cage_of(limited(), Power.KEPT)))
        assert not way.path.exists()
        way.doors.apply(CagesNow((cage_of(limited(), Power.KEPT),)))
        await way.settle(limited(out_mib_per_hour_max=1))
        assert (await way.ask(f"localhost:{port}")).startswith(b"HTTP/1.1 429 ")
        way.doors.apply(CageGone("iris"))
        await way.settle(limited(out_mib_per_hour_max=1))
        async with await way.tunnel() as stream:
            assert await echoed(stream, 1000) == 1000


async def test_fewer_connections_count_at_once(tmp_path: Path) -> None:
    async with echo_host() as port, running_service("egressd") as service:
        way = Way(tmp_path, service, port)
        await way.settle(limited(connections_max=3))
        held = [await way.tunnel() for _ in range(3)]
        with way.news.events.subscribed() as told:
            refused = await way.ask(f"localhost:{port}")
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"egress: iris has 3 connections open, at most 3 are allowed" in refused
            (event,) = taken(told)
            assert isinstance(event, EgressRefused)
            assert event.why is Refusal.CONNECTIONS
        way.doors.apply(CageChanged(cage_of(limited(connections_max=1))))
        for cut in held[1:]:
            assert await read_to_end(cut) == b""
        await held[0].send_all(b"the oldest stays")
        assert await held[0].receive_some() == b"the oldest stays"
        for stream in held:
            await stream.aclose()


@pytest.mark.parametrize(
    ("target", "why", "host", "port"),
    [
        ("evil.example:443", Refusal.NOT_ALLOWED, "evil.example", 443),
        ("EVIL.example:8443", Refusal.NOT_ALLOWED, "evil.example", 8443),
        ("[2001:db8::1]:443", Refusal.NOT_ALLOWED, "2001:db8::1", 443),
        ("127.1:80", Refusal.MALFORMED, "127.1:80", 0),
        ("http://evil.example", Refusal.MALFORMED, "http://evil.example", 0),
        ("\x1b[2Jx:1", Refusal.MALFORMED, "\\x1b[2Jx:1", 0),
    ],
)
async def test_watchers_are_told_who_was_turned_away(
    tmp_path: Path, target: str, why: Refusal, host: str, port: int
) -> None:
    async with running_service("egressd") as service:
        way = Way(tmp_path, service, 443)
        await way.settle(AgentSettings("iris"))
        with way.news.events.subscribed() as told:
            for _ in range(3):
                assert (await way.ask(target)).startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
            (event,) = taken(told)
        assert isinstance(event, EgressRefused)
        assert (event.agent, event.why, event.port, event.times) == ("iris", why, port, 1)
        assert event.host == host


async def test_a_name_that_leads_inside_is_told_as_that(tmp_path: Path) -> None:
    async with running_service("egressd") as service:
        way = Way(tmp_path, service, 443)
        await way.settle(AgentSettings("iris", egress_hosts=("localhost:8443",)))
        with way.news.events.subscribed() as told:
            assert b" 403 " in await way.ask("localhost:8443")
            (event,) = taken(told)
        assert isinstance(event, EgressRefused)
        assert (event.why, event.host, event.port) == (Refusal.LEADS_INSIDE, "localhost", 8443)


async def test_names_that_are_not_listed_are_not_even_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question to a resolver carries data to whoever answers for the name."""
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise OSError(None, "asked")

    async with running_service("egressd") as service:
        way = Way(tmp_path, service, 443)
        await way.settle(AgentSettings("iris", egress_hosts=("*.listed.example",)))
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        for name in ("stolen-data.evil.example", "listed.example", "a.listed.example.evil.example"):
            assert b" 403 " in await way.ask(f"{name}:443")
        assert b" 403 " in await way.ask("a.listed.example:53")
        assert asked == []
        assert b" 502 " in await way.ask("a.listed.example:443")
        assert asked == ["a.listed.example"]


async def test_an_agent_without_a_key_has_no_tunnel_to_the_model_api(tmp_path: Path) -> None:
    async with echo_host() as port, running_service("egressd") as service:
        way = Way(tmp_path, service, port)
        await way.settle(AgentSettings("iris"))
        tunnel = await way.tunnel()
        way.doors.apply(CageChanged(cage_of(AgentSettings("iris", credential=Credential.EGRESS))))
        assert await read_to_end(tunnel) == b"", "the tunnel ends with the right to it"
        assert b" 403 " in await way.ask(f"localhost:{port}")
        await tunnel.aclose()


async def test_a_tunnel_by_ipv6(tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="::1")
    port = listener.socket.getsockname()[1]

    async def say_hello(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, say_hello, [listener])
        async with running_service("egressd") as service:
            way = Way(tmp_path, service, port)
            await way.settle(AgentSettings("iris"))
            assert b" 403 " in await way.ask(f"[::1]:{port}")
            await way.settle(AgentSettings("iris", egress_hosts=(f"[0:0::1]:{port}",)))
            async with await way.tunnel("[::1]") as stream:
                assert await read_to_end(stream) == b"hello"
        nursery.cancel_scope.cancel()
