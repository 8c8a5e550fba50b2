"""A model API that is broken, slow, somebody else or not to be reached: the agent is told so in the API's own words."""

import random
import secrets
from collections.abc import Callable
from pathlib import Path

import h11
import pytest
import trio

from egressd import accounts, upstream
from tests.egressd.api import (
    IRIS,
    OK,
    SHORT_S,
    FakeApi,
    Say,
    error,
    model_way,
    post,
)
from tests.egressd.conftest import Certificate, Record
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


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


async def test_a_reply_that_stalls_is_cut(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, records: list[Record]
) -> None:
    monkeypatch.setattr(upstream, "REPLY_IDLE_S", SHORT_S)
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst", b"never")
        assert (await way.ask(post(last=False))).endswith(b"\r\n\r\nfirst")
    (line,) = (one for one in records if one["event"] == "model")
    assert line["reason"] == "the model API said nothing for 0.2 s"


async def test_a_connection_that_the_api_closed_meanwhile_is_not_used_again(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        for number in range(1, 4):
            way.api.say = breaking_off_after(OK)
            assert b" 200 OK" in await way.ask(post())
            await until(hung_up(way.api, number), what="the API to hang up")
        assert way.api.connections == 3


def hung_up(api: FakeApi, times: int) -> Callable[[], bool]:
    return lambda: api.ended == times


async def test_an_old_idle_connection_is_not_used_again(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "IDLE_S", -1.0)
    async with model_way(tmp_path, certificate, IRIS) as way:
        for _ in range(2):
            assert b" 200 OK" in await way.ask(post())
        assert way.api.connections == 2


async def test_requests_of_one_account_at_a_time_are_bounded(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "LINKS_MAX", 1)
    monkeypatch.setattr(upstream, "LINKS_WAIT_S", SHORT_S)
    async with model_way(tmp_path, certificate, IRIS) as way:
        way.api.say = lambda _: (OK[:-1], OK[-1:])
        async with await way.connect() as first:
            await first.send_all(post(last=False))
            await first.receive_some()
            status, kind, text = error(await way.ask(post()))
            assert (status, kind) == (529, "overloaded_error")
            assert text == "egress: 1 requests of this account are under way"
            way.api.held.set()
            await read_to_end_of_reply(first)
        assert b" 200 OK" in await way.ask(post())


async def read_to_end_of_reply(stream: trio.SocketStream) -> None:
    while not (await stream.receive_some()).endswith(b"}"):
        pass


async def test_an_api_by_ipv6(tmp_path: Path, certificate: Certificate) -> None:
    async with model_way(tmp_path, certificate, IRIS, at="::1", host="[::1]") as way:
        assert b" 200 OK" in await way.ask(post())
        assert way.api.asked[0].values("host") == [f"[::1]:{way.api.port}"]


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


REPLIES = (
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 429 No\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n"),
    b"HTTP/1.1 204 \r\n",
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"),
    *(b"\r\n", b"\r\n", b"\r\n", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\x00", b"\n", b" ", OK, OK),
    *(b"retry-after: 1e9\r\n", b"anthropic-ratelimit-x-limit: -1\r\n", b"Set-Cookie: a\r\n", b"a" * 70_000),
)  # fmt: skip
ROUNDS = 150


async def test_whatever_an_api_says_an_agent_reads_one_reply_or_a_broken_one(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "REPLY_IDLE_S", SHORT_S)
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with model_way(tmp_path, certificate, IRIS) as way:
        for _ in range(ROUNDS):
            said = b"".join(chance.choices(REPLIES, k=chance.randint(1, 7)))
            way.api.say = breaking_off_after(said)
            answer = await way.ask(post())
            reader = h11.Connection(h11.CLIENT)
            reader.send(
                h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")])
            )
            reader.send(h11.EndOfMessage())
            reader.receive_data(answer)
            assert isinstance(reader.next_event(), h11.Response), (said, answer)
            assert b"et-cookie" not in answer
            while isinstance(event := reader.next_event(), h11.Data):
                pass
            ended = isinstance(event, h11.EndOfMessage)
            assert ended or event is h11.NEED_DATA, (said, answer)
            assert not reader.trailing_data[0], (said, answer)
        way.api.say = lambda _: OK
        monkeypatch.setattr(accounts, "PROBE_S", 0.0)
        way.news.accounts["default"].heard(200, (), trio.current_time())
        assert b" 200 OK" in await way.ask(post())


def breaking_off_after(said: bytes) -> Say:
    return lambda _: (said, None)
