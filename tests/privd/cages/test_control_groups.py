"""Control groups: read from what is mounted, limits written as each version wants them, what fails is said."""

from pathlib import Path

import pytest
import trio

from privd.cages.control_groups import (
    Mounts,
    _create,
    create,
    joined_by_writing,
    of_groups,
    read_mounts,
    remove,
    unit_folders,
    values_v1,
    values_v2,
)
from protocol.settings import CageLimits

LIMITS = CageLimits(memory_mib_max=64, tasks_max=20, cpu_percent_max=50, files_max=None)
NONE = CageLimits(memory_mib_max=None, tasks_max=None, cpu_percent_max=None, files_max=None)
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
33 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
"""


def test_a_hybrid_machine() -> None:
    found = read_mounts(HYBRID)
    assert found.unified == "/sys/fs/cgroup/uni fied"
    assert {name: found.legacy[name] for name in ("cpu", "memory", "name=systemd")} == {
        "cpu": "/sys/fs/cgroup/cpu",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }


def test_a_service_that_sees_the_hierarchies_twice() -> None:
    elsewhere = HYBRID.replace("/sys/fs/cgroup", "/run/systemd/unit-root/sys/fs/cgroup")
    assert read_mounts(HYBRID + elsewhere) == read_mounts(elsewhere + HYBRID) == read_mounts(HYBRID)
    assert read_mounts(elsewhere).legacy["memory"] == "/run/systemd/unit-root/sys/fs/cgroup/memory"


def test_a_machine_without() -> None:
    assert read_mounts("27 1 254:0 / / rw - ext4 /dev/vda rw\n") == Mounts()


def test_values() -> None:
    assert values_v2(LIMITS) == {
        "memory": {"memory.max": "67108864", "memory.swap.max": "0"},
        "pids": {"pids.max": "20"},
        "cpu": {"cpu.max": "50000 100000"},
    }
    assert values_v1(LIMITS)["cpu"] == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}
    assert list(values_v1(LIMITS)["memory"]) == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    assert values_v1(NONE) == values_v2(NONE) == {}


@pytest.mark.anyio
async def test_nowhere_to_make_groups() -> None:
    groups = await create("hive", "iris", LIMITS, Mounts("/nowhere", {"memory": "/nowhere/memory"}))
    assert groups.folders == ()
    assert [text.split(":")[0] for text in groups.degraded] == [
        f"no control group limits {name}" for name in ("memory", "tasks", "cpu")
    ]


@pytest.mark.anyio
async def test_what_is_not_asked_for_is_not_missed() -> None:
    assert (await create("hive", "iris", NONE, Mounts())).degraded == ()


def test_version_two_writes_into_the_cage_s_own_folder(tmp_path: Path) -> None:
    """A folder of plain files in place of the kernel's: what is written where, and that missing files are told."""
    cage = tmp_path / "hyperhive-hive" / "iris"
    cage.mkdir(parents=True)
    for name in ("memory.max", "pids.max"):
        (cage / name).touch()
    for place in (tmp_path, cage.parent):
        (place / "cgroup.subtree_control").touch()
    groups = _create("hyperhive-hive/iris", LIMITS, Mounts(str(tmp_path)))
    assert (cage / "memory.max").read_text() == "67108864"
    assert (cage / "pids.max").read_text() == "20"
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+")
    assert groups.held == {"memory": "control groups", "tasks": "control groups"}
    assert groups.missing == {"cpu": "the kernel offers no controller"}
    (said,) = groups.degraded
    assert said.startswith("no control group limits cpu: the kernel offers no controller; ")
    assert joined_by_writing(groups) == (f"{cage}/cgroup.procs",)


def test_what_systemd_wrote_is_looked_at_and_not_believed(tmp_path: Path) -> None:
    """Files as systemd leaves them: version 1 for tasks, version 2 for memory and a processor that has no limit."""
    old, new = tmp_path / "old", tmp_path / "new"
    files = {old: {"pids.max": "20"}, new: {"memory.max": "67108864", "cpu.max": "max 100000"}}
    for folder, contents in files.items():
        folder.mkdir()
        for name, text in contents.items():
            (folder / name).write_text(f"{text}\n")
    found = of_groups((str(old), str(new)), LIMITS, "systemd")
    assert found.held == {"memory": "systemd", "tasks": "systemd"}
    assert found.missing == {"cpu": f"{new}/cpu.max says max 100000"}
    assert joined_by_writing(found) == ()


@pytest.mark.root
@pytest.mark.anyio
async def test_on_this_machine() -> None:
    groups = await create("test", "iris", LIMITS)
    try:
        assert groups.folders
        for file in joined_by_writing(groups):
            assert Path(file).exists()
        memory = [
            Path(folder) for folder in groups.folders if (Path(folder) / "memory.limit_in_bytes").exists()
        ]
        for folder in memory:
            assert (folder / "memory.limit_in_bytes").read_text() == "67108864\n"
        again = await create("test", "iris", LIMITS)
        assert again == groups
    finally:
        assert await remove(groups.folders) == ()
    assert not any(Path(folder).parent.exists() for folder in groups.folders)


@pytest.mark.root
@pytest.mark.anyio
async def test_a_former_cage_s_groups_are_not_used_again() -> None:
    """In version 2 nspawn hands controllers on below its group, which then takes no process."""
    former = await create("test", "iris", LIMITS)
    for folder in former.folders:
        (Path(folder) / "payload").mkdir()
    groups = await create("test", "iris", LIMITS)
    assert groups == former
    assert not any((Path(folder) / "payload").exists() for folder in groups.folders)
    assert await remove(groups.folders) == ()


@pytest.mark.root
@pytest.mark.anyio
async def test_groups_below_go_too_and_live_ones_are_waited_for() -> None:
    groups = await create("test", "nest", NONE)
    for folder in groups.folders:
        (Path(folder) / "payload" / "deeper").mkdir(parents=True)
    async with trio.open_nursery() as nursery:
        sleeper = await trio.lowlevel.open_process(["/bin/sleep", "1000"])
        (Path(groups.folders[0]) / "payload" / "deeper" / "cgroup.procs").write_text(str(sleeper.pid))
        nursery.start_soon(_end, sleeper)
        assert await remove(groups.folders) == ()


async def _end(sleeper: trio.Process) -> None:
    await trio.sleep(0.05)
    sleeper.kill()
    await sleeper.wait()


@pytest.mark.anyio
async def test_removing_nothing() -> None:
    assert await remove(()) == ()
    assert await remove(("/nowhere/at/all",)) == ()


def test_a_unit_s_groups_are_found_though_nspawn_moved_down() -> None:
    mounts = Mounts(
        "/sys/fs/cgroup/unified", {"memory": "/sys/fs/cgroup/memory", "cpu": "/sys/fs/cgroup/cpu"}
    )
    said = (
        "9:memory:/machine.slice/container@h-iris.service\n8:cpu,cpuacct:/machine.slice\n"
        "0::/machine.slice/container@h-iris.service/supervisor\n"
    )
    assert unit_folders(said, "container@h-iris.service", mounts) == (
        "/sys/fs/cgroup/memory/machine.slice/container@h-iris.service",
        "/sys/fs/cgroup/unified/machine.slice/container@h-iris.service",
    )
    assert unit_folders(said, "container@h-iri.service", mounts) == ()
