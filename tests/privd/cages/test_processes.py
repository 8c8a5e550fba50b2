"""Processes by pid and start time: the right one, or none."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from privd.cages.processes import Process, ProcessName, boot_id, holders, holds, name_of, with_descendants
from privd.cages.spec import Exit, How
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def spawn(*argv: str, stdin: Path | None = None) -> int:
    actions = [] if stdin is None else [(os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0)]
    return os.posix_spawn(argv[0], argv, {}, file_actions=actions)


def reap(pid: int) -> None:
    os.waitpid(pid, 0)


async def test_a_child_from_start_to_end() -> None:
    process = Process.child(spawn("/bin/sh", "-c", "exit 7"))
    await process.ended()
    assert process.exit() == Exit(How.EXIT, 7)
    process.send(signal.SIGKILL)
    process.close()


async def test_a_child_that_is_killed() -> None:
    process = Process.child(spawn("/bin/sleep", "1000"))
    assert process.exit() is None
    process.send(signal.SIGTERM)
    await process.ended()
    assert process.exit() == Exit(How.SIGNAL, signal.SIGTERM)
    process.close()


async def test_a_process_of_somebody_else() -> None:
    """The kernel keeps the answer since Linux 6.15; before, nobody knows."""
    shell = spawn("/bin/sh", "-c", "sh -c 'sleep 0.3; exit 5' & wait")
    await until(lambda: len(with_descendants([shell])) > 1, what="the grandchild")
    process = Process.found(min(with_descendants([shell]) - {shell}))
    assert process is not None
    await process.ended()
    reap(shell)
    assert process.exit() in {Exit(How.EXIT, 5), None}
    process.close()


async def test_a_name_means_one_process_only() -> None:
    pid = spawn("/bin/sleep", "1000")
    name = name_of(pid)
    assert name is not None
    assert Process.hold(ProcessName(pid, name.start_ticks + 1)) is None
    held = Process.hold(name)
    assert held is not None
    held.send(signal.SIGKILL)
    await held.ended()
    assert name_of(pid) is None, "a zombie is nobody"
    assert Process.hold(name) is None
    reap(pid)
    assert Process.hold(name) is None
    assert Process.found(pid) is None
    held.close()


async def test_who_holds_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    pid = spawn("/bin/sleep", "1000", stdin=file)
    other = spawn("/bin/sleep", "1000")
    try:
        assert list(holders(file)) == [pid]
        assert holds(pid, file)
        assert not holds(other, file)
        assert not holds(2**22, file)
    finally:
        for sleeper in (pid, other):
            os.kill(sleeper, signal.SIGKILL)
            reap(sleeper)


async def test_descendants() -> None:
    pid = spawn("/bin/sh", "-c", "sh -c 'sleep 1000 & wait' & wait")
    await until(lambda: len(with_descendants([pid])) >= 3, what="three generations")
    family = with_descendants([pid])
    assert os.getpid() not in family
    for member in sorted(family, reverse=True):
        with suppress(ProcessLookupError):  # a shell ends by itself when what it waits for was killed
            os.kill(member, signal.SIGKILL)
    reap(pid)
    assert with_descendants([]) == set()


async def test_waiting_can_be_given_up() -> None:
    process = Process.child(spawn("/bin/sleep", "1000"))
    with trio.move_on_after(0.01):
        await process.ended()
    process.send(signal.SIGKILL)
    await process.ended()
    process.exit()
    process.close()


async def test_the_boot_has_a_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36
