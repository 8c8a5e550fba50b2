"""Running a CLI through the real spawner: prompt in, lines out, and every way in which it can refuse to end."""

import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from harness import cli
from harness.cli import Command, Ended, run_cli
from harness.policy.outcomes import Stop
from harness.spawn import NotStarted, Spawner, SpawnerFault, spawner_from_environment
from harness.stop import TurnStop
from runtime.log import logger
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LOG = logger("test")


class Taken:
    """The lines as they came; a line may ask for the end."""

    def __init__(self, stop: TurnStop, end_at: bytes = b"") -> None:
        self.lines: list[bytes] = []
        self.skipped = 0
        self._stop = stop
        self._end_at = end_at

    def line(self, untrusted_line: bytes) -> None:
        self.lines.append(untrusted_line)
        if self._end_at and untrusted_line == self._end_at:
            self._stop.ask(Stop.OPERATOR)

    def too_long(self) -> None:
        self.skipped += 1


@asynccontextmanager
async def spawning() -> AsyncIterator[tuple[Spawner, trio.Process]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-I", "-m", "harness.spawner"]
        environment = {"HIVE_SPAWNER_FD": str(theirs.fileno())}
        process = await trio.lowlevel.open_process(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=-3
        )
    spawner = spawner_from_environment({"HIVE_SPAWNER_FD": str(ours.detach())}, LOG)
    try:
        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(spawner.serve)
                yield spawner, process
                nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        spawner._pair.close()


def python(code: str) -> Command:
    return Command((sys.executable, "-I", "-c", code), {"LANG": "C.UTF-8"}, "/")


async def run(code: str, prompt: str = "", end_at: bytes = b"") -> tuple[Ended, Taken]:
    stop = TurnStop()
    taken = Taken(stop, end_at)
    async with spawning() as (spawner, _):
        ended = await run_cli(spawner, python(code), prompt, taken, stop)
    return ended, taken


async def test_the_prompt_goes_in_and_lines_come_out() -> None:
    prompt = "é" * 600_000  # far more than a pipe holds
    code = "import sys; d = sys.stdin.read(); print(len(d)); print(d[:2], flush=True); print('rest', end='')"
    ended, taken = await run(code, prompt)
    assert ended == Ended(0, "")
    assert taken.lines == [b"600000", "éé".encode(), b"rest"]


async def test_the_end_of_stderr_is_kept() -> None:
    code = "import sys; sys.stderr.write('x' * 100_000 + 'the reason'); sys.exit(3)"
    ended, _ = await run(code)
    assert ended.exit_code == 3
    assert ended.stderr_tail.endswith("xxthe reason")
    assert len(ended.stderr_tail) == cli.STDERR_BYTES_MAX


async def test_a_line_without_end_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "LINE_BYTES_MAX", 200_000)
    code = "print('a'); print('b' * 900_000); print('c'); print('d' * 900_000, end='')"
    _, taken = await run(code)
    assert taken.lines == [b"a", b"c"]
    assert taken.skipped == 2


@pytest.mark.parametrize(
    ("traps", "code"),
    [
        ("", -signal.SIGINT),
        ("for n in (signal.SIGINT,): signal.signal(n, signal.SIG_IGN)", -signal.SIGTERM),
        ("for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)", -signal.SIGKILL),
    ],
)
async def test_the_end_is_firm(monkeypatch: pytest.MonkeyPatch, traps: str, code: int) -> None:
    quick = tuple((number, 0.3) for number, _ in cli.ESCALATION)
    monkeypatch.setattr(cli, "ESCALATION", quick)
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        f"{traps}\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    ended, _ = await run(program, end_at=b"up")
    assert ended.exit_code == code


async def test_the_whole_group_is_interrupted() -> None:
    code = (
        "import subprocess, sys, signal\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "waits = 'import signal; print(\"up\", flush=True); signal.pause()'\n"
        "child = subprocess.Popen([sys.executable, '-c', waits])\n"
        "print(child.wait(), flush=True)\n"
    )
    _, taken = await run(code, end_at=b"up")
    assert taken.lines[0] == b"up"
    assert taken.lines[1] in {b"-2", b"1"}


async def test_a_program_that_was_left_behind_does_not_hold_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "DRAIN_S", 0.2)
    code = "import os, time\nif os.fork() == 0: time.sleep(30)\nelse: print('done', flush=True)"
    with trio.fail_after(10):
        ended, taken = await run(code)
    assert ended.exit_code == 0
    assert taken.lines == [b"done"]


async def test_a_run_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "TURN_S_MAX", 0.3)
    stop = TurnStop()
    async with spawning() as (spawner, _):
        ended = await run_cli(spawner, python("import time; time.sleep(30)"), "", Taken(stop), stop)
    assert stop.reason is Stop.DEADLINE
    assert ended.exit_code != 0


async def test_a_cancelled_run_leaves_no_program() -> None:
    stop = TurnStop()
    async with spawning() as (spawner, process):
        with trio.move_on_after(1.0):
            await run_cli(spawner, python("import time; time.sleep(30)"), "", Taken(stop), stop)
        await until(lambda: not children(process.pid), what="the program to be gone")


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (("/nonexistent/claude",), "/", "No such file"),
        ((sys.executable,), "/nonexistent", "No such file"),
        ((sys.executable, "x" * 70_000), "/", "at most 65536"),
    ],
)
async def test_what_cannot_be_started_says_why(argv: tuple[str, ...], cwd: str, words: str) -> None:
    stop = TurnStop()
    async with spawning() as (spawner, _):
        ended = await run_cli(spawner, Command(argv, {}, cwd), "", Taken(stop), stop)
        assert ended.exit_code is None
        assert words in ended.stderr_tail
        good = await run_cli(spawner, python("print('still here')"), "", taken := Taken(stop), stop)
    assert good.exit_code == 0
    assert taken.lines == [b"still here"]


async def test_many_programs_at_once() -> None:
    codes: dict[int, int | None] = {}

    async def one(spawner: Spawner, number: int) -> None:
        stop = TurnStop()
        codes[number] = (
            await run_cli(spawner, python(f"raise SystemExit({number})"), "", Taken(stop), stop)
        ).exit_code

    async with spawning() as (spawner, _), trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one, spawner, number)
    assert codes == {number: number for number in range(12)}


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"pid": "x"}', b'{"pid": 1}', b""])
async def test_a_spawner_that_speaks_out_of_turn_is_a_fault(said: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        spawner = Spawner(trio.socket.from_stdlib_socket(ours), LOG)
        ours.setblocking(False)
        if said:
            theirs.send(said)
            theirs.send(said)
        else:
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(SpawnerFault), trio.fail_after(5):
            await spawner.serve()
        spawner._pair.close()


@pytest.mark.virtual_time
async def test_a_spawner_that_does_not_answer_is_a_fault() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        spawner = Spawner(trio.socket.from_stdlib_socket(ours), LOG)
        with pytest.raises(SpawnerFault, match="did not answer"):
            await spawner.start(["x"], {}, "/", stdin=0, stdout=1, stderr=2)


async def test_without_init_there_is_no_spawner() -> None:
    with pytest.raises(SpawnerFault, match="HIVE_SPAWNER_FD"):
        spawner_from_environment({}, LOG)


def test_a_refused_start_is_an_error_of_its_own() -> None:
    assert not issubclass(NotStarted, SpawnerFault)


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()
