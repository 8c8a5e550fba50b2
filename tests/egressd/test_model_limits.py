"""Limits at a model socket: the account's, the hour's, and how many connections there are."""

from pathlib import Path

import pytest

from egressd import accounts
from protocol.egressd import AccountChanged, EgressRefused, Refusal
from protocol.settings import AgentSettings, Credential, EgressLimits
from tests.egressd.api import (
    IRIS,
    OK,
    changed,
    error,
    model_way,
    one_reply,
    post,
    taken,
)
from tests.egressd.conftest import Certificate

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024

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
        way.doors.apply(changed(IRIS))
        assert b" 200 OK" in await way.ask(post(body=b"x" * 11))
        way.doors.apply(changed(small))
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
            way.doors.apply(changed(IRIS))
            assert b" 200 OK" in await way.ask(post())
