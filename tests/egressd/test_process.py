"""egressd as a process: privd's news in, and a process without any network out through the socket alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.egressd import Account, EgressNow, EgressRefused, Refusal, WatchEgress
from protocol.hello import Hello
from protocol.privd import AnyCageEvent, Cage, CagesNow, Power, WatchCages
from protocol.problem import Refused
from protocol.rpc import Caller, Role
from protocol.settings import AgentSettings
from runtime.client import Client, Disconnected
from runtime.fanout import Fanout
from runtime.service import Service
from runtime.session import Surface
from runtime.sockets import bind_unix
from tests.egressd.conftest import Certificate, echo_host
from tests.support.daemon import running_service
from tests.support.waiting import until

CHECKOUT = Path(__file__).parents[2]
WITHOUT_NETWORK = ("unshare", "--user", "--map-root-user", "--net")

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

CAGED = """
import socket, ssl, sys
path, host, port, chain = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

def ask(target):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(path)
    stream.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode())
    return stream, stream.recv(4096).split(b"\\r\\n")[0].decode()

for address in ((host, port), ("127.0.0.1", port), ("1.1.1.1", 443)):
    try:
        socket.create_connection(address, 3)
        print("direct: CONNECTED")
    except OSError:
        print("direct: no way")
try:
    socket.getaddrinfo("example.org", 443)
    print("name: RESOLVED")
except OSError:
    print("name: no way")
print("unlisted:", ask("example.org:443")[1])
stream, answer = ask(f"{host}:{port}")
print("listed:", answer)
with ssl.create_default_context(cafile=chain).wrap_socket(stream, server_hostname=host) as secure:
    secure.sendall(b"through the socket")
    print("said:", secure.recv(100).decode())
"""


class PrivdOfCages:
    """privd as egressd sees it: the one watch, on a socket of its own."""

    def __init__(self, run: Path, service: Service, cages: tuple[Cage, ...]) -> None:
        self.cages = cages
        self.changes: Fanout[AnyCageEvent] = Fanout()
        run.joinpath("privd").mkdir()
        surface: Surface[PrivdOfCages] = Surface((WatchCages.answered_by(watch, callers=Role.EGRESS),), self)
        service.listen(
            bind_unix(run / "privd" / "egress.sock"), surface, lambda uid: Caller(Role.EGRESS, uid)
        )


@asynccontextmanager
async def watch(
    request: WatchCages, caller: Caller, host: PrivdOfCages
) -> AsyncIterator[AsyncIterator[AnyCageEvent]]:
    async def events() -> AsyncIterator[AnyCageEvent]:
        yield CagesNow(host.cages)
        async for change in changes:
            yield change

    with host.changes.subscribed() as changes:
        yield events()


def cage(*hosts: str) -> Cage:
    uid = os.geteuid()
    return Cage("iris", Power.RUNNING, 0, "bwrap", uid, uid, AgentSettings("iris", egress_hosts=hosts))


class Egressd:
    """The process and what it wrote."""

    def __init__(self, folder: Path, *lines: str) -> None:
        config = folder / "egressd.toml"
        config.write_text("\n".join((f'run = "{folder}"', *lines)))
        self.log = folder / "egressd.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "egressd", "--config", str(config)], cwd=CHECKOUT, stderr=log
            )

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await trio.to_thread.run_sync(self.process.wait, 20)


@asynccontextmanager
async def egressd(folder: Path, *lines: str) -> AsyncIterator[Egressd]:
    started = Egressd(folder, *lines)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


async def test_a_process_without_network_gets_out_through_the_socket_only(
    tmp_path: Path, certificate: Certificate
) -> None:
    socket_path = tmp_path / "agents" / "iris" / "egress" / "egress.sock"
    socket_path.parent.mkdir(parents=True)
    async with echo_host(certificate.server()) as port, running_service() as service:
        PrivdOfCages(tmp_path, service, (cage(f"localhost:{port}"),))
        async with egressd(tmp_path, "model_hosts = []", f'allow_private = ["localhost:{port}"]') as daemon:
            await until(socket_path.exists, what="the egress socket")
            arguments = [str(socket_path), "localhost", str(port), str(certificate.chain)]
            done = await trio.run_process(
                [*WITHOUT_NETWORK, sys.executable, "-I", "-c", CAGED, *arguments],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
            assert done.stdout.decode().splitlines() == [
                "direct: no way",
                "direct: no way",
                "direct: no way",
                "name: no way",
                "unlisted: HTTP/1.1 403 Forbidden",
                "listed: HTTP/1.1 200 Connection Established",
                "said: through the socket",
            ], done.stderr.decode()
            assert await daemon.end() == 0
            egress = [record for record in daemon.records() if record["event"] == "egress"]
            assert [(one["host"], one["verdict"]) for one in egress] == [
                ("example.org", "denied"),
                ("localhost", "connected"),
            ]
            assert {one["daemon"] for one in egress} == {"egressd"}
    assert not socket_path.exists()


async def test_egressd_may_come_before_privd_and_outlives_it(tmp_path: Path) -> None:
    socket_path = tmp_path / "agents" / "iris" / "egress" / "egress.sock"
    socket_path.parent.mkdir(parents=True)
    async with egressd(tmp_path) as daemon:
        await until(lambda: "no news of cages" in daemon.log.read_text(), what="egressd to miss privd")
        async with running_service() as service:
            PrivdOfCages(tmp_path, service, (cage(),))
            await until(socket_path.exists, what="the egress socket")
        made = socket_path.stat().st_ino
        (tmp_path / "privd" / "egress.sock").unlink()
        (tmp_path / "privd").rmdir()
        async with running_service() as service:
            privd = PrivdOfCages(tmp_path, service, (cage(),))
            await until(lambda: len(privd.changes) == 1, what="egressd to watch again")
            assert socket_path.stat().st_ino == made
            assert await daemon.end() == 0


async def test_a_killed_egressd_comes_back_at_the_same_place(tmp_path: Path) -> None:
    socket_path = tmp_path / "agents" / "iris" / "egress" / "egress.sock"
    socket_path.parent.mkdir(parents=True)
    async with running_service() as service:
        PrivdOfCages(tmp_path, service, (cage(),))
        async with egressd(tmp_path) as first:
            await until(socket_path.exists, what="the egress socket")
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        stale = socket_path.stat().st_ino
        async with egressd(tmp_path):
            await until(lambda: socket_path.stat().st_ino != stale, what="a new socket in the old place")


async def test_brokerd_is_told_and_nobody_else(tmp_path: Path) -> None:
    """Accounts at once, refusals as they come; the operator's socket and other uids get neither."""
    folder = tmp_path / "agents" / "iris" / "egress"
    folder.mkdir(parents=True)
    key = tmp_path / "missing.key"
    uid = os.geteuid()
    accounts = ("[accounts.default]", f'key_file = "{key}"')
    async with running_service() as service:
        PrivdOfCages(tmp_path, service, (cage(),))
        async with egressd(tmp_path, f"broker_uid = {uid}", *accounts) as daemon:
            await until((folder / "egress.sock").exists, what="the egress socket")
            async with Client(tmp_path / "egressd" / "swarm.sock") as swarm:
                assert (await swarm.call(Hello())).daemon == "egressd"
                async with swarm.watch(WatchEgress()) as events:
                    first = await anext(events)
                    assert first == EgressNow(
                        (Account("default", detail="its key file cannot be read: No such file or directory"),)
                    )
                    async with await trio.open_unix_socket(folder / "egress.sock") as stream:
                        await stream.send_all(b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n")
                        assert (await stream.receive_some()).startswith(b"HTTP/1.1 403 ")
                    told = await anext(events)
                    assert isinstance(told, EgressRefused)
                    assert (told.agent, told.why, told.host) == ("iris", Refusal.NOT_ALLOWED, "evil.example")
            async with Client(tmp_path / "egressd" / "operator.sock") as operator:
                assert (await operator.call(Hello())).daemon == "egressd"
                with pytest.raises(Refused, match="operator may not ask for watch_egress"):
                    async with operator.watch(WatchEgress()) as events:
                        await anext(events)
            assert await daemon.end() == 0
    assert "a model account cannot be used" in daemon.log.read_text()
    async with egressd(tmp_path, f"broker_uid = {uid + 1}") as daemon:
        socket_path = tmp_path / "egressd" / "swarm.sock"
        await until(lambda: '"ready"' in daemon.log.read_text(), what="egressd to be ready")
        async with Client(socket_path) as stranger:
            with pytest.raises((Disconnected, Refused)):
                await stranger.call(Hello(), patience_s=0.5)
        assert "turned a peer away" in daemon.log.read_text()


async def test_a_certificate_file_that_cannot_be_used_is_said_and_ends_it(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        if content is not None:
            (tmp_path / "ca.pem").write_text(content)
        lines = (f'ca_file = "{tmp_path}/ca.pem"', "[accounts.default]", 'key_file = "/k"')
        async with egressd(tmp_path, *lines) as daemon:
            assert await trio.to_thread.run_sync(daemon.process.wait, 20) == 78
        assert f"ca_file: {tmp_path}/ca.pem cannot be used: " in daemon.log.read_text()


@pytest.mark.parametrize(
    ("line", "said"), [("runs = 1", "unknown key `runs`"), ("model_hosts = 1", "model_hosts: ")]
)
async def test_wrong_settings_are_said_and_end_it(tmp_path: Path, line: str, said: str) -> None:
    async with egressd(tmp_path, line) as daemon:
        assert await trio.to_thread.run_sync(daemon.process.wait, 20) == 78
    text = daemon.log.read_text()
    assert text.startswith(f"egressd: {tmp_path}/egressd.toml: ")
    assert said in text
    assert text.count("\n") == 1
