"""brokerd on a disk that no longer takes a sync: it tells nobody that anything was stored, ends, and starts anew."""

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from protocol.problem import Problem, Refused
from protocol.tools import Send, Sent
from runtime.client import Client, Disconnected
from runtime.clock import new_key
from runtime.service import EXIT_DEFECT
from tests.brokerd.campaign.disk import library
from tests.brokerd.hive import Hive, Privd, cage
from tests.brokerd.test_service import CHECKOUT, Process
from tests.support.waiting import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.skipif(
        library() is None, reason="this Python has an sqlite of its own, which cannot be recorded"
    ),
]

SENDERS = 4


@pytest.fixture
async def hive_on_disk() -> AsyncIterator[Hive]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = Hive(Path(folder), Privd(Path(folder)))
        for name in ("hm1nd", "iris", "atlas"):
            hive.privd.change(cage(name))
        async with hive.privd.serving():
            yield hive
        await hive.forget_connections()


class Sending:
    """Sends until brokerd is gone; what was answered, and what was not."""

    def __init__(self, hive: Hive) -> None:
        self.hive = hive
        self.acknowledged: dict[str, Sent] = {}
        self.unanswered: dict[str, Send] = {}

    async def send(self, sender: int) -> None:
        async with Client(self.hive.settings.operator_socket) as client:
            for number in range(100_000):
                request = Send(to="iris", body=f"{sender}:{number}", key=new_key())
                try:
                    self.acknowledged[request.body] = await client.call(request)
                except Disconnected:
                    self.unanswered[request.body] = request
                    return
                except Refused as refused:
                    if refused.problem not in (Problem.INTERNAL, Problem.STOPPING):
                        raise
                    self.unanswered[request.body] = request


async def test_a_failed_sync_ends_brokerd_loudly_and_loses_nothing(hive_on_disk: Hive) -> None:
    hive, process, sending = hive_on_disk, Process(hive_on_disk), Sending(hive_on_disk)
    dead = hive.folder / "dead"
    command = [
        sys.executable,
        "-m",
        "tests.brokerd.campaign.dying_disk",
        hive.settings.state,
        str(dead),
        "--config",
        str(process.config),
    ]
    async with trio.open_nursery() as nursery:
        running: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                cwd=CHECKOUT,
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
        said = bytearray()
        nursery.start_soon(gather, running, said)
        await until(process.serves, what="brokerd to answer")
        await hive.served("iris", "atlas", "hm1nd")
        for sender in range(SENDERS):
            nursery.start_soon(sending.send, sender)
        await until(lambda: len(sending.acknowledged) > 50, what="some sends")
        dead.touch()
        with trio.fail_after(20):
            assert await running.wait() == EXIT_DEFECT
    assert b"a commit failed; nothing more can be stored" in said
    assert sending.unanswered
    dead.unlink()
    async with hive.broker():
        with hive.reader() as db:
            stored = {row["body"]: row["id"] for row in db.execute("SELECT id, body FROM messages")}
        assert {body: sent.message for body, sent in sending.acknowledged.items()}.items() <= stored.items()
        for body, request in sending.unanswered.items():
            again = await hive.operator.call(request)
            assert stored.get(body, again.message) == again.message, "stored, not told, and stored again"


async def gather(process: trio.Process, said: bytearray) -> None:
    assert process.stderr is not None
    async for chunk in process.stderr:
        said += chunk
