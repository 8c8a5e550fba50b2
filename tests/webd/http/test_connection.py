"""One connection, as raw bytes say it: what is answered, what ends it, and what nobody waits for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from runtime.log import logger
from runtime.stopping import Stopping
from tests.webd.support.browser import raw
from webd.http import server
from webd.http.answers import TEXT, Answer, Asked, BodyFault, Send
from webd.http.connection import Connection, Patience
from webd.http.server import serve_port
from webd.policy.guard import Head, Turned

pytestmark = pytest.mark.anyio

GET = b"GET /hello HTTP/1.1\r\nHost: here\r\n\r\n"
LAST_GET = b"GET /hello HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
LOG = logger("test")
SOONER_THAN_IDLE_S = Patience().idle_s * 0.8
"""Less than an idle connection is kept anyway."""


class Place:
    """A small site: it echoes bodies, and feeds whoever asks for /feed until the stop."""

    def __init__(self, **patience: float) -> None:
        self.stopping = Stopping()
        self.patience = Patience(**patience)
        self.port = 0
        self.heads: list[Head] = []
        self.fed = trio.Event()
        self.feed_left = trio.Event()
        self.flood_ended = trio.Event()

    async def answer(self, asked: Asked) -> Answer:
        self.heads.append(asked.head)
        match asked.head.path:
            case "/feed":
                return Answer(200, self.feed, TEXT)
            case "/flood":
                return Answer(200, self.flood, TEXT)
            case "/unread":
                return Answer(200, b"without reading", TEXT)
            case "/empty":
                return Answer(204)
        if asked.head.method == "POST":
            try:
                return Answer(200, await asked.body(), TEXT)
            except BodyFault as fault:
                return self.turn_away(asked.head, Turned(fault.status, fault.reason))
        return Answer(200, b"hello", TEXT, (("x-own", "1"),))

    def turn_away(self, head: Head | None, turned: Turned) -> Answer:
        return Answer(turned.status, turned.reason.encode(), TEXT, ends_connection=True)

    async def feed(self, send: Send) -> None:
        await send(b"first\n")
        self.fed.set()
        try:
            with self.stopping.ends():
                await trio.sleep_forever()
        except trio.Cancelled:
            self.feed_left.set()
            raise
        await send(b"last\n")

    async def flood(self, send: Send) -> None:
        try:
            while True:
                await send(b"x" * 100_000)
        finally:
            self.flood_ended.set()


@asynccontextmanager
async def place(**patience: float) -> AsyncIterator[Place]:
    site = Place(**patience)
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    site.port = listener.socket.getsockname()[1]

    async def serve(stream: trio.SocketStream, place: server.Place) -> None:
        await Connection(
            stream,
            place,
            site.answer,
            patience=site.patience,
            standing=(("x-standing", "yes"), ("x-own", "never")),
            turn_away=site.turn_away,
            stopping=site.stopping,
            log=LOG,
        ).serve()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_port(listener, serve, stopping=site.stopping, log=LOG))
        yield site
        site.stopping.set()


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


async def test_requests_follow_one_another_on_one_connection() -> None:
    async with place() as site:
        received = await raw(site.port, GET, 0.02, GET, 0.02, LAST_GET)
    assert statuses(received) == [200, 200, 200]
    assert received.endswith(b"\r\n\r\nhello")


async def test_requests_sent_at_once_are_answered_in_order() -> None:
    post = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nping"
    async with place() as site:
        received = await raw(site.port, GET + post + LAST_GET)
    assert statuses(received) == [200, 200, 200]
    assert received.index(b"ping") < received.rindex(b"hello")


async def test_every_answer_says_what_stands_unless_it_says_otherwise() -> None:
    async with place() as site:
        received = await raw(site.port, LAST_GET)
    assert b"x-standing: yes" in received
    assert b"x-own: 1" in received
    assert b"never" not in received


async def test_head_is_get_without_its_body() -> None:
    async with place() as site:
        received = await raw(site.port, LAST_GET.replace(b"GET", b"HEAD"), b"")
        fed = await raw(site.port, b"HEAD /feed HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert b"content-length: 5" in received
    assert received.endswith(b"\r\n\r\n")
    assert fed.endswith(b"\r\n\r\n")


async def test_an_answer_without_content_has_no_length() -> None:
    async with place() as site:
        received = await raw(site.port, b"GET /empty HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert statuses(received) == [204]
    assert b"content-length" not in received


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nX: a\x00b\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: here\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: -4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 60_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 600 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
async def test_what_is_no_request_is_refused_and_ends_the_connection(request_bytes: bytes) -> None:
    async with place() as site:
        received = await raw(site.port, request_bytes + GET)
        assert site.heads == []
    assert statuses(received)[0] in (400, 431)
    assert len(statuses(received)) == 1
    assert b"connection: close" in received


async def test_a_head_that_does_not_end_is_given_up() -> None:
    async with place(head_s=0.1) as site:
        received = await raw(site.port, b"GET / HTTP/1.1\r\nHost: he")
    assert statuses(received) == [408]


async def test_a_silent_connection_is_let_go_of() -> None:
    async with place(idle_s=0.1) as site:
        assert await raw(site.port) == b""
        received = await raw(site.port, GET)
    assert statuses(received) == [200]


async def test_a_body_that_does_not_come_in_time_is_given_up() -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n"
    async with place(body_s=0.2) as site:
        received = await raw(site.port, head, b"a", 0.1, b"b", 0.1, b"c", 0.1, b"d")
    assert statuses(received) == [408]
    assert b"request body took longer than 0.2 s" in received


async def test_a_body_that_ends_early_is_a_bad_request() -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\nabc"
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(head)
            await stream.send_eof()
            received = b"".join([part async for part in stream])
    assert statuses(received) == [400]


async def test_a_browser_may_ask_before_it_sends_its_body() -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(head)
            with trio.fail_after(60):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(b"ping")
            with trio.fail_after(60):
                assert b"ping" in await stream.receive_some()


async def test_an_answer_before_the_body_arrives_whole_at_a_browser_that_goes_on_sending() -> None:
    head = b"POST /unread HTTP/1.1\r\nHost: here\r\nContent-Length: 2000000\r\n\r\n"
    async with place() as site:
        received = await raw(site.port, head + b"x" * 2_000_000)
    assert statuses(received) == [200]
    assert received.endswith(b"without reading")
    assert b"connection: close" in received


async def test_a_second_request_hidden_in_a_body_is_not_one() -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"
    head = b"POST /unread HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    async with place() as site:
        received = await raw(site.port, head + smuggled)
        assert [asked.path for asked in site.heads] == ["/unread"]
    assert statuses(received) == [200]


async def test_a_feed_ends_when_the_browser_leaves() -> None:
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(b"GET /feed HTTP/1.1\r\nHost: here\r\n\r\n")
            await site.fed.wait()
        with trio.fail_after(60):
            await site.feed_left.wait()


async def test_a_feed_says_its_last_word_at_the_stop() -> None:
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(b"GET /feed HTTP/1.1\r\nHost: here\r\n\r\n")
            await site.fed.wait()
            site.stopping.set()
            with trio.fail_after(60):
                received = b"".join([part async for part in stream])
    assert received.endswith(b"5\r\nlast\n\r\n0\r\n\r\n")


async def test_a_browser_that_stops_reading_is_cut() -> None:
    async with place(taken_s=0.2) as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
            with trio.fail_after(60):
                await site.flood_ended.wait()


async def test_the_stop_does_not_wait_for_a_browser_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "GRACE_S", 0.2)
    with trio.fail_after(60):
        async with place() as site:
            async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
                await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
                await stream.receive_some(1)
                site.stopping.set()
                await site.flood_ended.wait()


@pytest.mark.parametrize("bound", ["CONNECTIONS_MAX", "CONNECTIONS_PER_ADDRESS_MAX"])
async def test_whoever_has_waited_longest_gives_up_their_place(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(server, bound, 3)
    async with place() as site:
        idle = [await trio.open_tcp_stream("127.0.0.1", site.port) for _ in range(3)]
        for stream in reversed(idle):  # the last one asked first: it has waited longest
            await stream.send_all(GET)
            assert (await stream.receive_some()).endswith(b"hello")
        await idle[1].send_all(GET[:20])  # a head that never ends waits too
        with trio.fail_after(SOONER_THAN_IDLE_S):
            assert statuses(await raw(site.port, LAST_GET)) == [200]
            assert await idle[2].receive_some() == b""
        await idle[0].send_all(LAST_GET)
        with trio.fail_after(60):
            assert statuses(b"".join([part async for part in idle[0]])) == [200]
        for stream in idle:
            await stream.aclose()


async def test_whoever_does_not_read_its_answer_gives_up_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 1)
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
            received = b""
            with trio.fail_after(60):
                while statuses(received) != [200]:  # 503 until the kernel takes no more for it
                    received = await raw(site.port, LAST_GET)
                await site.flood_ended.wait()


async def test_a_newcomer_is_told_when_everybody_is_being_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 1)
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(b"GET /feed HTTP/1.1\r\nHost: here\r\n\r\n")
            await site.fed.wait()
            assert statuses(await raw(site.port, GET)) == [503]
        received = b""
        with trio.fail_after(60):
            while statuses(received) != [200]:
                received = await raw(site.port, LAST_GET)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 4\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nX: 1\r\ncontent-length : 4\r\n",
        b"Content-Length: 4, 4\r\n",
        b"Content-Length: 4,\r\n 4\r\n",
        b"X: 1\r\n folded\r\nContent-Length: 4\r\n",
    ],
)
async def test_a_length_said_twice_is_refused_even_when_it_is_the_same(lines: bytes) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: here\r\n" + lines + b"\r\nping"
    async with place() as site:
        assert statuses(await raw(site.port, request)) == [400]
        assert statuses(await raw(site.port, GET + request)) == [200, 400]
        assert statuses(await raw(site.port, request[:40], 0.01, request[40:])) == [400]
        assert not [asked for asked in site.heads if asked.path == "/echo"]


async def test_the_stop_does_not_wait_for_idle_connections() -> None:
    async with place() as site:
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(GET)
            await stream.receive_some()
            site.stopping.set()
            with trio.fail_after(SOONER_THAN_IDLE_S):
                assert await stream.receive_some() == b""
