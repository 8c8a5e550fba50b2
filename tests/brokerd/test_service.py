"""brokerd as a process: its settings, its sockets, its end."""

import os
import signal
import socket
import stat
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec import structs

from brokerd.settings import BrokerSettings
from brokerd.store import folder
from protocol.hello import Hello
from runtime.client import Client, Disconnected
from runtime.service import Unusable
from runtime.settings import EXIT_SETTINGS, SettingsFault, parse_settings
from tests.brokerd.hive import Hive
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[2]


def settings(text: str) -> BrokerSettings:
    return parse_settings(text, BrokerSettings, origin="broker.toml")


def test_settings_say_where_everything_is() -> None:
    given = settings(
        'state = "/var/lib/hive/broker"\nrun = "/run/hive"\nweb_uid = 990\noperator_uids = [0, 1000]\n'
    )
    assert given.database == Path("/var/lib/hive/broker/broker.sqlite")
    assert given.events_database == Path("/var/lib/hive/broker/events.sqlite")
    assert given.operator_socket == Path("/run/hive/brokerd/operator.sock")
    assert given.swarm == Path("/run/hive/privd/swarm.sock")
    assert given.agent_socket("iris") == Path("/run/hive/agents/iris/broker/broker.sock")
    assert given.operators == {0, 990, 1000}


def test_privds_socket_may_be_elsewhere() -> None:
    assert settings('state = "/s"\nrun = "/r"\nswarm_socket = "/x/swarm.sock"').swarm == Path("/x/swarm.sock")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('run = "/r"', "state"),
        ('state = "here"\nrun = "/r"', "state"),
        ('state = "/s"\nrun = "/r"\nweb_uid = -1', "web_uid"),
        ('state = "/s"\nrun = "/r"\nlog_level = "loud"', "log_level"),
        ('state = "/s"\nrun = "/r"\nport = 80', "port"),
    ],
)
def test_wrong_settings_are_named(text: str, words: str) -> None:
    with pytest.raises(SettingsFault, match=words):
        settings(text)


async def test_sockets_are_for_whom_they_should_be(hive: Hive) -> None:
    """Uids decide at both; the folders around them are privd's and hivectl's."""
    for path in (hive.settings.operator_socket, hive.settings.agent_socket("iris")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    for path in (hive.settings.database, hive.settings.events_database):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


class Process:
    """`python -m brokerd`, as a supervisor starts it."""

    def __init__(self, hive: Hive) -> None:
        self.hive = hive
        self.config = hive.folder / "broker.toml"
        given = hive.settings
        guards = "".join(f"{name} = {bound}\n" for name, bound in structs.asdict(given.guards).items())
        self.config.write_text(
            f'state = "{given.state}"\nrun = "{given.run}"\noperator_uids = [{os.geteuid()}]\nlog_level = "debug"\n'
            f"[guards]\n{guards}"
        )

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "brokerd", "--config", str(self.config)]

    async def start(self, nursery: trio.Nursery) -> trio.Process:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, self.command, cwd=CHECKOUT, check=False)
        )
        return process

    async def serves(self) -> bool:
        try:
            async with Client(self.hive.settings.operator_socket) as client:
                return (await client.call(Hello())).daemon == "brokerd"
        except Disconnected:
            return False


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_it_is_told_to(unserved: Hive, number: signal.Signals) -> None:
    process = Process(unserved)
    async with trio.open_nursery() as nursery:
        running = await process.start(nursery)
        await until(process.serves, what="brokerd to answer")
        await unserved.served("iris", "atlas", "hm1nd")
        sent = await unserved.send("operator", "iris")
        running.send_signal(number)
        assert await running.wait() == 0
    async with unserved.broker():
        assert (await unserved.taken("iris")).message.id == sent.message


@pytest.mark.whole
async def test_it_does_not_wait_for_those_who_wait(unserved: Hive) -> None:
    """Takers and watchers are told to come back; nobody holds up the end."""
    process = Process(unserved)
    async with trio.open_nursery() as nursery:
        running = await process.start(nursery)
        await until(process.serves, what="brokerd to answer")
        await unserved.served("iris", "atlas", "hm1nd")
        streams = [await trio.open_unix_socket(unserved.settings.agent_socket("iris")) for _ in range(3)]
        answers: list[bytes] = []

        async def take(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.send_all(b'{"op":"take_delivery","wait_s":180}\n')
                answers.append(bytes(await stream.receive_some(4_096)))

        for stream in streams:
            nursery.start_soon(take, stream)
        await until(lambda: len(answers) == 2, what="the last take to send the others away")
        running.terminate()
        with trio.fail_after(60):
            assert await running.wait() == 0
        await until(lambda: len(answers) == 3, what="the last answer")
    assert [b'"problem":"stopping"' in answer for answer in answers] == [False, False, True]


@pytest.mark.whole
async def test_settings_that_are_wrong_are_one_line_and_a_code(unserved: Hive) -> None:
    broken = unserved.folder / "broken.toml"
    broken.write_text('state = "/s"\nrun = 5\n')
    command = [sys.executable, "-m", "brokerd", "--config", str(broken)]
    ended = await trio.run_process(command, cwd=CHECKOUT, check=False, capture_stderr=True)
    assert ended.returncode == 78
    assert ended.stderr.decode().splitlines() == [
        f"brokerd: {broken}: run: expected text, got a whole number"
    ]


@pytest.mark.whole
async def test_a_second_brokerd_of_the_same_hive_gives_way(unserved: Hive) -> None:
    process = Process(unserved)
    async with trio.open_nursery() as nursery:
        running = await process.start(nursery)
        await until(process.serves, what="brokerd to answer")
        await unserved.served("iris", "atlas", "hm1nd")
        await unserved.attach("iris")
        before = await unserved.snapshot()
        ended = await trio.run_process(
            process.command,
            cwd=CHECKOUT,
            check=False,
            capture_stderr=True,
        )
        assert ended.returncode != 0
        assert b"another process listens here" in ended.stderr
        after = await unserved.snapshot()
        assert (after.seq, after.agents) == (before.seq, before.agents)  # it touched nothing
        running.terminate()


HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="operator")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.whole
async def test_a_socket_of_the_service_manager_is_served(unserved: Hive) -> None:
    process = Process(unserved)
    path = unserved.settings.operator_socket
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [sys.executable, "-c", HAND_OVER, str(listener.fileno()), *process.command]
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process, command, cwd=CHECKOUT, check=False, pass_fds=(listener.fileno(),)
            )
            running: trio.Process = await nursery.start(start)
            await until(process.serves, what="brokerd to answer")
            running.terminate()
            assert await running.wait() == 0
    assert path.exists()  # it is the service manager's


@pytest.mark.whole
async def test_what_cannot_be_served_is_one_line_and_a_code(unserved: Hive) -> None:
    """Its file, why, and what to do; a supervisor sees that starting it again does not help."""
    process = Process(unserved)
    state = Path(unserved.settings.state)
    state.mkdir()
    unserved.settings.database.write_bytes(b"no database at all " * 1_000)
    ended = await trio.run_process(process.command, cwd=CHECKOUT, check=False, capture_stderr=True)
    assert ended.returncode == EXIT_SETTINGS
    (line,) = ended.stderr.decode().splitlines()
    for words in ("cannot be started", str(unserved.settings.database), "damaged", "hivectl restore"):
        assert words in line
    unserved.settings.database.unlink()
    (state / folder.RESTORING).mkdir()
    ended = await trio.run_process(process.command, cwd=CHECKOUT, check=False, capture_stderr=True)
    assert ended.returncode == EXIT_SETTINGS
    assert b"a restore was begun and did not end" in ended.stderr
    assert sorted(path.name for path in state.iterdir()) == ["lock", "restoring"], "it touched nothing"


async def test_one_process_at_a_time_has_the_folder(hive: Hive) -> None:
    with pytest.raises(Unusable, match=f"process {os.getpid()} works on these databases"):
        folder.hold(Path(hive.settings.state))
