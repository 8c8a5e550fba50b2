"""brokerd on a file system of 4 MiB that runs full: what is new is refused, what runs is settled, nothing is lost."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from trio.testing import MockClock

from brokerd.live import room
from brokerd.store import ballast, deliveries
from protocol.agent import PublishEvents
from protocol.brokerd import MarkRead
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import Answer, Ask, Remind, Send, Sent
from protocol.turns import Said
from runtime.clock import new_key
from tests.brokerd.hive import Hive, Privd, cage
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.slow]

DISK_KIB = 4 * 1024
BODY = "x" * 4_000
MESSAGES_MAX = 2_000
LEFT_BYTES = 448 * 1024
"""Less than the reserve, and enough to open the databases and to go on."""
LATER_BYTES = 512 * 1024
"""Of somebody else's, given back at the end."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
async def small(short_folder: Path, small_log: None) -> AsyncIterator[Hive]:
    """A hive whose broker keeps its databases on a small disk of its own."""
    hive = Hive(short_folder, Privd(short_folder))
    for name in ("hm1nd", "iris", "atlas"):
        hive.privd.change(cage(name))
    with small_disk(Path(hive.settings.state)):
        async with hive.privd.serving():
            yield hive
        await hive.forget_connections()


async def fill(hive: Hive) -> dict[int, Send]:
    """Send until nothing new is taken; what was acknowledged, by its number."""
    acknowledged: dict[int, Send] = {}
    for _ in range(MESSAGES_MAX):
        request = Send(to="iris", body=BODY, key=new_key())
        try:
            sent = await hive.operator.call(request)
        except Refused as refused:
            if refused.problem is Problem.STORAGE_FULL:
                return acknowledged
            raise
        acknowledged[sent.message] = request
    raise AssertionError("the disk does not run full")


def stuff(hive: Hive) -> Path:
    """Somebody else takes the very last of the disk."""
    filler = Path(hive.settings.state) / "somebody's"
    with filler.open("ab", buffering=0) as file:
        for size in (64 * 1024, 4_096, 512, 1):
            try:
                while file.write(b"\1" * size):
                    pass
            except OSError:
                continue
    return filler


async def refused_as_full(hive: Hive, client: str, request: object) -> None:
    caller = hive.operator if client == "operator" else hive.agent(client)
    with pytest.raises(Refused) as refused:
        await caller.call(request)  # type: ignore[arg-type,unused-ignore]  # any request
    assert refused.value.problem is Problem.STORAGE_FULL, refused.value


def stored(hive: Hive) -> set[int]:
    with hive.reader() as db:
        assert db.execute("PRAGMA main.integrity_check").fetchone()[0] == "ok"
        assert db.execute("PRAGMA broker.integrity_check").fetchone()[0] == "ok"
        return {row["id"] for row in db.execute("SELECT id FROM messages")}


def state_of(hive: Hive, sent: Sent) -> str:
    with hive.reader() as db:
        return deliveries.of_message(db, sent.message)[0].state.value


async def test_what_is_new_is_refused_and_what_runs_is_settled(
    small: Hive, clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    hive, state = small, Path(small.settings.state)
    async with hive.broker():
        await until(lambda: ballast.is_laid(state), what="the ballast")
        question = await hive.agent("atlas").call(Ask(question="which?", key=new_key()))
        report = await hive.send("atlas", "operator", "read me")
        first = await hive.send("operator", "iris", "first")
        _, turn = await hive.begun("iris")
        later = state / "somebody's, later"
        later.write_bytes(b"\1" * LATER_BYTES)
        acknowledged = await fill(hive)
        assert len(acknowledged) > 20

        # The reserve is still there: what is new is refused, in every form of it.
        for client, request in (
            ("operator", Send(to="iris", body="new", key=new_key())),
            ("atlas", Send(to="iris", body="new", key=new_key())),
            ("atlas", Ask(question="new?", key=new_key())),
            ("atlas", Remind(text="new", key=new_key(), in_s=60)),
            ("iris", PublishEvents(turn, (Said(0, 1, "new"),))),
        ):
            await refused_as_full(hive, client, request)
        number, request = next(iter(acknowledged.items()))
        again = await hive.operator.call(request)
        assert again.message == number, "a repeat gets its first answer"

        # Then even the reserve is gone, and what runs goes on: the ballast is for that.
        filler = stuff(hive)
        assert (await hive.end("iris", turn)).done == 1
        assert state_of(hive, first) == DeliveryState.DONE.value
        for _ in range(20):
            _, turn = await hive.begun("iris")
            assert (await hive.end("iris", turn)).done == 1
        await hive.operator.call(MarkRead((report.message,)))
        await hive.operator.call(Answer(question.id, "this one"))
        assert acknowledged.keys() <= stored(hive)
        await refused_as_full(hive, "operator", Send(to="iris", body="new", key=new_key()))
    told = "".join(capsys.readouterr())
    assert told.count("nothing new is stored any more") == 1, "once, not for each refusal"

    # A start with next to no room loses nothing, and goes on settling.
    stuff(hive)
    os.truncate(filler, filler.stat().st_size - LEFT_BYTES)
    async with hive.broker():
        assert acknowledged.keys() <= stored(hive)
        stuff(hive)
        os.truncate(filler, filler.stat().st_size - LEFT_BYTES)
        clock.jump(room.LOOK_S)
        await until(lambda: refused_now(hive), what="a refusal")
        _, turn = await hive.begun("iris")
        assert (await hive.end("iris", turn)).done == 1
        filler.unlink()
        later.unlink()
        clock.jump(room.LOOK_S)
        after = await until(lambda: tried(hive), what="room again")
        await until(lambda: ballast.is_laid(state), what="the ballast to be laid again")
        assert {*acknowledged, first.message, after.message} <= stored(hive)
    assert "there is room again" in "".join(capsys.readouterr())


async def refused_now(hive: Hive) -> bool:
    return await tried(hive) is None


async def tried(hive: Hive) -> Sent | None:
    try:
        return await hive.send("operator", "iris", "there is room")
    except Refused as refused:
        if refused.problem is Problem.STORAGE_FULL:
            return None
        raise
