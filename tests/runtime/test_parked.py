"""Connections without a task, over real sockets: the short way and every way back to the long one."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import structlog.testing
import trio
from msgspec import Meta
from trio.testing import wait_all_tasks_blocked

from protocol import frames
from protocol.limits import REPLY_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Call, Caller, Request, Role
from runtime.later import Later, light
from runtime.listening import Listening
from runtime.parked import READ_BYTES
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.support.daemon import running_service
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


class Say(Call[str], frozen=True):
    """Answered at once with its text."""

    text: Annotated[str, Meta(max_length=40_000)]


class Hang(Call[str], frozen=True):
    """Waits for `Host.bell`, as a long poll does."""

    waits: ClassVar[bool] = True


class Store(Call[str], frozen=True):
    """Waits for `Host.disk`, which nothing interrupts."""


class Fill(Call[str], frozen=True):
    """Answered with so many characters."""

    chars: int


class Fail(Call[None], frozen=True):
    """Meets a defect, or refuses."""

    refuses: bool = False


class Command(Call[str], frozen=True):
    """For the operator alone."""


class Heavy(Call[str], frozen=True):
    """Done by a task."""


class Host:
    """What the handlers act on."""

    def __init__(self) -> None:
        self.bell: Later[str] = Later()
        self.disk: Later[str] = Later(is_shielded=True)
        self.tasks: list[str] = []
        self.ended: list[str] = []


def task_name() -> str:
    return trio.lowlevel.current_task().name


@light
async def say(request: Say, caller: Caller, host: Host) -> str:
    host.tasks.append(task_name())
    return request.text


@light
async def hang(request: Hang, caller: Caller, host: Host) -> str:
    try:
        return await host.bell
    finally:
        host.ended.append("hang")


@light
async def store(request: Store, caller: Caller, host: Host) -> str:
    try:
        return await host.disk
    finally:
        host.ended.append("store")


@light
async def fill(request: Fill, caller: Caller, host: Host) -> str:
    return "x" * request.chars


@light
async def fail(request: Fail, caller: Caller, host: Host) -> None:
    if request.refuses:
        raise Refused(Problem.CONFLICT, "because")
    raise ZeroDivisionError("a secret detail")


@light
async def command(request: Command, caller: Caller, host: Host) -> str:
    raise AssertionError("nobody here may ask for this")


async def heavy(request: Heavy, caller: Caller, host: Host) -> str:
    await trio.lowlevel.checkpoint()
    host.tasks.append(task_name())
    return "done"


ROUTES = (
    Say.answered_by(say, callers=Role.AGENT),
    Hang.answered_by(hang, callers=Role.AGENT),
    Store.answered_by(store, callers=Role.AGENT),
    Fill.answered_by(fill, callers=Role.AGENT),
    Fail.answered_by(fail, callers=Role.AGENT),
    Command.answered_by(command, callers=Role.OPERATOR),
    Heavy.answered_by(heavy, callers=Role.AGENT),
)


class Peer:
    """One connection that has spoken once, and is parked."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._heard = b""

    async def says(self, *said: Request | bytes) -> None:
        await self.stream.send_all(
            b"".join(one if isinstance(one, bytes) else frames.encode_request(one) for one in said)
        )

    async def hears(self) -> Any:
        while b"\n" not in self._heard:
            data = await self.stream.receive_some()
            assert data, "the connection ended"
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    async def hears_the_end(self) -> None:
        assert await self.stream.receive_some() == b""


class Daemon:
    """A served socket."""

    def __init__(self, service: Service, path: Path) -> None:
        self.service = service
        self.host = Host()
        self.path = path
        self.listening: Listening = service.listen(
            bind_unix(path), Surface(ROUTES, self.host), lambda uid: Caller(Role.AGENT, uid, "iris")
        )

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        async with await trio.open_unix_socket(self.path) as stream:
            peer = Peer(stream)
            await peer.says(Say("hello"))
            assert await peer.hears() == {"ok": "hello"}
            await self.parked(1)
            self.host.tasks.clear()
            yield peer

    async def parked(self, number: int) -> None:
        await until(lambda: len(self.listening.parked) == number, what=f"{number} parked")


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[Daemon]:
    async with running_service() as service:
        served = Daemon(service, folder / "a.sock")
        yield served
        served.host.disk.tell("late")
    assert served.listening.connections == 0
    assert not served.listening.parked


async def test_a_small_request_has_no_task_of_its_own(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        for text in ("one", "", "zwei\n\u202e"):
            await peer.says(Say(text))
            assert await peer.hears() == {"ok": text}
        assert {"serve_sockets" in name for name in served.host.tasks} == {True}
        assert len(served.listening.parked) == 1


async def test_a_request_in_pieces_goes_the_long_way_and_back(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        said = frames.encode_request(Say("whole"))
        await peer.says(said[:9])
        await served.parked(0)
        await peer.says(said[9:])
        assert await peer.hears() == {"ok": "whole"}
        await served.parked(1)


async def test_a_long_request_goes_the_long_way_and_back(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Say("x" * 40_000))
        assert len((await peer.hears())["ok"]) == 40_000
        await served.parked(1)


async def test_a_request_that_fills_the_buffer_hides_nothing_behind_it(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        frame = frames.encode_request(Say("x" * (READ_BYTES - len(frames.encode_request(Say(""))))))
        assert len(frame) == READ_BYTES
        await peer.says(frame, Say("behind it"))
        assert len((await peer.hears())["ok"]) > READ_BYTES - 50
        assert await peer.hears() == {"ok": "behind it"}


async def test_another_kind_of_request_is_done_by_a_task(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Heavy())
        assert await peer.hears() == {"ok": "done"}
        assert not any("serve_sockets" in name for name in served.host.tasks)
        await peer.says(Say("again"))
        assert await peer.hears() == {"ok": "again"}
        await served.parked(1)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\n", "not JSON"),
        (b'{"op":"say"}\n', "missing required field"),
        (b'{"op":"say","text":"a"}\n{"op":"say","text":"b"}\n', "a second frame"),
        (b'{"op":"say","text":"a"}\nx', "a second frame"),
        (b"x" * 70_000, "longer than"),
    ],
)
async def test_what_is_no_request_is_refused_as_ever(tmp_path: Path, said: bytes, words: str) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(said)
        answer = await peer.hears()
        assert answer["problem"] == Problem.MALFORMED
        assert words in answer["detail"]
        assert served.host.tasks == []
        await until(lambda: served.listening.connections == 0, what="its end")


async def test_what_is_not_ones_own_is_denied(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Command())
        assert (await peer.hears())["problem"] == Problem.DENIED
        await peer.says(Say("still here"))
        assert await peer.hears() == {"ok": "still here"}


async def test_refusals_and_defects_are_told_and_end_nothing(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Fail(refuses=True))
        assert await peer.hears() == {"problem": "conflict", "detail": "because"}
        with structlog.testing.capture_logs() as records:
            await peer.says(Fail())
            answer = await peer.hears()
        assert answer["problem"] == Problem.INTERNAL
        assert "secret" not in answer["detail"]
        (record,) = (one for one in records if one["log_level"] == "error")
        assert record["incident"] in answer["detail"]
        await peer.says(Fill(REPLY_BYTES_MAX))
        assert (await peer.hears())["problem"] == Problem.LIMIT
        assert len(served.listening.parked) == 1


async def test_a_reply_that_is_not_taken_at_once_is_sent_by_a_task(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Fill(1_000_000))
        await served.parked(0)
        assert len((await peer.hears())["ok"]) == 1_000_000
        await peer.says(Say("and on"))
        assert await peer.hears() == {"ok": "and on"}
        await served.parked(1)


async def test_what_waits_is_answered_when_it_happens(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Hang())
        await wait_all_tasks_blocked(0.01)
        served.host.bell.tell("rung")
        assert await peer.hears() == {"ok": "rung"}
        await peer.says(Say("next"))
        assert await peer.hears() == {"ok": "next"}


@pytest.mark.parametrize("half", [False, True])
async def test_what_waits_is_given_up_when_its_peer_leaves(tmp_path: Path, half: bool) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Hang())
        await wait_all_tasks_blocked(0.01)
        await (peer.stream.send_eof() if half else peer.stream.aclose())
        await until(lambda: served.host.ended == ["hang"], what="its end")
        await until(lambda: served.listening.connections == 0, what="its place")


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_first_request_may_wait_and_is_given_up_like_any_other(tmp_path: Path, leaves: bool) -> None:
    async with daemon(tmp_path) as served, await trio.open_unix_socket(served.path) as stream:
        peer = Peer(stream)
        await peer.says(Hang())
        if leaves:
            await stream.aclose()
            await until(lambda: served.host.ended == ["hang"], what="its end")
        else:
            await served.parked(1)
            served.host.bell.tell("rung")
            assert await peer.hears() == {"ok": "rung"}


async def test_speaking_out_of_turn_ends_what_waits(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Hang())
        await wait_all_tasks_blocked(0.01)
        await peer.says(Say("impatient"))
        assert "a second frame" in (await peer.hears())["detail"]
        await until(lambda: served.listening.connections == 0, what="its end")
        assert served.host.ended == ["hang"]
        assert served.host.tasks == []


async def test_a_second_frame_during_work_waits_for_its_turn(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Store())
        await wait_all_tasks_blocked(0.01)
        await peer.says(Say("patient"))
        await wait_all_tasks_blocked(0.01)
        served.host.disk.tell("stored")
        assert await peer.hears() == {"ok": "stored"}
        assert await peer.hears() == {"ok": "patient"}


async def test_who_leaves_during_work_gives_up_nothing(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Store())
        await wait_all_tasks_blocked(0.01)
        await peer.stream.aclose()
        await wait_all_tasks_blocked(0.01)
        assert served.host.ended == []
        served.host.disk.tell("stored")
        await until(lambda: served.listening.connections == 0, what="its place")
        assert served.host.ended == ["store"]


async def test_a_half_closed_peer_still_gets_its_reply(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as peer:
        await peer.says(Store())
        await wait_all_tasks_blocked(0.01)
        await peer.stream.send_eof()
        await wait_all_tasks_blocked(0.01)
        served.host.disk.tell("stored")
        assert await peer.hears() == {"ok": "stored"}
        await peer.hears_the_end()


async def test_a_stop_ends_the_idle_refuses_what_waits_and_finishes_what_works(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as idle:
        async with (
            await trio.open_unix_socket(served.path) as one,
            await trio.open_unix_socket(served.path) as two,
        ):
            waits, works = Peer(one), Peer(two)
            for peer, request in ((waits, Hang()), (works, Store())):
                await peer.says(Say("x"))
                await peer.hears()
                await peer.says(request)
            await served.parked(3)
            await wait_all_tasks_blocked(0.01)
            served.service.stopping.set()
            await idle.hears_the_end()
            assert (await waits.hears())["problem"] == Problem.STOPPING
            await waits.hears_the_end()
            assert served.listening.connections == 1
            served.host.disk.tell("stored")
            assert await works.hears() == {"ok": "stored"}
            await works.hears_the_end()


async def test_closing_a_socket_ends_the_parked_at_once(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served, served.peer() as idle:
        async with await trio.open_unix_socket(served.path) as stream:
            waits = Peer(stream)
            await waits.says(Say("x"))
            await waits.hears()
            await waits.says(Hang())
            await served.parked(2)
            await wait_all_tasks_blocked(0.01)  # until it is heard
            served.listening.close()
            await idle.hears_the_end()
            await waits.hears_the_end()
        assert served.host.ended == ["hang"]
        assert served.listening.connections == 0


async def test_a_parked_peer_that_resets_is_gone(tmp_path: Path) -> None:
    async with daemon(tmp_path) as served:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(served.path))
            plain.sendall(frames.encode_request(Say("x")))
            await served.parked(1)
            plain.sendall(frames.encode_request(Say("y")))
        await until(lambda: served.listening.connections == 0, what="its end")
