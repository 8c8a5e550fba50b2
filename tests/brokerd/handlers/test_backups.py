"""Backups under load, and going back to one."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from brokerd import restore
from brokerd.live import backups as live
from brokerd.live.backups import Backups
from brokerd.live.room import Room
from brokerd.store import backup, folder
from protocol.brokerd import BackedUp, Backup, SearchMessages, WatchFeed
from protocol.problem import Problem, Refused
from protocol.tools import Sent
from protocol.turns import Outcome
from runtime.log import logger
from runtime.service import Unusable
from tests.brokerd.hive import Hive
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[3]


def state_of(hive: Hive) -> Path:
    return Path(hive.settings.state)


async def back_up(hive: Hive) -> BackedUp:
    return await hive.operator.call(Backup())


async def test_a_restore_has_every_message_that_was_acknowledged_before_the_backup(unserved: Hive) -> None:
    """It is taken while others send; what came in meanwhile is there whole or not at all."""
    hive = unserved
    before: list[Sent] = []
    during: list[Sent] = []
    ended = False

    async def send_on() -> None:
        while not ended:
            during.append(await hive.send("operator", "atlas", f"during {len(during)}"))

    async with hive.broker():
        before += [await hive.send("operator", "iris", f"before {number}") for number in range(30)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_on)
            await until(lambda: during, what="a send")
            made = await back_up(hive)
            ended = True
    restored = restore.restore(state_of(hive), made.name, 1)
    assert Path(restored.set_aside, "broker.sqlite").exists()
    async with hive.broker():
        bodies = {message.id: message.body for message in await hive.messages()}
        assert all(bodies[sent.message] == f"before {number}" for number, sent in enumerate(before))
        kept = [sent.message in bodies for sent in during]
        assert kept == sorted(kept, reverse=True), "a later message without an earlier one"
        assert (await hive.taken("iris")).message.id == before[0].message
        after = await hive.send("operator", "iris")
        assert after.message > max(sent.message for sent in (*before, *during)), "a number was given twice"


async def test_who_watched_is_told_to_look_anew_after_a_restore(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        await hive.send("operator", "iris")
        await back_up(hive)
        await hive.send("operator", "iris", "never happened")
        place = await hive.snapshot()
    restore.restore(state_of(hive), None, 1)
    async with hive.broker():
        now = await hive.snapshot()
        assert now.epoch != place.epoch
        assert now.seq >= place.seq
        assert [message.body for message in now.messages] == ["hello"]
        for words, found in (("never", []), ("hello", ["hello"])):
            page = await hive.operator.call(SearchMessages(text=words))
            assert [message.body for message in page.messages] == found
        with pytest.raises(Refused) as refused:
            async with hive.operator.watch(WatchFeed(place.epoch, place.seq)) as events:
                await anext(events)
        assert refused.value.problem is Problem.NOT_FOUND


async def test_a_turn_of_the_time_that_was_undone_ends_nobodys_turn(unserved: Hive) -> None:
    """Numbers go on after the ones that were given: the old harness cannot end a turn that is not its own."""
    hive = unserved
    async with hive.broker():
        await hive.attach("iris")
        await hive.send("operator", "iris")
        await back_up(hive)
        _, undone = await hive.begun("iris")
    restore.restore(state_of(hive), None, 1)
    async with hive.broker():
        await hive.attach("iris")
        _, turn = await hive.begun("iris")
        assert turn > undone
        with pytest.raises(Refused):
            await hive.end("iris", undone)
        assert (await hive.end("iris", turn, Outcome.DONE)).done == 1


async def test_one_at_a_time_and_only_the_newest_are_kept(
    hive: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [(await back_up(hive)).name for _ in range(hive.settings.storage.backups_kept + 2)]
    backups = state_of(hive) / folder.BACKUPS
    assert backup.names(backups) == made[2:]
    (backups / "20200101T000000Z.partial").mkdir()  # as a kill leaves it
    entered, released = trio.Event(), trio.Event()
    real = Backups._make

    async def held(self: Backups, at_ms: int) -> BackedUp:
        entered.set()
        await released.wait()
        return await real(self, at_ms)

    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as slow:
            slow.setattr(Backups, "_make", held)
            other = hive._client("second", hive.settings.operator_socket)
            nursery.start_soon(other.call, Backup())
            await entered.wait()
        with pytest.raises(Refused) as refused:
            await back_up(hive)
        assert refused.value.problem is Problem.CONFLICT
        released.set()
    assert len(backup.names(backups)) == hive.settings.storage.backups_kept
    assert len(list(backups.iterdir())) == hive.settings.storage.backups_kept


async def test_each_night_makes_one(
    unserved: Hive, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hive, now_ms = unserved, 1_790_000_000_000
    monkeypatch.setattr(live, "now_ms", lambda: now_ms)
    made = state_of(hive) / folder.BACKUPS
    async with hive.broker():
        clock.jump(live.LOOK_S)
        await until(lambda: len(backup.names(made)) == 1, what="the first backup")
    log = logger("test")
    backups = Backups(hive.settings, Room(hive.settings, log), log)
    for _ in range(3):
        assert await backups.make_if_due() is None, "twice in a night"
        now_ms += 24 * 3600 * 1000
        assert await backups.make_if_due() is not None
    now_ms -= 48 * 3600 * 1000
    assert await backups.make_if_due() is not None, "those of the future count for nothing"


async def test_no_backup_takes_the_last_room(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerd.live.room.Room.databases_bytes", lambda _: 1 << 60)
    with pytest.raises(Refused) as refused:
        await back_up(hive)
    assert refused.value.problem is Problem.STORAGE_FULL
    assert not (state_of(hive) / folder.BACKUPS).exists()


async def test_one_that_cannot_be_read_hides_no_other(hive: Hive) -> None:
    made = [(await back_up(hive)).name for _ in range(3)]
    backups = state_of(hive) / folder.BACKUPS
    (backups / made[2] / backup.MANIFEST).write_bytes(b"{")
    assert [listed.name for listed in restore.listed(state_of(hive))] == made[:2]
    assert backup.newest_ms(backups) is not None
    assert backup.size_of(backups) > 0
    assert (await back_up(hive)).name > made[2]


async def test_a_copy_that_is_damaged_is_no_backup(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "copy_faults", lambda _: ["a fault"])
    with pytest.raises(Refused, match="is damaged") as refused:
        await back_up(hive)
    assert refused.value.problem is Problem.FAILED
    assert not list((state_of(hive) / folder.BACKUPS).iterdir())
    assert folder.is_doubted(state_of(hive)), "the next start looks through the original"


# restore


@pytest.fixture
async def backed_up(unserved: Hive) -> Hive:
    async with unserved.broker():
        await unserved.send("operator", "iris", "kept")
        await back_up(unserved)
    return unserved


async def test_nothing_is_restored_while_brokerd_runs(backed_up: Hive) -> None:
    async with backed_up.broker():
        with pytest.raises(Unusable, match="stop the hive first"):
            restore.restore(state_of(backed_up), None, 1)
        assert [message.body for message in await backed_up.messages()] == ["kept"]


@pytest.mark.parametrize("file", ["broker.sqlite", "events.sqlite"])
async def test_a_backup_that_changed_since_is_not_restored(backed_up: Hive, file: str) -> None:
    state = state_of(backed_up)
    source = state / folder.BACKUPS / restore.listed(state)[0].name / file
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    source.write_bytes(content)
    with pytest.raises(Unusable, match=f"{file}: is not what was backed up any more"):
        restore.restore(state, None, 1)
    with pytest.raises(Unusable, match="did not end; run it again"):
        folder.check_whole(state)
    shutil.rmtree(state / folder.BACKUPS)
    with pytest.raises(Unusable, match="there is no backup"):
        restore.restore(state, None, 1)


@pytest.mark.parametrize("step", ["_copy", "_make_fit", "_exchange", "between"])
async def test_a_restore_that_was_cut_short_is_run_again(
    backed_up: Hive, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was doing: brokerd does not start on a half, and nothing is lost."""
    state = state_of(backed_up)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cutting:
        if step == "between":
            moved = restore._move_aside
            cutting.setattr(restore, "_move_aside", lambda *words: cut(moved(*words)))
        else:
            cutting.setattr(restore, step, cut)
        with pytest.raises(KeyboardInterrupt):
            restore.restore(state, None, 1)
    with pytest.raises(Unusable, match="run it again"):
        folder.check_whole(state)
    restore.restore(state, None, 2)
    async with backed_up.broker():
        assert [message.body for message in await backed_up.messages()] == ["kept"]


async def test_a_copy_from_elsewhere_and_one_that_is_none(backed_up: Hive, tmp_path: Path) -> None:
    state = state_of(backed_up)
    name = restore.listed(state)[0].name
    shutil.move(state / folder.BACKUPS / name, tmp_path / "copy")
    with pytest.raises(Unusable, match="there is no backup 'copy'"):
        restore.restore(state, "copy", 1)
    with pytest.raises(Unusable, match="is no backup"):
        restore.restore(state, str(tmp_path / "elsewhere"), 1)
    assert restore.restore(state, str(tmp_path / "copy"), 1).name == "copy"


async def test_numbers_skip_far_where_the_present_ones_cannot_be_read(backed_up: Hive) -> None:
    state = state_of(backed_up)
    for file in ("broker.sqlite", "events.sqlite"):
        (state / file).write_bytes(b"\0" * 8_192)
        (state / f"{file}-wal").unlink(missing_ok=True)  # it may hold all the pages that matter
    restore.restore(state, None, 1)
    async with backed_up.broker():
        assert (await backed_up.send("operator", "iris")).message > restore.NUMBERS_SKIPPED


@pytest.mark.whole
async def test_the_program(backed_up: Hive) -> None:
    state = state_of(backed_up)

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "brokerd.restore", str(state), *words]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    (listed,) = json.loads(ran("--list").stdout)
    done = ran(listed["name"])
    assert done.returncode == 0
    restored = json.loads(done.stdout)
    assert restored["name"] == listed["name"]
    with closing(sqlite3.connect(Path(restored["set_aside"], "broker.sqlite"))) as db:
        assert db.execute("SELECT body FROM messages").fetchall() == [("kept",)]
    refused = ran("20200101T000000Z")
    assert refused.returncode == 78
    assert refused.stderr.endswith(f"there are: {listed['name']}\n")


async def test_a_backup_does_not_hold_up_the_end(unserved: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokerd that is told to stop gives it up, and leaves nothing of it."""
    pauses: list[None] = []

    def slowly() -> None:
        pauses.append(None)
        trio.from_thread.check_cancelled()
        trio.from_thread.run(trio.sleep, 0.01)

    monkeypatch.setattr(live, "_pause", slowly)
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    backups = state_of(unserved) / folder.BACKUPS
    async with unserved.broker():
        for _ in range(4):
            await unserved.send("operator", "iris", "x" * 60_000)

    async def give_up(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        log = logger("test")
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await Backups(unserved.settings, Room(unserved.settings, log), log).make()

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(give_up)
        await until(lambda: len(pauses) > 3, what="the copy to be under way")
        scope.cancel()
    assert scope.cancelled_caught
    assert not list(backups.iterdir())
