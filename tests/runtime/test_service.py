"""The life of a daemon: who gets in, how it stops, and how loudly it dies. The process tests start real processes."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio

from protocol.problem import Problem, Refused
from protocol.rpc import Call, Caller, Role
from runtime.client import Client, Disconnected
from runtime.listening import Listening
from runtime.service import EXIT_DEFECT, LIFELINE, Service
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.support.daemon import running_service
from tests.support.dialogue import ROUTES, Count, Echo, Wait, Work, new_room
from tests.support.waiting import until

CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.anyio


def operator(uid: int) -> Caller:
    return Caller(Role.OPERATOR, uid)


def listen(service: Service, path: Path, **bounds: int) -> Listening:
    return service.listen(bind_unix(path), Surface(ROUTES, new_room()), operator, **bounds)


# admission


async def test_a_peer_that_is_nobody_here_gets_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with structlog.testing.capture_logs() as records:
        async with running_service() as service:
            service.listen(bind_unix(path), Surface(ROUTES, new_room()), lambda uid: None)
            async with await trio.open_unix_socket(path) as stream:
                assert await stream.receive_some() == b""
    assert [(one["event"], one["uid"]) for one in records] == [("turned a peer away", os.getuid())]


async def test_an_admission_that_fails_ends_one_connection(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    answers: list[Caller | None] = [operator(0)]

    def admit(uid: int) -> Caller | None:
        return answers.pop()

    with structlog.testing.capture_logs() as records:
        async with running_service() as service:
            service.listen(bind_unix(path), Surface(ROUTES, new_room()), admit)
            async with Client(path) as client, Client(path) as other:
                assert await client.call(Echo("in")) == "in"
                with pytest.raises(Disconnected):
                    await other.call(Echo("out"))
                assert await client.call(Echo("still in")) == "still in"
    assert [one["event"] for one in records] == ["a connection met a defect"]


@pytest.mark.parametrize("bounds", [{"connections_max": 3}, {"connections_per_uid_max": 3}])
async def test_connections_have_a_bound(tmp_path: Path, bounds: dict[str, int]) -> None:
    path = tmp_path / "a.sock"
    async with running_service() as service:
        listening = listen(service, path, **bounds)
        clients = [Client(path) for _ in range(4)]
        for client in clients[:3]:
            assert await client.call(Echo("in")) == "in"
        with pytest.raises(Refused, match="3 connections are open already, 3 of them yours") as caught:
            await clients[3].call(Echo("out"))
        assert caught.value.problem is Problem.BUSY
        await clients[0].__aexit__(None, None, None)
        await until(lambda: listening.connections == 2, what="a place")
        assert await clients[3].call(Echo("in")) == "in"
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_closing_one_socket_leaves_the_others(tmp_path: Path) -> None:
    async with running_service() as service:
        closed = listen(service, tmp_path / "closed.sock")
        listen(service, tmp_path / "open.sock")
        async with Client(tmp_path / "closed.sock") as away, Client(tmp_path / "open.sock") as here:
            async with away.watch(Count(1)) as events:
                assert await anext(events) == 0
                closed.close()
                with pytest.raises(Disconnected):
                    await anext(events)
            with pytest.raises(Disconnected):
                await away.call(Echo("x"))
            assert await here.call(Echo("x")) == "x"
        assert closed.connections == 0


async def test_a_closed_socket_is_forgotten(tmp_path: Path) -> None:
    """Agents come and go for months."""
    async with running_service() as service:
        stays = listen(service, tmp_path / "stays.sock")
        for _ in range(3):
            listen(service, tmp_path / "goes.sock").close()
        assert service._listenings == {stays}


async def test_what_is_kept_about_a_uid_goes_with_its_last_connection(tmp_path: Path) -> None:
    async with running_service() as service:
        listening = listen(service, tmp_path / "a.sock")
        for _ in range(3):
            async with Client(tmp_path / "a.sock") as client:
                await client.call(Echo("x"))
        await until(lambda: listening.connections == 0, what="the end of the connections")


# stopping


async def test_idle_clients_never_hold_a_stop(tmp_path: Path) -> None:
    async with Client(tmp_path / "a.sock") as spoke, running_service() as service:
        listen(service, tmp_path / "a.sock")
        await spoke.call(Echo("x"))
        silent = await trio.open_unix_socket(tmp_path / "a.sock")
        half = await trio.open_unix_socket(tmp_path / "a.sock")
        async with silent, half:
            await half.send_all(b'{"op":')
            with trio.fail_after(60):
                service.stopping.set()
                assert await silent.receive_some() == b""
                with suppress(trio.BrokenResourceError):  # so the kernel says that it was not read
                    assert await half.receive_some() == b""


async def test_a_stop_ends_what_waits_and_finishes_what_works(tmp_path: Path) -> None:
    answers: list[object] = []
    async with Client(tmp_path / "a.sock") as client, trio.open_nursery() as nursery:
        async with running_service() as service:
            listening = listen(service, tmp_path / "a.sock")

            async def ask(request: Call[Any]) -> None:
                try:
                    answers.append(await client.call(request))
                except Refused as refused:
                    answers.append(refused.problem)

            nursery.start_soon(ask, Wait())
            nursery.start_soon(ask, Work(0.3))
            await until(lambda: listening.connections == 2, what="both requests")
            service.stopping.set()
            await until(lambda: answers == [Problem.STOPPING], what="the waiting one to end")
        assert not nursery.cancel_scope.cancel_called
    assert answers == [Problem.STOPPING, 1]


async def test_a_service_that_failed_lets_nobody_in(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async with Client(tmp_path / "a.sock") as client:
        with pytest.raises(ExceptionGroup):  # noqa: PT012 - whatever ends the block, it is the task's end
            async with running_service() as service:
                listen(service, tmp_path / "a.sock")
                await client.call(Echo("x"))
                service.start_background(fail, name="doomed")
                await trio.sleep_forever()
        with pytest.raises(Disconnected):
            await client.call(Echo("x"))
    with pytest.raises(OSError, match="refused"):
        await trio.open_unix_socket(tmp_path / "a.sock")


async def test_a_background_task_that_fails_ends_the_service(tmp_path: Path) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("dead")

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="dead")):
        async with running_service() as service:
            service.start_background(fail, name="doomed")
            await trio.sleep_forever()


# as a process


class Process:
    """The small daemon as a process, and the records of its log."""

    def __init__(self, folder: Path, behaviour: str, environment: dict[str, str], **how: Any) -> None:
        self.path = folder / "a.sock"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tests.support.small_daemon", str(self.path), behaviour],
                cwd=CHECKOUT,
                stderr=log,
                env={**os.environ, **environment},
                **how,
            )

    async def ended(self) -> int:
        return await trio.to_thread.run_sync(self.popen.wait, 20)

    async def stopped_by(self, number: signal.Signals) -> int:
        self.popen.send_signal(number)
        return await self.ended()

    def records(self) -> list[MutableMapping[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def said(self, event: str) -> list[MutableMapping[str, Any]]:
        return [record for record in self.records() if record["event"] == event]


@asynccontextmanager
async def process(
    folder: Path, behaviour: str = "", environment: dict[str, str] | None = None, **how: Any
) -> AsyncIterator[Process]:
    started = Process(folder, behaviour, environment or {}, **how)
    try:
        yield started
    finally:
        started.popen.kill()
        started.popen.wait()


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_told_daemon_stops_well(tmp_path: Path, number: signal.Signals) -> None:
    async with process(tmp_path) as daemon:
        await until(lambda: daemon.said("ready"), what="the daemon")
        async with Client(daemon.path) as client:
            assert await client.call(Echo("x")) == "x"
            assert await daemon.stopped_by(number) == 0
    assert [record["resource"] for record in daemon.said("opened")] == ["first", "second"]
    assert [record["resource"] for record in daemon.said("closed")] == ["second", "first"]
    assert [record["event"] for record in daemon.records()][-1] == "stopped"
    assert daemon.said("stopping")[0]["signal"] == number.name


@pytest.mark.whole
async def test_a_daemon_finishes_its_work_before_it_closes_what_it_opened(tmp_path: Path) -> None:
    async with process(tmp_path) as daemon:
        await until(lambda: daemon.said("ready"), what="the daemon")
        answers: list[int] = []
        async with Client(daemon.path) as client, trio.open_nursery() as nursery:

            async def ask() -> None:
                answers.append(await client.call(Work(0.5)))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.1)
            daemon.popen.send_signal(signal.SIGTERM)
            await until(lambda: daemon.said("stopping"), what="the stop")
            assert daemon.said("closed") == []
            daemon.popen.send_signal(signal.SIGTERM)  # impatience changes nothing
        assert answers == [1]
        assert await daemon.ended() == 0


@pytest.mark.whole
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("main fails", "main met a defect"), ("background fails", "a background task met a defect")],
)
async def test_nothing_dies_quietly(tmp_path: Path, behaviour: str, words: str) -> None:
    async with process(tmp_path, behaviour) as daemon:
        assert await daemon.ended() == EXIT_DEFECT
    (record,) = daemon.said("the daemon ended by a defect")
    assert record["level"] == "critical"
    assert words in record["exception"]
    assert "small_daemon.py" in record["exception"]
    assert [one["resource"] for one in daemon.said("closed")] in ([], ["second", "first"])


@pytest.mark.whole
async def test_a_background_task_may_end_when_it_is_done(tmp_path: Path) -> None:
    async with process(tmp_path, "background returns") as daemon:
        await until(lambda: daemon.said("ready"), what="the daemon")
        async with Client(daemon.path) as client:
            assert await client.call(Echo("x")) == "x"
        assert await daemon.stopped_by(signal.SIGTERM) == 0


@pytest.mark.whole
async def test_a_daemon_ends_with_its_supervisor(tmp_path: Path) -> None:
    async with process(tmp_path, environment={LIFELINE: "1"}, stdin=subprocess.PIPE) as daemon:
        await until(lambda: daemon.said("ready"), what="the daemon")
        assert daemon.popen.stdin is not None
        daemon.popen.stdin.close()
        assert await daemon.ended() == 0
    assert daemon.said("the supervisor is gone: stopping")


@pytest.mark.whole
async def test_a_service_manager_is_kept_informed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        async with process(tmp_path, environment=environment) as daemon:
            told = [await trio.to_thread.run_sync(manager.recv, 100) for _ in range(4)]
            assert await daemon.stopped_by(signal.SIGTERM) == 0
        manager.setblocking(False)
        while told[-1] != b"STOPPING=1":
            told.append(manager.recv(100))
    assert b"READY=1" in told[:2]
    assert told.count(b"WATCHDOG=1") >= 2


@pytest.mark.whole
async def test_a_daemon_without_descriptors_keeps_the_old_and_recovers(tmp_path: Path) -> None:
    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    async with process(tmp_path, preexec_fn=few_descriptors) as daemon:
        await until(lambda: daemon.said("ready"), what="the daemon")
        async with Client(daemon.path) as old:
            assert await old.call(Echo("old")) == "old"
            crowd = [await trio.open_unix_socket(daemon.path) for _ in range(40)]
            await until(lambda: daemon.said("cannot accept a connection"), what="the exhaustion")
            assert await old.call(Echo("still here")) == "still here"
            for stream in crowd:
                await stream.aclose()
            async with Client(daemon.path) as new:
                assert await new.call(Echo("new"), patience_s=20) == "new"
        assert len(daemon.said("cannot accept a connection")) < 20
        assert await daemon.stopped_by(signal.SIGTERM) == 0
