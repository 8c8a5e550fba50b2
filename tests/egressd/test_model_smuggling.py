"""Requests that two readers could read differently, at a model socket: nothing hides behind another request."""

import random
import secrets
from pathlib import Path

import pytest
import trio

from protocol.egressd import EgressRefused, Refusal
from tests.egressd.api import (
    IRIS,
    KEY,
    model_way,
    post,
    read_to_end,
    taken,
)
from tests.egressd.conftest import Certificate

pytestmark = pytest.mark.anyio


HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = {
    "length and chunks": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n0\r\n\r\n",
    "chunks and length": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"
    b"\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "the same length twice": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 44\r\n\r\n",
    "a signed length": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n",
    "a length in hex": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n",
    "a length in other digits": "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: ٠\r\n\r\n".encode(),
    "an empty length": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    "two codings": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding twice": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an odd coding": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nA: b\r\n Content-Length: 44\r\n\r\n",
    "a bare line feed": b"POST /v1/messages HTTP/1.1\r\nHost: x\nContent-Length: 44\r\n\r\n",
    "a bare carriage return": b"POST /v1/messages HTTP/1.1\r\nHost: x\rContent-Length: 44\r\n\r\n",
    "a NUL": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "no name": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n: 44\r\n\r\n",
    "two hosts": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\n",
    "no host": b"POST /v1/messages HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "a place elsewhere": b"POST http://169.254.169.254/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "another host as path": b"POST //evil.example/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    "everything": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "an upgrade": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "clear-text HTTP/2": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "HTTP/2 outright": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.0": b"POST /v1/messages HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "a space in the path": b"GET /v1/models x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header in the path": b"GET /v1/models?a=b%0d%0aX:1 HTTP/1.1\nX: 1\r\nHost: x\r\n\r\n",
    "a body of a GET": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\n\r\n",
    "an expectation": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\nExpect: 100-continue\r\n\r\n",
    "a chunk of no size": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk that is too long": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    "a negative chunk": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "bytes": bytes(range(256)),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_two_readers_could_read_differently_is_refused(
    tmp_path: Path, certificate: Certificate, name: str
) -> None:
    """And the request that hides behind it is never asked."""
    async with model_way(tmp_path, certificate, IRIS) as way:
        with way.news.events.subscribed() as told:
            answer = await way.ask(SMUGGLED[name] + HIDDEN)
            status = int(answer.split()[1])
            assert status in (400, 403, 417), answer
            assert answer.count(b"HTTP/1.1 4") == 1, answer
            assert {event.why for event in taken(told) if isinstance(event, EgressRefused)} == {
                Refusal.MALFORMED
            }
        await way.ask(post())  # egressd goes on, and nothing came before this
        assert [asked.first_line for asked in way.api.asked] == ["POST /base/v1/messages?beta=true HTTP/1.1"]


PIECES = (
    *(b"POST /v1/messages HTTP/1.1\r\n", b"GET /v1/models HTTP/1.1\r\n", b"POST /v1/files HTTP/1.1\r\n"),
    b"Host: x\r\n",
    *(b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: 47\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"X-Api-Key: mine\r\n", b"Authorization: Bearer mine\r\n", b"Connection: close\r\n", b"\r\n", b"\r\n", b"\r\n"),
    *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"hello", b"\n", b"\r", b" ", b"\t", b"\x00", b":", b"\xff", HIDDEN),
    *(post(last=False), post(last=False, body=b"hello"), post("Transfer-Encoding: chunked"), post("Content-Length: 2")),
)  # fmt: skip
ROUNDS = 150


async def test_whatever_is_put_together_the_api_reads_whole_requests(
    tmp_path: Path, certificate: Certificate
) -> None:
    """Random pieces, each round on a connection of its own, all of them over the API's few kept ones."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with model_way(tmp_path, certificate, IRIS) as way:
        for _ in range(ROUNDS):
            said = b"".join(chance.choices(PIECES, k=chance.randint(1, 9)))
            async with await way.connect() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(send_all_of, stream, said)
                answer = await read_to_end(stream)
            for reply in answer.split(b"HTTP/1.1 ")[1:]:
                assert reply[:3].isdigit(), (said, answer)
        assert b" 200 OK" in await way.ask(post(body=b"the last one"))
        assert way.api.asked[-1].body == b"the last one"
        for asked in way.api.asked:
            assert asked.first_line in {
                "POST /base/v1/messages HTTP/1.1",
                "POST /base/v1/messages?beta=true HTTP/1.1",
                "GET /base/v1/models HTTP/1.1",
            }, asked
            assert "mine" not in str(asked.headers)
            assert len(asked.values("content-length")) + len(asked.values("transfer-encoding")) == 1
            assert asked.values("x-api-key") == [KEY]


async def send_all_of(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
        await stream.send_eof()
    except trio.BrokenResourceError:
        return  # turned away before it was all said
