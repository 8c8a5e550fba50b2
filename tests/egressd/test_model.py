"""A model socket: what is passed on with the key, what is answered here, and how faults on either side end."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from egressd import accounts, model, passing, upstream
from egressd.policy import passage
from egressd.policy.site import KeyKind
from protocol.egressd import AccountChanged, EgressRefused, Refusal
from protocol.privd import CageChanged
from protocol.settings import AgentSettings, Credential, EgressLimits
from tests.egressd.api import KEY, OK, Asked, model_way, read_to_end, taken
from tests.egressd.conftest import Certificate, Record, cage_of
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

IRIS = AgentSettings("iris", credential=Credential.EGRESS)
SHORT_S = 0.2
MIB = 1024 * 1024


def post(
    *headers: str, body: bytes = b"{}", path: str = "/v1/messages?beta=true", last: bool = True
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, *(["Connection: close"] if last else []), "", ""]).encode() + body


def error(answer: bytes) -> tuple[int, str, str]:
    """Status, kind and text of an error in the API's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/json" in head.lower()
    told: dict[str, Any] = json.loads(body)
    assert told["type"] == "error"
    return int(head.split()[1]), told["error"]["type"], told["error"]["message"]


async def one_reply(stream: trio.SocketStream) -> bytes:
    """A reply of OK's length, on a connection that stays."""
    data = b""
    while not data.endswith(b"{}"):
        more = await stream.receive_some()
        assert more, data
        data += bytes(more)
    return data


async def test_a_request_goes_on_with_the_key_and_without_what_the_agent_had(
    tmp_path: Path, certificate: Certificate, records: list[Record]
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        answer = await way.ask(
            post(
                "Content-Type: application/json",
                "Anthropic-Version: 2023-06-01",
                "X-Stainless-Lang: js",
                "User-Agent: claude-cli/1",
                "Accept-Encoding: gzip, br",
                *(
                    "X-Api-Key: mine",
                    "Authorization: Bearer mine",
                    "Cookie: mine=1",
                    "Proxy-Authorization: mine",
                ),
                *("Anthropic-Auth-Token: mine", "X-Forwarded-For: mine", "TE: trailers", "Keep-Alive: mine"),
                body=b'{"model":"haiku"}',
            )
        )
        await until(lambda: [one for one in records if one["event"] == "model"], what="the line in the log")
        (asked,) = way.api.asked
        port = way.api.port
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n{}")
    assert asked.first_line == "POST /base/v1/messages?beta=true HTTP/1.1"
    assert asked.body == b'{"model":"haiku"}'
    assert sorted((name.lower(), value) for name, value in asked.headers) == [
        ("accept-encoding", "identity"),
        ("anthropic-version", "2023-06-01"),
        ("content-length", "17"),
        ("content-type", "application/json"),
        ("host", f"localhost:{port}"),
        ("user-agent", "claude-cli/1"),
        ("x-api-key", KEY),
        ("x-stainless-lang", "js"),
    ]
    (line,) = (one for one in records if one["event"] == "model")
    assert (line["agent"], line["account"], line["status"], line["path"]) == (
        "iris",
        "default",
        200,
        "/v1/messages",
    )
    assert (line["bytes_out"], line["bytes_in"]) == (17, 2)
    assert KEY not in str(records)


async def test_a_subscriptions_token_is_a_bearer_with_the_feature_it_needs(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS, kind=KeyKind.OAUTH) as way:
        await way.ask(post("Anthropic-Beta: one,two", "anthropic-beta: oauth-2025-04-20", "X-Api-Key: mine"))
        await way.ask(post())
        first, second = way.api.asked
    for asked in (first, second):
        assert asked.values("authorization") == [f"Bearer {KEY}"]
        assert asked.values("x-api-key") == []
    assert first.values("anthropic-beta") == ["one,two,oauth-2025-04-20"]
    assert second.values("anthropic-beta") == ["oauth-2025-04-20"]


async def test_connections_are_kept_on_both_sides(tmp_path: Path, certificate: Certificate) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        async with await way.connect() as stream:
            for _ in range(3):
                await stream.send_all(post(last=False))
                assert (await one_reply(stream)).startswith(b"HTTP/1.1 200 ")
        await way.ask(post())
        assert (len(way.api.asked), way.api.connections) == (4, 1)


async def test_a_request_sent_behind_another_is_answered_after_it(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        answer = await way.ask(post(last=False, body=b"first") + post(body=b"second"))
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert [asked.body for asked in way.api.asked] == [b"first", b"second"]


async def test_a_reply_is_streamed(tmp_path: Path, certificate: Certificate) -> None:
    def stream_of_events(asked: Asked) -> tuple[bytes, ...]:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + b"6\r\nfirst\n\r\n", b"7\r\nsecond\n\r\n0\r\n\r\n"

    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = stream_of_events
        async with await way.connect() as stream:
            await stream.send_all(post())
            begun = b""
            while b"first\n" not in begun:
                begun += bytes(await stream.receive_some())
            assert b"second" not in begun
            way.api.held.set()
            rest = await read_to_end(stream)
        assert rest.endswith(b"second\n\r\n0\r\n\r\n")


async def test_replies_lose_cookies_and_what_belongs_to_one_hop(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: (
            b"HTTP/1.1 200 OK\r\nRequest-Id: req_1\r\nSet-Cookie: a=b\r\nConnection: keep-alive, X-Hop\r\n"
            b"X-Hop: 1\r\nKeep-Alive: timeout=5\r\nAlt-Svc: h3\r\nContent-Length: 0\r\n\r\n"
        )
        head = (await way.ask(post())).lower()
    assert b"\r\nrequest-id: req_1\r\n" in head
    for gone in (b"cookie", b"x-hop", b"keep-alive", b"alt-svc"):
        assert gone not in head


@pytest.mark.parametrize(
    "first_line",
    [
        "GET /v1/messages",
        "POST /v1/messages/batches",
        "POST /v1/messages/",
        "POST /v1/files",
        "GET /v1/organizations/me",
        "GET /v1/models/../organizations",
        "GET /v1/models/a/b",
        "GET /v1/models/%2e%2e/x",
        "POST /v1/messages?a=/../x",
        "DELETE /v1/models",
        "OPTIONS /v1/messages",
        "CONNECT /v1/messages",
        "GET /",
        "POST /base/v1/messages",
        "POST /V1/messages",
    ],
)
async def test_other_paths_are_refused_as_the_api_would(
    tmp_path: Path, certificate: Certificate, first_line: str
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        with way.news.events.subscribed() as told:
            request = f"{first_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            status, kind, text = error(await way.ask(request.encode()))
            assert (status, kind) == (403, "permission_error")
            assert text.startswith(f"egress: {first_line} is not passed on, only POST /v1/messages")
            (refused,) = taken(told)
            assert isinstance(refused, EgressRefused)
            assert (refused.agent, refused.why, refused.times) == ("iris", Refusal.MODEL_PATH, 1)
        assert way.api.asked == []


@pytest.mark.parametrize("first_line", ["GET /v1/models", "GET /v1/models/claude-x-1?a=b"])
async def test_models_may_be_listed(tmp_path: Path, certificate: Certificate, first_line: str) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        request = f"{first_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        assert (await way.ask(request)).startswith(b"HTTP/1.1 200 ")
        assert [asked.values("x-api-key") for asked in way.api.asked] == [[KEY]]


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


async def test_chunks_go_on_as_chunks_without_their_trailers(
    tmp_path: Path, certificate: Certificate
) -> None:
    body = b"5;name=value\r\nhello\r\n1\r\n!\r\n0\r\nX-Api-Key: mine\r\n\r\n"
    head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n"
    async with model_way(tmp_path, certificate, IRIS) as way:
        assert b" 200 OK" in await way.ask(head + body)
        (asked,) = way.api.asked
    assert asked.values("transfer-encoding") == ["chunked"]
    assert asked.values("content-length") == []
    assert asked.body == b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"


async def test_a_body_has_a_bound(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage, "BODY_BYTES_MAX", 1000)
    monkeypatch.setattr(passing, "BODY_BYTES_MAX", 1000)
    chunked = (
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001
    )
    async with model_way(tmp_path, certificate, IRIS) as way:
        assert error(await way.ask(post(body=b"x" * 1001)))[:2] == (413, "request_too_large")
        assert error(await way.ask(chunked + b"\r\n0\r\n\r\n"))[:2] == (413, "request_too_large")
        assert way.api.asked == []
        assert b" 200 OK" in await way.ask(post(body=b"x" * 1000))


async def test_heads_have_a_bound_and_a_deadline(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "HEAD_S", SHORT_S)
    async with model_way(tmp_path, certificate, IRIS) as way:
        long = b"POST /v1/messages HTTP/1.1\r\nA: " + b"b" * passage.MODEL_HEAD_BYTES_MAX + b"\r\n\r\n"
        assert error(await way.ask(long))[0] == 431
        assert error(await way.ask(b"POST /v1/messages HTTP/1.1\r\nA: "))[0] == 408


async def test_idle_agents_are_let_go(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "KEPT_S", SHORT_S)
    monkeypatch.setattr(passing, "BODY_IDLE_S", SHORT_S)
    async with model_way(tmp_path, certificate, IRIS) as way:
        async with await way.connect() as stream:
            assert await read_to_end(stream) == b""
        async with await way.connect() as stream:
            await stream.send_all(post(body=b"0123456789")[:-5])
            assert await read_to_end(stream) == b""


async def test_an_agent_that_leaves_costs_nothing_more(tmp_path: Path, certificate: Certificate) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"too late!")
        stream = await way.connect()
        await stream.send_all(post())
        await stream.receive_some()
        await stream.aclose()
        with trio.fail_after(20):
            await way.api.left.wait()


async def test_an_api_may_answer_before_it_has_read_everything(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.early = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
        assert (await way.ask(post(body=b"x" * 1_000_000))).startswith(b"HTTP/1.1 401 ")
        way.api.left.set()


FAULTS = {
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
    "nothing": (None, "not whole"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "not HTTP"),
    "a huge head": (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", "not HTTP"),
    "another protocol": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        "not HTTP",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_api_is_a_502_that_may_be_tried_again(
    tmp_path: Path, certificate: Certificate, name: str
) -> None:
    said, why = FAULTS[name]
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: said
        answer = await way.ask(post())
        status, kind, text = error(answer)
        assert (status, kind) == (502, "api_error")
        assert why in text
        assert b"\r\nx-should-retry: true" in answer.lower()
        way.api.say = lambda _: OK
        assert b" 200 OK" in await way.ask(post())


async def test_a_reply_that_breaks_off_is_not_brought_to_a_false_end(
    tmp_path: Path, certificate: Certificate, records: list[Record]
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.held.set()
        way.api.say = lambda _: (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", b"zz\r\n"
        )  # fmt: skip
        answer = await way.ask(post(last=False))
        assert b"first" in answer
        assert not answer.endswith(b"0\r\n\r\n")
        await until(lambda: [one for one in records if one["event"] == "model"], what="the line in the log")
    (line,) = (one for one in records if one["event"] == "model")
    assert line["log_level"] == "warning"
    assert "not whole" in line["reason"]


async def test_a_silent_api_is_a_504(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "FIRST_BYTE_S", SHORT_S)
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: (b"", b"late")
        assert error(await way.ask(post()))[:2] == (504, "timeout_error")


async def test_an_api_that_is_not_who_it_should_be_never_sees_the_key(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.egressd.api.trusting", lambda _: upstream.trusting(None))
    async with model_way(tmp_path, certificate, IRIS) as way:
        status, kind, text = error(await way.ask(post()))
        assert (status, kind) == (502, "api_error")
        assert "its certificate is not trusted" in text
        assert way.api.asked == []


async def test_a_certificate_for_another_name_is_not_taken(tmp_path: Path, certificate: Certificate) -> None:
    async with model_way(tmp_path, certificate, IRIS, host="127.0.0.1") as way:
        assert b" 200 OK" in await way.ask(post())
    async with model_way(tmp_path / "other", certificate, IRIS, host="localhost.localdomain") as way:
        assert error(await way.ask(post()))[0] == 502
        assert way.api.asked == []


async def test_an_account_inside_needs_the_operators_word(tmp_path: Path, certificate: Certificate) -> None:
    async with model_way(tmp_path, certificate, IRIS, judged=True) as way:
        status, _, text = error(await way.ask(post()))
        assert (status, "its address is loopback" in text) == (502, True)


@pytest.mark.parametrize("content", [None, b"", b"two words", b"line\nline", b"\xff\xfe", b"x" * 5000])
async def test_a_key_that_cannot_be_used_is_said_and_a_new_one_counts_at_once(
    tmp_path: Path, certificate: Certificate, content: bytes | None
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.key_file.unlink() if content is None else way.key_file.write_bytes(content)
        status, kind, text = error(await way.ask(post()))
        assert (status, kind) == (403, "permission_error")
        assert "its key file cannot be" in text
        assert "its key file cannot be" in way.known()[1]
        way.key_file.write_text("sk-new")
        assert b" 200 OK" in await way.ask(post())
        assert [asked.values("x-api-key") for asked in way.api.asked] == [["sk-new"]]
        assert way.known() == (None, "")


async def test_an_account_that_nobody_set_up_is_refused_by_name(
    tmp_path: Path, certificate: Certificate
) -> None:
    other = AgentSettings("iris", credential=Credential.EGRESS, account="research")
    async with model_way(tmp_path, certificate, other) as way:
        status, _, text = error(await way.ask(post()))
        assert (status, text) == (403, "egress: this hive has no model account research; there are: default")


LIMITED = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Type: application/json\r\nContent-Length: 78\r\n"
    b'\r\n{"type":"error","error":{"type":"rate_limit_error","message":"Slow down now"}}'
)


async def test_a_limit_of_the_account_holds_back_its_next_requests(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: LIMITED
        with way.news.events.subscribed() as told:
            assert error(await way.ask(post()))[2] == "Slow down now"
            until_ms, detail = way.known()
            assert until_ms is not None
            assert detail == "Slow down now"
            assert [event for event in taken(told) if isinstance(event, AccountChanged)] == [
                AccountChanged(way.news.accounts["default"].known)
            ]
            answer = await way.ask(post(body=b"x" * 500_000))
            status, kind, text = error(answer)
        assert (status, kind) == (429, "rate_limit_error")
        assert text == f"egress: account default: usage limit reached|{until_ms // 1000} Slow down now"
        assert b"\r\nx-should-retry: false" in answer.lower()
        again_s = int(answer.lower().partition(b"\r\nretry-after: ")[2].split(b"\r\n")[0])
        assert 0 < again_s <= 3600
        assert len(way.api.asked) == 1


async def test_a_limited_connection_stays_usable(tmp_path: Path, certificate: Certificate) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: LIMITED
        await way.ask(post())
        async with await way.connect() as stream:
            for _ in range(2):
                await stream.send_all(post(last=False, body=b"x" * 100_000))
                answer = b""
                while not answer.endswith(b"}}"):
                    answer += bytes(await stream.receive_some())
                assert error(answer)[0] == 429
        assert len(way.api.asked) == 1


async def test_a_probe_goes_through_and_lifts_a_limit_that_is_over(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PROBE_S", 0.0)
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: LIMITED
        await way.ask(post())
        assert way.known()[0] is not None
        way.api.say = lambda _: OK
        assert b" 200 OK" in await way.ask(post())
        assert way.known() == (None, "")


async def test_the_hours_bytes_are_bounded_and_new_settings_count_at_once(
    tmp_path: Path, certificate: Certificate
) -> None:
    small = AgentSettings(
        "iris", credential=Credential.EGRESS, egress_limits=EgressLimits(out_mib_per_hour_max=1)
    )
    async with model_way(tmp_path, certificate, small) as way:
        with way.news.events.subscribed() as told:
            assert b" 200 OK" in await way.ask(post(body=b"x" * (MIB - 10)))
            status, kind, text = error(await way.ask(post(body=b"x" * 11)))
            assert (status, kind) == (429, "rate_limit_error")
            assert text == "egress: iris has used up its bytes of this hour"
            assert [event.why for event in taken(told) if isinstance(event, EgressRefused)] == [
                Refusal.VOLUME
            ]
        way.doors.apply(_changed(IRIS))
        assert b" 200 OK" in await way.ask(post(body=b"x" * 11))
        way.doors.apply(_changed(small))
        assert error(await way.ask(post(body=b"x" * 11)))[0] == 429, "the hour survived the change"
        assert len(way.api.asked) == 2


async def test_the_hours_bytes_bound_replies_too(tmp_path: Path, certificate: Certificate) -> None:
    small = AgentSettings(
        "iris", credential=Credential.EGRESS, egress_limits=EgressLimits(in_mib_per_hour_max=1)
    )
    async with model_way(tmp_path, certificate, small) as way:
        way.api.say = lambda _: (
            f"HTTP/1.1 200 OK\r\nContent-Length: {2 * MIB}\r\n\r\n".encode() + b"x" * (2 * MIB)
        )
        answer = await way.ask(post())
        assert MIB // 2 < len(answer) <= MIB + 1000


async def test_connections_at_once_are_bounded(tmp_path: Path, certificate: Certificate) -> None:
    small = AgentSettings("iris", credential=Credential.EGRESS, egress_limits=EgressLimits(connections_max=1))
    async with model_way(tmp_path, certificate, small) as way:
        async with await way.connect() as held:
            await held.send_all(post(last=False))
            await one_reply(held)
            with way.news.events.subscribed() as told:
                assert error(await way.ask(b""))[:2] == (529, "overloaded_error")
                assert [event.why for event in taken(told) if isinstance(event, EgressRefused)] == [
                    Refusal.CONNECTIONS
                ]
            way.doors.apply(_changed(IRIS))
            assert b" 200 OK" in await way.ask(post())


async def test_the_socket_is_there_only_while_the_settings_say_so(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        proxy = way.path.with_name("egress.sock")
        await until(proxy.exists, what="the proxy's socket")
        inode = proxy.stat().st_ino
        async with await way.connect() as stream:
            await stream.send_all(post(last=False))
            await one_reply(stream)
            way.doors.apply(_changed(AgentSettings("iris")))
            assert not way.path.exists()
            assert await read_to_end(stream) == b""
        assert proxy.stat().st_ino == inode
        await way.settle(IRIS)
        assert b" 200 OK" in await way.ask(post())


def _changed(settings: AgentSettings) -> CageChanged:
    return CageChanged(cage_of(settings))
