"""T12: an agent that does nothing but be refused costs its neighbours and the log no more than named bounds allow."""

from pathlib import Path

import pytest
import trio

from egressd import upstream
from egressd.policy.pace import REFUSALS_AT_ONCE_MAX, REFUSALS_PER_S_MAX
from egressd.upstream import LINKS_PER_AGENT_MAX
from protocol.egressd import EgressRefused
from protocol.limits import EGRESS_CONNECTIONS_MAX
from protocol.privd import CageChanged
from protocol.settings import AgentSettings
from runtime.folding import LINES_MAX
from runtime.listening import ACCEPTED_AT_ONCE_MAX, TURNED_AWAY_PAUSE_S
from tests.egressd.api import IRIS, SHORT_S, ModelWay, error, model_way, post, read_to_end, taken
from tests.egressd.conftest import Certificate, Record, cage_of, open_doors
from tests.support.daemon import running_service
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

FLOOD = REFUSALS_AT_ONCE_MAX + 2 * REFUSALS_PER_S_MAX
AT_LEAST_S = (FLOOD - REFUSALS_AT_ONCE_MAX) / REFUSALS_PER_S_MAX - 0.1


def lines_of(records: list[Record], event: str) -> list[Record]:
    return [one for one in records if one["event"] == event]


async def test_refused_requests_of_one_connection_are_answered_no_faster_than_the_bound(
    tmp_path: Path, certificate: Certificate, records: list[Record]
) -> None:
    refused = post(path="/v1/files", last=False)
    async with model_way(tmp_path, certificate, IRIS) as way, await way.connect() as stream:
        with way.news.events.subscribed() as told:
            began_s = trio.current_time()
            for _ in range(FLOOD):
                await stream.send_all(refused)
                while not (await stream.receive_some()).endswith(b"}}"):
                    pass
            assert trio.current_time() - began_s > AT_LEAST_S
            assert len([event for event in taken(told) if isinstance(event, EgressRefused)]) < 5
        assert b" 200 OK" in await way.ask(post())
    written = [one for one in lines_of(records, "model") if one["reason"]]
    assert 0 < len(written) <= 3 * LINES_MAX


@pytest.mark.parametrize(
    "said", [b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b""]
)
async def test_refused_connections_are_answered_no_faster_than_the_bound(
    tmp_path: Path, records: list[Record], said: bytes
) -> None:
    """The empty one leaves without a word."""
    async with running_service("egressd") as service:
        path = tmp_path / "iris" / "egress" / "egress.sock"
        path.parent.mkdir(parents=True)
        doors, _ = open_doors(tmp_path, service)
        doors.apply(CageChanged(cage_of(AgentSettings("iris"))))
        await until(path.exists, what="the egress socket")

        async def ask() -> None:
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(said)
                await stream.send_eof()
                await read_to_end(stream)

        began_s = trio.current_time()
        for _ in range(FLOOD // 10):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask)
        assert trio.current_time() - began_s > AT_LEAST_S
    assert 0 < len(lines_of(records, "egress")) <= 3 * LINES_MAX


async def test_a_neighbour_does_not_wait_for_the_turns_of_a_flood(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with model_way(tmp_path, certificate, IRIS) as way:
        gate = way.doors._ways["iris"].gate
        for _ in range(FLOOD * 100):
            gate.pace.wait_s(trio.current_time())
        otto = await neighbour(way)
        with trio.fail_after(10):
            async with await trio.open_unix_socket(str(otto)) as stream:
                await stream.send_all(post(path="/v1/files"))
                assert error(await read_to_end(stream))[0] == 403


async def test_requests_that_are_never_brought_to_an_end_keep_no_neighbour_from_the_account(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "LINKS_MAX", LINKS_PER_AGENT_MAX + 1)
    monkeypatch.setattr(upstream, "LINKS_WAIT_S", SHORT_S)
    begun = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"
    async with model_way(tmp_path, certificate, IRIS) as way:
        held = [await way.connect() for _ in range(LINKS_PER_AGENT_MAX + 1)]
        for stream in held[:-1]:
            await stream.send_all(begun)
        await until(lambda: way.api.connections == LINKS_PER_AGENT_MAX, what="every request at the API")
        await held[-1].send_all(begun + b"the body!")
        status, _, text = error(await read_to_end(held[-1]))
        assert (status, text) == (529, f"egress: {LINKS_PER_AGENT_MAX} requests of this agent are under way")
        async with await trio.open_unix_socket(str(await neighbour(way))) as stream:
            await stream.send_all(post())
            assert b" 200 OK" in await read_to_end(stream)
        for stream in held:
            await stream.aclose()


async def neighbour(way: ModelWay) -> Path:
    """The model socket of another agent of the same account."""
    socket = way.path.parents[2] / "otto" / "egress" / "model.sock"
    socket.parent.mkdir(parents=True)
    way.doors.apply(CageChanged(cage_of(AgentSettings("otto", credential=IRIS.credential))))
    await until(socket.exists, what="the neighbour's model socket")
    return socket


async def test_connections_past_the_last_place_are_let_in_slowly(
    tmp_path: Path, certificate: Certificate, records: list[Record]
) -> None:
    """Whoever holds every place and knocks on is turned away, now and then and not as fast as it can."""
    turned = 0
    async with model_way(tmp_path, certificate, IRIS) as way:
        held = [await way.connect() for _ in range(EGRESS_CONNECTIONS_MAX)]
        began_s = trio.current_time()

        async def knock() -> None:
            nonlocal turned
            while True:
                async with await way.connect() as stream:
                    turned += error(await read_to_end(stream))[0] == 529

        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(knock)
        assert turned > 0
        assert turned <= (trio.current_time() - began_s + 1) / TURNED_AWAY_PAUSE_S * ACCEPTED_AT_ONCE_MAX
        for stream in held:
            await stream.aclose()
    assert len(lines_of(records, "refused a connection")) <= 2 * LINES_MAX
