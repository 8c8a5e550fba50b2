"""A model socket: what is passed on with the key, and what is answered here."""

from pathlib import Path

import pytest
import trio

from egressd import model, passing
from egressd.policy import passage
from egressd.policy.site import KeyKind
from protocol.egressd import EgressRefused, Refusal
from protocol.settings import AgentSettings, Credential
from tests.egressd.api import (
    IRIS,
    KEY,
    SHORT_S,
    Asked,
    changed,
    error,
    model_way,
    one_reply,
    post,
    read_to_end,
    taken,
)
from tests.egressd.conftest import Certificate, Record
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


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
            way.doors.apply(changed(AgentSettings("iris")))
            assert not way.path.exists()
            assert await read_to_end(stream) == b""
        assert proxy.stat().st_ino == inode
        await way.settle(IRIS)
        assert b" 200 OK" in await way.ask(post())
