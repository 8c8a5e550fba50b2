"""The disk is looked at when it must be, said once, and the ballast is there when it is needed."""

from pathlib import Path

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from brokerd.live import room as live
from brokerd.live.room import Room
from brokerd.policy.room import MIB, Bounds, Space, Storage
from brokerd.settings import BrokerSettings
from brokerd.store import ballast, schema
from protocol.problem import Problem, Refused
from runtime.log import logger
from runtime.store import Db, StoreShape, open_store
from tests.brokerd.conftest import anyio_backend, clock
from tests.brokerd.store.conftest import migrated, shape
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
__all__ = ["anyio_backend", "clock", "migrated", "shape"]


class SmallerRoom(Room):
    """On a disk of which a test says how much is left."""

    free_bytes = 1_000 * MIB
    looks = 0

    def space(self) -> tuple[Space, Bounds]:
        space, bounds = super().space()
        self.looks += 1
        return Space(self.free_bytes, space.total_bytes, space.used_bytes), bounds


def room_in(state: Path, **storage: int) -> SmallerRoom:
    given = BrokerSettings(
        state=str(state), run=str(state), storage=Storage(reserve_bytes=100 * MIB, **storage)
    )
    return SmallerRoom(given, logger("test"))


def refused(room: Room) -> str:
    with pytest.raises(Refused) as refusal:
        room.admit(10)
    assert refusal.value.problem is Problem.STORAGE_FULL
    return refusal.value.detail


async def test_it_is_looked_at_after_much_and_not_for_each(tmp_path: Path) -> None:
    room = room_in(tmp_path)
    for _ in range(1_000):
        room.admit(10)
    assert room.looks == 1
    for _ in range(1_000):
        room.admit(60_000)
    assert 2 <= room.looks < 20


async def test_it_is_said_once_each_way(tmp_path: Path) -> None:
    room = room_in(tmp_path)
    with structlog.testing.capture_logs() as records:
        for free_mib in (500, 90, 80, 105, 120, 500):
            room.free_bytes = free_mib * MIB
            room.look()
            room.look()
            if free_mib < 112:
                assert "less than the reserve" in refused(room) or free_mib == 500
            else:
                room.admit(10)
    assert [(record["log_level"], record["event"]) for record in records] == [
        ("error", "nothing new is stored any more"),
        ("info", "there is room again: messages are stored as before"),
    ]


async def test_what_settles_gets_the_ballast_and_what_is_new_does_not(tmp_path: Path) -> None:
    room = room_in(tmp_path)
    ballast.lay(tmp_path, 1_000_000)
    assert not room.ran_out(settling=False)
    assert ballast.is_laid(tmp_path)
    assert "the disk is full" in refused(room)
    assert room.ran_out(settling=True)
    assert not ballast.is_laid(tmp_path)
    assert room.ran_out(settling=True), "whoever failed beside the first may try again, too"


async def test_it_watches(shape: StoreShape, clock: MockClock) -> None:
    room = room_in(shape.path.parent, databases_bytes_max=4 * MIB)
    async with open_store(shape, schema.migrate) as store, trio.open_nursery() as nursery:
        nursery.start_soon(room.watch, store)
        await until(lambda: ballast.is_laid(shape.path.parent), what="the ballast")
        room.admit(10)
        await store.write(lambda db: fill(db, 5 * MIB))
        clock.jump(live.LOOK_S * live.COUNT_EVERY_LOOKS)

        async def is_full() -> bool:
            clock.jump(live.LOOK_S)
            return room.fault is not None

        await until(is_full, what="the databases to be found full", deadline_ms=10_000_000)
        assert "databases_bytes_max" in refused(room)
        await store.write(lambda db: db.execute("DELETE FROM turn_events").rowcount)

        async def is_free() -> bool:
            clock.jump(live.LOOK_S)
            return room.fault is None

        await until(is_free, what="room, though the file is as large as before", deadline_ms=10_000_000)
        nursery.cancel_scope.cancel()


def fill(db: Db, size: int) -> None:
    db.executemany(
        "INSERT INTO turn_events VALUES (1, ?, zeroblob(100000))", [(n,) for n in range(size // 100_000)]
    )
