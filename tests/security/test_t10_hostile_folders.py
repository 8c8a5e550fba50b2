"""T10: whatever an agent or a daemon puts into its own folders, root follows nothing and deletes nothing outside.

The canary is a folder of root's beside the hive; every link that is planted leads there or to /etc.
"""

import os
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from privd.cages.blocks import REGISTRY
from privd.cages.folders import remove as remove_folder
from protocol.names import MANAGER_NAME
from tests.security.conftest import PLANTED_KEY
from tests.security.inside import ENVIRONMENT, HARNESS_UID, command_inside, run_inside
from tests.security.peers import PYTHON, User, run_as
from tests.security.population import away, cages
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

AGENT = "mallory"
DESTROY_S = 30
PLANT = r"""
import stat
canary, places = sys.argv[1], sys.argv[2:]
for place in places:
    os.chdir(place)
    for name in os.listdir("."):
        if not stat.S_ISDIR(os.lstat(name).st_mode):
            os.unlink(name)
    for name, target in {
        "link": canary, "file link": canary + "/precious/file", "etc": "/etc", "up": "../../../../../../../..",
        "api_key": canary + "/written", "ca.pem": canary + "/precious/file", "proc": "/proc/1/root", "self": "self",
        "notes.md": canary + "/precious/file", "lock": canary + "/written",
    }.items():
        os.symlink(target, name)
    os.mkfifo("fifo")
    s = socket.socket(socket.AF_UNIX)
    s.bind("socket")
    for name in (b"\xff\xfe", b"a\nb", b"-rf", b"--help", b"x" * 255, b"\xe2\x80\xaetxt"):
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0))
    with open("sparse", "wb") as f:
        f.truncate(1 << 40)
    os.makedirs("closed/below/deeper", 0o755)
    os.symlink(canary, "closed/below/link")
    os.chmod("closed/below/deeper", 0)
    os.chmod("closed/below", 0)
    os.chmod("closed", 0)
    os.mkdir("deep")
    os.chdir("deep")
    for _ in range(600):
        os.mkdir("d")
        os.chdir("d")
    os.symlink(canary, "link")
print("null")
"""
SWAP = r"""
import itertools, os, shutil, sys
place, canary = sys.argv[1], sys.argv[2]
print("begun", flush=True)
for n in itertools.count():
    for act in (
        lambda: os.symlink(canary, f"{place}/a"),
        lambda: os.mkdir(f"{place}/b{n % 7}"),
        lambda: os.rename(f"{place}/a", f"{place}/b{n % 7}/c"),
        lambda: os.symlink(canary, f"{place}/b{n % 7}/{n}"),
        lambda: os.mkdir(f"{place}/b{n % 7}/d{n}"),
        lambda: os.rename(f"{place}/b{n % 7}", f"{place}/a"),
        lambda: shutil.rmtree(f"{place}/a"),
    ):
        try:
            act()
        except OSError:
            pass
    if not os.path.isdir(place):
        break
"""
FILL = r"""
import itertools, os, sys
os.chdir(sys.argv[1])
print("begun", flush=True)
for n in itertools.count():
    try:
        os.close(os.open(str(n), os.O_CREAT | os.O_WRONLY))
    except OSError:
        break
"""
REPLACE = r"""
import os, sys
place, canary = sys.argv[1], sys.argv[2]
for act in (
    lambda: os.rename(place, place + ".old"),
    lambda: os.rmdir(place),
    lambda: os.symlink(canary, place + ".new"),
    lambda: os.rename(os.path.dirname(place), os.path.dirname(place) + ".old"),
    lambda: os.chmod(os.path.dirname(place), 0o777),
    lambda: os.chown(place, 0, 0),
    lambda: os.symlink(canary, os.path.dirname(place) + "/more"),
):
    try:
        act()
        print("did it")
    except OSError:
        pass
"""


def picture(folder: Path) -> dict[str, Any]:
    """Everything of a tree that a careless root could change."""
    found: dict[str, Any] = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content)
    return found


@pytest.fixture
def canary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hive-canary-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "precious" / "deeper").mkdir(parents=True)
        (folder / "precious" / "file").write_text("keep me")
        folder.chmod(0o755)
        before = picture(folder), Path("/etc").lstat(), Path("/etc/passwd").lstat()
        yield folder
        assert (picture(folder), Path("/etc").lstat(), Path("/etc/passwd").lstat()) == before


@pytest.fixture
def mallory(secure_hive: RunningHive) -> Iterator[RunningHive]:
    """A hive in which agent mallory runs; afterwards it is gone, whatever a test left of it."""
    secure_hive.hivectl("spawn", AGENT)
    yield secure_hive
    if any(cage["agent"] == AGENT for cage in cages(secure_hive)):
        away(secure_hive, AGENT)


def plant(hive: RunningHive, canary: Path) -> None:
    own = f"/agents/{AGENT}"
    run_inside(hive, AGENT, PLANT, str(canary), f"{own}/state", f"{own}/claude")
    run_inside(hive, AGENT, PLANT, str(canary), f"{own}/harness", uid=HARNESS_UID)


def test_t10_a_whole_life_among_planted_links(mallory: RunningHive, canary: Path) -> None:
    home = mallory.places.state / "agents" / AGENT
    plant(mallory, canary)
    assert (home / "claude" / "api_key").is_symlink()
    assert len(list((home / "state").iterdir())) > 15

    assert mallory.hivectl("destroy", AGENT, "--yes")["power"] == "kept"
    assert {path.name for path in home.iterdir()} == {"state", "claude"}
    assert not (mallory.places.run / "agents" / AGENT).exists()

    assert mallory.hivectl("spawn", AGENT)["power"] == "running"
    assert (home / "claude" / "api_key").is_symlink(), "the key went through a planted link"
    plant_again = (home / "state" / "link").readlink()
    assert plant_again == canary

    away(mallory, AGENT)
    assert not home.exists()
    assert not (mallory.places.state / "cages" / AGENT).exists()


@pytest.mark.parametrize("what", ["a link", "a folder with a link for the key", "a file"])
def test_t10_what_was_planted_before_an_agent_is_not_taken_for_its_own(
    secure_hive: RunningHive, canary: Path, what: str
) -> None:
    home = secure_hive.places.state / "agents" / "planted"
    match what:
        case "a link":
            home.symlink_to(canary)
        case "a file":
            home.write_text("x")
        case _:
            (home / "claude").mkdir(parents=True)
            (home / "claude" / "api_key").symlink_to(canary / "written")
    done = secure_hive.hivectl_raw("spawn", "planted")
    assert done.returncode == 1
    assert str(home) in done.stderr
    assert "incident" not in done.stderr
    assert not any(cage["agent"] == "planted" for cage in cages(secure_hive))
    assert not (secure_hive.places.state / "cages" / "planted").exists()
    assert not (canary / "written").exists()
    subprocess.run(["rm", "-r", str(home)], check=True)
    assert secure_hive.hivectl("spawn", "planted")["power"] == "running"
    assert (home / "claude" / "api_key").read_text() == PLANTED_KEY
    away(secure_hive, "planted")


@contextmanager
def swapping(begin: Callable[[str], "subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Somebody's processes swap and fill a folder for as long as it is there."""
    swappers = [begin(script) for script in (SWAP, FILL, FILL)]
    try:
        for swapper in swappers:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"begun\n"
        yield
    finally:
        for swapper in swappers:
            swapper.kill()
            swapper.communicate()


@pytest.mark.parametrize("who", ["broker", "egress"])
def test_t10_a_daemon_that_keeps_filling_its_folder_cannot_hold_root(
    mallory: RunningHive, users: dict[str, User], canary: Path, who: str
) -> None:
    """Taken over, brokerd or egressd swaps links, folders and names in its own folder while root removes it."""
    place = mallory.places.run / "agents" / AGENT / who
    me = users[who]

    def begin(script: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*PYTHON, script, str(place), str(canary)],
            stdout=subprocess.PIPE, user=me.uid, group=me.gid, extra_groups=[], cwd="/", env={},
        )  # fmt: skip

    with swapping(begin):
        assert mallory.hivectl("destroy", AGENT, "--yes")["power"] == "kept"
        assert not (mallory.places.run / "agents" / AGENT).exists()


def test_t10_a_manager_that_keeps_filling_a_proposal_cannot_hold_root(
    mallory: RunningHive, canary: Path
) -> None:
    """The proposed configuration is the manager's to write, until root takes it away to delete it."""
    mallory.hivectl("restart", MANAGER_NAME)  # its cage sees the new agent's configuration from now on
    place = f"/agents/{AGENT}/config"

    def begin(script: str) -> "subprocess.Popen[bytes]":
        command = command_inside(mallory, MANAGER_NAME, script, place, str(canary))
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)

    mallory.hivectl("destroy", AGENT, "--yes")
    with swapping(begin):
        mallory.hivectl("purge", AGENT, "--yes")
        assert not (mallory.places.state / "agents" / AGENT).exists()


@pytest.mark.parametrize("who", ["broker", "web", "iris agent", "nobody"])
def test_t10_the_registry_of_uids_cannot_be_locked_by_others(users: dict[str, User], who: str) -> None:
    """Whoever can open that folder could make every `up` wait."""
    script = "import os, sys\ntry:\n os.open(sys.argv[1], os.O_RDONLY); print('opened')\nexcept PermissionError: pass"
    assert run_as(users[who], script, str(REGISTRY)) == ""
    assert REGISTRY.is_dir()


@pytest.mark.parametrize("who", ["broker", "egress", "web", "nobody"])
def test_t10_a_daemon_cannot_put_another_folder_in_the_place_of_a_bound_one(
    secure_hive: RunningHive, users: dict[str, User], canary: Path, who: str
) -> None:
    run = secure_hive.places.run
    for place in (
        run / "agents" / "iris" / "broker",
        run / "agents" / "iris" / "egress",
        run / "privd",
        run / who,
    ):
        assert run_as(users[who], REPLACE, str(place), str(canary)) == "", place


def test_t10_a_socket_that_became_a_link_is_not_followed_by_root(
    mallory: RunningHive, users: dict[str, User], canary: Path
) -> None:
    """A link in the place of a socket, which brokerd and egressd may put there, changes nothing outside the cage."""
    mallory.hivectl("stop", AGENT)
    for who in ("broker", "egress"):
        socket = mallory.places.run / "agents" / AGENT / who / f"{who}.sock"
        script = "import os, sys; os.unlink(sys.argv[1]); os.symlink(sys.argv[2], sys.argv[1])"
        run_as(users[who], script, str(socket), str(canary / "precious" / "file"))
    mallory.hivectl("start", AGENT)
    mallory.hivectl("destroy", AGENT, "--yes")
    assert not (mallory.places.run / "agents" / AGENT).exists()


def test_t10_millions_of_names_are_not_roots_memory(tmp_path: Path) -> None:
    """An agent's inodes are bounded by the disk alone: removing a folder must not hold all of its names at once."""
    crowd = tmp_path / "crowd"
    (crowd / "below").mkdir(parents=True)
    for number in range(4_000):
        for folder in (crowd, crowd / "below"):
            os.close(os.open(folder / f"{number:0250d}", os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    try:
        remove_folder(crowd)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not crowd.exists()
    assert peak < 400_000, peak


def test_t10_records_of_root_are_out_of_reach(secure_hive: RunningHive, users: dict[str, User]) -> None:
    """What privd believes at its start, nobody else can so much as list."""
    for folder in ("cages/iris", "agents", "log", "shared"):
        for who in ("broker", "web", "egress", "iris agent", "iris harness", "nobody"):
            script = "import os, sys\ntry:\n os.listdir(sys.argv[1]); print('listed')\nexcept PermissionError: pass"
            assert run_as(users[who], script, str(secure_hive.places.state / folder)) == "", (folder, who)
    assert os.geteuid() == 0
