"""T3: every request × every role at every socket. Whoever may not ask is refused before anything is done."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from brokerd.routes import AGENT_ROUTES, OPERATOR_ROUTES
from egressd.routes import ROUTES as EGRESSD_ROUTES
from privd.routes import ROUTES as PRIVD_ROUTES
from protocol import frames
from protocol.problem import Problem
from protocol.rpc import EVERY_ROLE, Caller, Request, Role, Route, Watch
from runtime.log import logger
from runtime.session import Session, Surface
from runtime.stopping import Stopping
from tests.support.dialogue import Dialogue, new_room
from tests.support.shapes import example, examples, requests
from webd.routes import ROUTES as WEBD_ROUTES

ALL = requests()
TABLES: dict[str, tuple[Sequence[Route[Any]], Role]] = {
    "privd": (PRIVD_ROUTES, Role.OPERATOR | Role.BROKER | Role.EGRESS),
    "brokerd, agents": (AGENT_ROUTES, Role.AGENT | Role.MANAGER),
    "brokerd, operator": (OPERATOR_ROUTES, Role.OPERATOR),
    "webd": (WEBD_ROUTES, Role.OPERATOR),
    "egressd": (EGRESSD_ROUTES, Role.OPERATOR | Role.BROKER),
}

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Untouchable:
    """A host that no refused request may so much as look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"a refused request touched {name}")


def recorded(route: Route[Any], done: list[str]) -> Route[Any]:
    """The route with a handler that says only that it was reached."""
    kind = route.request
    answer = msgspec.convert(examples(kind.answer_type())[0], kind.answer_type())

    async def act(request: Request, caller: Caller, host: object) -> Any:
        done.append(request.operation())
        return answer

    @asynccontextmanager
    async def watch(request: Request, caller: Caller, host: object) -> AsyncIterator[AsyncIterator[Any]]:
        async def events() -> AsyncIterator[Any]:
            yield answer

        done.append(request.operation())
        yield events()

    handler: Callable[..., Any] = watch if issubclass(kind, Watch) else act
    return msgspec.structs.replace(route, handler=handler)


async def ask(routes: Sequence[Route[Any]], role: Role, request: Request) -> Any:
    """The first thing that a session with these routes says to this request."""
    ours, theirs = memory_stream_pair()
    surface = Surface(routes, Untouchable(), canonical=True)
    session = Session(theirs, surface, Caller(role, 1000, "iris"), stopping=Stopping(), log=logger("test"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.serve)
        peer = Dialogue(ours, new_room(), Stopping())
        await peer.says(frames.encode_request(request))
        said = await peer.hears()
        await ours.aclose()
    return said


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
async def test_a_request_is_done_for_those_who_may_and_nobody_else(table: str, role: Role) -> None:
    routes, _ = TABLES[table]
    done: list[str] = []
    served = {route.request: route.callers for route in routes}
    recording = [recorded(route, done) for route in routes]
    for kind in ALL:
        done.clear()
        request = msgspec.convert(example(kind), kind)
        said = await ask(recording, role, request)
        if kind not in served:
            assert said["problem"] == Problem.MALFORMED, kind
            assert done == []
        elif role not in served[kind]:
            assert said["problem"] == Problem.DENIED, kind
            assert said["detail"].endswith(f"may not ask for {kind.operation()}")
            assert done == []
        else:
            assert "ok" in said, (kind, said)
            assert done == [kind.operation()]


@pytest.mark.parametrize("table", TABLES)
async def test_the_real_handlers_are_not_reached_by_others(table: str) -> None:
    routes, _ = TABLES[table]
    for route in routes:
        for role in EVERY_ROLE & ~route.callers:
            said = await ask(routes, role, msgspec.convert(example(route.request), route.request))
            assert said["problem"] == Problem.DENIED, (route.request, role)


@pytest.mark.parametrize("table", TABLES)
def test_a_socket_offers_nothing_to_roles_that_cannot_come_to_it(table: str) -> None:
    routes, roles = TABLES[table]
    assert {route.request for route in routes if route.callers & ~roles or not route.callers} == set()


def test_every_request_is_served_somewhere_and_once_at_each_socket() -> None:
    served = [route.request for routes, _ in TABLES.values() for route in routes]
    assert set(served) == set(ALL)
    for routes, _ in TABLES.values():
        assert len({route.request for route in routes}) == len(routes)


AGENTS_OWN = {
    "hello",
    "attach",
    "take_delivery",
    "extend_lease",
    "release_delivery",
    "begin_turn",
    "publish_events",
    "end_turn",
    "report_parked",
    "report_health",
    "watch_commands",
    "skip_delivery",
    "send",
    "recv",
    "read_receipt",
    "ask",
    "answer",
    "open_threads",
    "remind",
    "list_reminders",
    "cancel_reminder",
    "roll_up_reminders",
    "set_status",
    "who_am_i",
    "list_agents",
}
MANAGERS_OWN = {
    "request_init_config",
    "request_spawn",
    "request_apply_commit",
    "list_requests",
    "withdraw_request",
    "start_agent",
    "kill_agent",
    "restart_agent",
    "update_agent",
    "get_logs",
}


def test_what_an_agent_may_ask_is_this_and_no_more() -> None:
    """A second place to change on purpose: whatever is added here is in the hands of whoever takes over a cage."""
    offered = {
        role: {
            route.request.operation()
            for routes, _ in TABLES.values()
            for route in routes
            if role in route.callers
        }
        for role in (Role.AGENT, Role.MANAGER)
    }
    assert offered == {Role.AGENT: AGENTS_OWN, Role.MANAGER: AGENTS_OWN | MANAGERS_OWN}


def test_what_egressd_may_ask_of_root_is_this_and_no_more() -> None:
    assert {route.request.operation() for route in PRIVD_ROUTES if Role.EGRESS in route.callers} == {
        "hello",
        "watch_cages",
    }
