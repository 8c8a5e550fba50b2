"""Sockets come and go with the cages that privd tells of."""

import os
import stat
from pathlib import Path

import pytest
import trio

from egressd.doors import Doors
from protocol.privd import Cage, CageChanged, CageCrashed, CageGone, CagesNow, Power
from protocol.settings import AgentSettings
from runtime.service import Service
from tests.egressd.conftest import Record, open_doors
from tests.support.daemon import running_service
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def cage(name: str, power: Power = Power.RUNNING, uid: int = 0) -> Cage:
    return Cage(name, power, 0, "bwrap", uid or os.geteuid(), uid or os.geteuid(), AgentSettings(name))


def doors(folder: Path, service: Service) -> Doors:
    return open_doors(folder, service)[0]


def folder_of(agents: Path, name: str) -> Path:
    folder = agents / name / "egress"
    folder.mkdir(parents=True)
    return folder / "egress.sock"


async def answered(path: Path) -> bool:
    try:
        async with await trio.open_unix_socket(path):
            return True
    except OSError:
        return False


async def test_each_cage_has_a_socket_that_everybody_in_it_may_open(tmp_path: Path) -> None:
    iris, otto = folder_of(tmp_path, "iris"), folder_of(tmp_path, "otto")
    async with running_service() as service:
        doors(tmp_path, service).apply(CagesNow((cage("iris"), cage("otto", Power.STOPPED))))
        await until(lambda: iris.exists() and otto.exists(), what="both sockets")
        assert stat.S_IMODE(iris.stat().st_mode) == 0o666
        assert await answered(iris)
    assert not iris.exists()
    assert not otto.exists()


async def test_a_cage_that_goes_takes_its_socket_along(tmp_path: Path) -> None:
    paths = {name: folder_of(tmp_path, name) for name in ("iris", "otto", "ada")}
    async with running_service() as service:
        kept = doors(tmp_path, service)
        kept.apply(CagesNow(tuple(cage(name) for name in paths)))
        await until(lambda: all(path.exists() for path in paths.values()), what="three sockets")
        kept.apply(CageChanged(cage("otto", Power.KEPT)))
        kept.apply(CageGone("ada"))
        kept.apply(CageGone("ada"))
        kept.apply(CageCrashed("iris", 1, "exit code 1", ()))
        assert [name for name, path in paths.items() if path.exists()] == ["iris"]
        kept.apply(CageChanged(cage("otto", Power.STARTING)))
        await until(lambda: answered(paths["otto"]), what="otto's socket again")
        kept.apply(CagesNow((cage("otto"),)))
        assert [name for name, path in paths.items() if path.exists()] == ["otto"]


async def test_a_folder_that_comes_late_gets_its_socket(tmp_path: Path, records: list[Record]) -> None:
    async with running_service() as service:
        doors(tmp_path, service).apply(CagesNow((cage("iris"),)))
        await until(
            lambda: [one for one in records if one["event"] == "no egress socket yet"], what="the warning"
        )
        path = folder_of(tmp_path, "iris")
        await until(lambda: answered(path), what="iris's socket")


async def test_a_cage_that_is_gone_before_its_folder_came_gets_none(tmp_path: Path) -> None:
    async with running_service() as service:
        kept = doors(tmp_path, service)
        kept.apply(CagesNow((cage("iris"),)))
        kept.apply(CagesNow(()))
        path = folder_of(tmp_path, "iris")
        await trio.testing.wait_all_tasks_blocked(0.1)
    assert not path.exists()


async def test_a_folder_made_anew_gets_a_socket_again(tmp_path: Path) -> None:
    path = folder_of(tmp_path, "iris")
    async with running_service() as service:
        kept = doors(tmp_path, service)
        kept.apply(CagesNow((cage("iris"),)))
        await until(lambda: answered(path), what="iris's socket")
        path.parent.rename(path.parent.with_name("old"))
        path.parent.mkdir()
        kept.apply(CageChanged(cage("iris", Power.STARTING)))
        await until(lambda: answered(path), what="iris's socket in the new folder")


async def test_a_cage_with_other_uids_gets_a_door_of_its_own(tmp_path: Path) -> None:
    path = folder_of(tmp_path, "iris")
    async with running_service() as service:
        kept = doors(tmp_path, service)
        kept.apply(CagesNow((cage("iris"),)))
        await until(lambda: answered(path), what="iris's socket")
        before = path.stat().st_ino
        kept.apply(CageChanged(cage("iris")))
        assert path.stat().st_ino == before
        kept.apply(CageChanged(cage("iris", uid=4_000_000)))
        await until(path.exists, what="the new socket")
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(trio.BrokenResourceError):
                assert await stream.receive_some() == b"nothing"


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = folder_of(tmp_path, "iris")
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(path))
    listener.close()
    async with running_service() as service:
        doors(tmp_path, service).apply(CagesNow((cage("iris"),)))
        await until(lambda: answered(path), what="iris's socket")
