"""Who may ask for what: every request of the protocol at every socket of brokerd."""

import hashlib
from typing import Any

import msgspec
import pytest
import trio

from brokerd.routes import AGENT_ROUTES, OPERATOR_ROUTES
from protocol import agent, brokerd, managing, tools
from protocol.hello import Hello
from protocol.problem import Refused
from protocol.rpc import AGENTS, EVERY_ROLE, Caller, Request, Role
from runtime.session import Surface
from tests.brokerd.hive import Hive
from tests.support.shapes import example, requests

pytestmark = pytest.mark.anyio

SERVED = {
    "iris": {route.request for route in AGENT_ROUTES},
    "operator": {route.request for route in OPERATOR_ROUTES},
}
STRANGE = [
    (socket, request) for socket, served in SERVED.items() for request in requests() if request not in served
]


def declared(module: Any) -> set[type[Request]]:
    return {request for request in requests() if request.__module__ == module.__name__}


def test_every_request_that_is_declared_is_served_at_its_socket() -> None:
    shared = {
        tools.Send,
        tools.Answer,
        tools.Remind,
        tools.ListReminders,
        tools.CancelReminder,
        tools.RollUpReminders,
    }
    assert SERVED["iris"] == {*declared(agent), *declared(tools), *declared(managing), Hello}
    assert SERVED["operator"] == {*declared(brokerd), Hello, *shared}


def test_each_socket_is_for_its_own_callers() -> None:
    managers = {route.request for route in AGENT_ROUTES if route.callers == Role.MANAGER}
    assert managers == declared(managing)
    assert {route.callers for route in AGENT_ROUTES if route.request not in managers} == {AGENTS}
    assert {route.callers for route in OPERATOR_ROUTES} == {Role.OPERATOR}


@pytest.mark.parametrize("routes", [AGENT_ROUTES, OPERATOR_ROUTES], ids=["agent", "operator"])
def test_no_other_role_gets_past_the_role_stage(routes: Any) -> None:
    """Should a socket ever admit a caller of another role, the table still says no."""
    surface: Surface[Any] = Surface(routes, None)
    for route in routes:
        request = msgspec.convert(example(route.request), route.request)
        for role in EVERY_ROLE:
            if role & route.callers:
                assert surface.route(request, Caller(role, 1)) is route
            else:
                with pytest.raises(Refused, match="may not ask for"):
                    surface.route(request, Caller(role, 1))


async def answer(hive: Hive, socket: str, frame: bytes) -> dict[str, Any]:
    path = hive.settings.operator_socket if socket == "operator" else hive.settings.agent_socket(socket)
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(frame)
        said = b""
        while not said.endswith(b"\n"):
            said += await stream.receive_some(65_536)
    decoded: dict[str, Any] = msgspec.json.decode(said)
    return decoded


def stored(hive: Hive) -> bytes:
    """A digest of everything on disk."""
    digest = hashlib.sha256()
    for path in sorted((hive.folder / "broker").iterdir()):
        if not path.name.startswith("ballast") and not path.name.endswith("-shm"):
            digest.update(path.read_bytes())
    return digest.digest()


async def test_what_is_not_served_at_a_socket_is_refused_there_and_does_nothing(hive: Hive) -> None:
    await hive.snapshot()
    before = stored(hive)
    assert len(STRANGE) > 20
    for socket, request in STRANGE:
        frame = msgspec.json.encode(example(request)) + b"\n"
        refusal = await answer(hive, socket, frame)
        assert refusal["problem"] == "malformed", (socket, request)
        assert "not a request of this socket" in refusal["detail"]
    assert stored(hive) == before
