"""The typed client against a real service: replies, refusals, and what it does when the daemon goes and comes."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol.limits import FRAME_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Call, Caller, Role
from runtime.client import IDLE_CONNECTIONS_MAX, Client, Disconnected
from runtime.listening import Listening
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.support.daemon import running_service
from tests.support.dialogue import ROUTES, Break, Count, Echo, Refuse, Room, Secret, Wait, Work, new_room
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0


class Once(Call[str], frozen=True):
    """What may not be sent twice."""

    repeatable = False


async def once(request: Once, caller: Caller, room: Room) -> str:
    room.heard.append("once")
    return "done"


class Daemon:
    """A service at a socket, and what its handlers saw."""

    def __init__(self, service: Service, path: Path, role: Role, *, connections_max: int = 1_000) -> None:
        self.service = service
        self.room = new_room()
        surface = Surface((*ROUTES, Once.answered_by(once, callers=Role.OPERATOR)), self.room)
        self.listening: Listening = service.listen(
            bind_unix(path),
            surface,
            lambda uid: Caller(role, uid),
            connections_max=connections_max,
            connections_per_uid_max=connections_max,
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


@asynccontextmanager
async def daemon(
    path: Path, role: Role = Role.OPERATOR, *, connections_max: int = 1_000
) -> AsyncIterator[Daemon]:
    async with running_service() as service:
        yield Daemon(service, path, role, connections_max=connections_max)
    path.unlink()


async def test_a_call_returns_the_reply(path: Path) -> None:
    async with daemon(path), Client(path) as client:
        assert await client.call(Echo("hello")) == "hello"
        assert await client.call(Work(0.0)) == 1


async def test_a_refusal_is_raised_with_its_code(path: Path) -> None:
    async with daemon(path, Role.AGENT), Client(path) as client:
        with pytest.raises(Refused, match="conflict: because"):
            await client.call(Refuse(Problem.CONFLICT))
        with pytest.raises(Refused, match="denied: agent may not ask for secret"):
            await client.call(Secret())
        with pytest.raises(Refused, match="internal: incident "):
            await client.call(Break())
        assert await client.call(Echo("still here")) == "still here"


async def test_connections_are_kept_and_bounded(path: Path) -> None:
    async with daemon(path) as serving, Client(path) as client:
        for _ in range(10):
            await client.call(Echo("x"))
        assert serving.listening.connections == 1
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(client.call, Work(0.05))
            await until(lambda: serving.listening.connections == 30, what="thirty connections")
        await until(
            lambda: serving.listening.connections <= IDLE_CONNECTIONS_MAX, what="the rest to be closed"
        )


async def test_a_cancelled_call_leaves_no_answer_to_the_next(path: Path) -> None:
    async with daemon(path), Client(path) as client:
        for _ in range(20):
            with trio.move_on_after(0.001):
                await client.call(Echo("not heard"))
            assert await client.call(Echo("heard")) == "heard"


async def test_nobody_answers(path: Path) -> None:
    async with Client(path) as client:
        with pytest.raises(Disconnected, match=r"a\.sock: nobody answers"):
            await client.call(Echo("x"))
        with pytest.raises(Disconnected, match="nobody answers"):
            async with client.watch(Count()):
                pass


async def test_patience_waits_for_a_daemon_that_comes_later(path: Path) -> None:
    async with Client(path) as client, trio.open_nursery() as nursery:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await client.call(Echo("early"), patience_s=PATIENCE_S))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with daemon(path):
            await until(lambda: answers, what="the answer")
    assert answers == ["early"]


async def test_patience_has_an_end(path: Path) -> None:
    async with Client(path) as client:
        began = trio.current_time()
        with pytest.raises(Disconnected):
            await client.call(Echo("x"), patience_s=0.2)
        assert trio.current_time() - began < PATIENCE_S


async def test_a_restart_of_the_daemon_is_not_noticed(path: Path) -> None:
    async with Client(path) as client:
        for request, answer in ((Echo("x"), "x"), (Once(), "done"), (Echo("y"), "y")):
            async with daemon(path):
                async with trio.open_nursery() as nursery:
                    for _ in range(4):  # several idle connections, all of them dead after the restart
                        nursery.start_soon(client.call, Work(0.01))
                assert await client.call(request) == answer


@asynccontextmanager
async def hanging_up(path: Path, answer: bytes = b"") -> AsyncIterator[Callable[[], int]]:
    """A listener that hangs up on everybody, after `answer`; tells how many came."""
    came = 0
    async with bind_unix(path) as listener, trio.open_nursery() as nursery:

        async def accept() -> None:
            nonlocal came
            while True:
                stream = await listener.accept()
                came += 1
                await stream.receive_some(1)
                await stream.send_all(answer)
                await stream.aclose()

        nursery.start_soon(accept)
        yield lambda: came
        nursery.cancel_scope.cancel()
    path.unlink()


async def test_what_may_be_repeated_is_asked_again_and_the_rest_is_not(path: Path) -> None:
    async with hanging_up(path) as came, Client(path) as client:
        with pytest.raises(Disconnected, match="the connection was lost"):
            await client.call(Once(), patience_s=1.0)
        assert came() == 1
        with pytest.raises(Disconnected, match="the connection was lost"):
            await client.call(Echo("x"), patience_s=0.5)
        assert came() > 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"hello\n", "the daemon's answer is not a reply"),
        (b'{"ok":1}\n', "the answer to echo is not what was declared"),
        (b'{"ok":"\xff"}\n', "not a reply|not what was declared"),
        (b"[" * 100_000 + b"\n", "the daemon's answer is not a reply"),
    ],
)
async def test_an_answer_that_was_not_declared_is_a_defect_of_the_daemon(
    path: Path, answer: bytes, words: str
) -> None:
    async with hanging_up(path, answer), Client(path) as client:
        with pytest.raises(Refused, match=words) as caught:
            await client.call(Echo("x"))
        assert caught.value.problem is Problem.INTERNAL


async def test_a_busy_daemon_is_asked_again(path: Path) -> None:
    async with daemon(path, connections_max=1) as serving, Client(path) as first, Client(path) as second:
        assert await first.call(Echo("x")) == "x"
        with pytest.raises(Refused, match="busy: 1 connections are open already"):
            await second.call(Echo("y"))
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await trio.testing.wait_all_tasks_blocked(0.05)
                await first.__aexit__(None, None, None)

            nursery.start_soon(leave)
            assert await second.call(Echo("y"), patience_s=PATIENCE_S) == "y"
        assert serving.listening.connections == 1


async def test_a_refusal_that_comes_before_all_was_sent_is_heard(path: Path) -> None:
    async with daemon(path), Client(path) as client:
        with pytest.raises(Refused, match=f"longer than {FRAME_BYTES_MAX} bytes"):
            await client.call(Echo("x" * 5_000_000))


async def test_a_crowd_at_the_door_is_let_in(path: Path) -> None:
    async with daemon(path):
        answers: list[str] = []

        async def ask() -> None:
            async with Client(path) as client:
                answers.append(await client.call(Echo("x")))

        async with trio.open_nursery() as nursery:
            for _ in range(900):
                nursery.start_soon(ask)
    assert len(answers) == 900


async def test_a_watch_gives_events_until_it_is_left(path: Path) -> None:
    async with daemon(path) as serving, Client(path) as client:
        async with client.watch(Count(3)) as events:
            assert [await anext(events) for _ in range(3)] == [0, 1, 2]
            assert serving.room.watching == 1
        await until(lambda: serving.room.watching == 0, what="the watch to end")
        assert serving.listening.connections == 0


async def test_a_watch_ends_as_the_daemon_says(path: Path) -> None:
    async with daemon(path) as serving, Client(path) as client:
        serving.room.bell.set()
        async with client.watch(Count(1, "refused")) as events:
            assert await anext(events) == 0
            with pytest.raises(Refused, match="limit: you fell behind"):
                await anext(events)
        async with client.watch(Count(1)) as events:
            assert await anext(events) == 0
            with pytest.raises(Disconnected):
                await anext(events)


async def test_a_stop_ends_watches_and_long_polls_with_its_reason(path: Path) -> None:
    async with Client(path) as client, daemon(path) as serving, trio.open_nursery() as nursery:

        async def poll() -> None:
            with pytest.raises(Refused, match="stopping: "):
                await client.call(Wait())

        nursery.start_soon(poll)
        async with client.watch(Count(1)) as events:
            assert await anext(events) == 0
            serving.service.stopping.set()
            with pytest.raises(Refused, match=r"stopping: .* watch again from where you were"):
                await anext(events)


async def test_a_socket_that_is_no_daemon_is_not_mistaken_for_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(path))
        async with Client(path) as client:
            with pytest.raises(Disconnected, match="nobody answers"):
                await client.call(Echo("x"))
