"""The disk of a cage: held by the kernel's quotas where there are any, else counted and judged. Real file systems."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from privd.cages import launch
from privd.policy.limits import DISK_STOP_FACTOR
from privd.upkeep import look_at_disk
from protocol.privd import CageLimitHit, Power, Resource
from protocol.settings import CageLimits
from tests.privd.test_host import GatedBackend, new_host
from tests.support.making import make

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")]

MIB = 1 << 20
IMAGE_MIB = 192
QUOTA_MIB = 8
FILES_MAX = QUOTA_MIB * launch.FILES_PER_MIB
UIDS = [602_932_200, 602_932_201]
STRANGER = 54_321
DISK_MIB = 64


def mounted(folder: Path, *options: str, features: str) -> Path:
    """An ext4 of a few MiB, on a loop device that goes when it is unmounted."""
    image, place = folder / "image", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(IMAGE_MIB * MIB)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-O", features, str(image)], check=True)
    done = subprocess.run(
        ["mount", "-o", ",".join(("loop", *options)), str(image), str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this kernel mounts no ext4 with {features}: {done.stderr.strip()[:120]}")
    place.chmod(0o777)
    return place


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder whose mounts are taken away again."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    try:
        yield tmp_path
    finally:
        if (tmp_path / "mounted").is_mount():
            subprocess.run(["umount", str(tmp_path / "mounted")], capture_output=True, check=True)


def as_user(uid: int, source: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/usr/bin/python3", "-I", "-c", source],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def write(place: Path, mib: int) -> str:
    opened = f"import os\nfile = open('{place}/f' + str(os.getuid()), 'wb', buffering=0)\n"
    return f"{opened}for _ in range({mib}): file.write(bytes(1 << 20))"


def test_the_kernel_holds_each_user_to_its_quota(small: Path) -> None:
    place = mounted(small, "usrquota", features="quota")
    assert launch.limit_disk(str(place), UIDS, QUOTA_MIB) == ""
    for uid in UIDS:
        assert as_user(uid, write(place, QUOTA_MIB // 2)).returncode == 0
        done = as_user(uid, write(place, 2 * QUOTA_MIB))
        assert f"[Errno {errno.EDQUOT}]" in done.stderr
    assert as_user(STRANGER, write(place, 2 * QUOTA_MIB)).returncode == 0
    many = f"for n in range({2 * FILES_MAX}): open(f'{place}/n{{n}}', 'w').close()"
    assert f"[Errno {errno.EDQUOT}]" in as_user(UIDS[0], many).stderr
    assert len(list(place.glob("n*"))) <= FILES_MAX


def test_quotas_that_only_count_hold_nothing_and_that_is_said(small: Path) -> None:
    place = mounted(small, features="quota")
    assert "usrquota" in launch.limit_disk(str(place), UIDS, QUOTA_MIB)


def test_a_file_system_without_quotas_is_recognised(small: Path) -> None:
    place = mounted(small, features="^quota")
    assert launch.limit_disk(str(place), UIDS, QUOTA_MIB) == launch.NO_QUOTAS


@pytest.mark.anyio
async def test_without_quotas_files_are_counted_and_a_cage_that_takes_too_much_is_stopped(
    small: Path,
) -> None:
    """Real files of the agent's on a real file system, counted by a real box; only the cage is a stand-in."""
    place = mounted(small, features="^quota")
    async with trio.open_nursery() as nursery:
        host = new_host(place, nursery, backend := GatedBackend(), CageLimits(disk_mib_max=DISK_MIB))
        row = await make(host, "iris")
        keeper = host.keeper("iris")
        await keeper.start()
        state = place / "agents/iris/state"
        os.chown(state, row.agent_uid, row.agent_uid)
        with host.changes.subscribed() as changes:
            await look_at_disk(host, keeper)
            (state / "notes").write_bytes(bytes((DISK_MIB + 1) * MIB))
            await look_at_disk(host, keeper)
            told = await anext(changes)
            assert isinstance(told, CageLimitHit)
            assert told.resource is Resource.DISK
        assert keeper.row().power is Power.RUNNING
        (state / "more").write_bytes(bytes(int(DISK_MIB * (DISK_STOP_FACTOR - 1)) * MIB))
        await look_at_disk(host, keeper)
        assert keeper.row().power is Power.FAILED
        assert "disk_mib_max" in keeper.row().detail
        assert len(backend.cages) == 1
        host.close()
        nursery.cancel_scope.cancel()
