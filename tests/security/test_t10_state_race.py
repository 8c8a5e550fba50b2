"""T10: the operator reads an agent's files while the agent changes them: nothing outside is read, nobody waits.

`HIVE_LONG=1` makes the race a minute long instead of a few seconds.
"""

import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import trio

from boxes import reply as box
from boxes.state import part
from protocol.privd import ListState, MeasureState, ReadState, StateChunk, StateKind, StatePage
from protocol.problem import Problem, Refused
from runtime.client import Client
from tests.security.inside import ENVIRONMENT, command_inside, run_inside
from tests.security.peers import PYTHON, User, run_as
from tests.security.population import away
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

AGENT = "racer"
LONG: Final = os.environ.get("HIVE_LONG") == "1"
RACE_S: Final = 60.0 if LONG else 4.0
RACE_S_MAX: Final = 10 * RACE_S
"""A busy machine gets longer, until both sides have had their turns."""
READERS: Final = 4
EACH_MIN: Final = 30
"""Reads that found the agent's own file, and reads that met something else in its place."""
SWAPS_MIN: Final = 10_000
SECRET: Final = b"the secret of the host"
VISIBLE: Final = b"PRETTY_NAME"
"""Of /usr/lib/os-release, which a box can see: a link to it must not be followed either."""
SWAP = r"""
import ctypes, itertools, os, sys
canary = sys.argv[1]
libc = ctypes.CDLL(None)
EXCHANGE, HERE = 2, -100
os.chdir(sys.argv[2])
open("good", "w").write("fine"); os.makedirs("real", exist_ok=True); open("real/note", "w").write("fine")
os.makedirs("sub/sub", exist_ok=True); open("sub/sub/note", "w").write("fine")
os.symlink(canary + "/secret", "evil"); os.symlink("/usr/lib/os-release", "system"); os.symlink(canary, "way")
os.symlink("/proc/1/root", "magic"); os.symlink("../../../../..", "out"); os.mkfifo("pipe")
with open("sparse", "wb") as f:
    f.truncate(1 << 42)
print("begun", flush=True)
def swap(source):
    os.link(source, "fresh", follow_symlinks=False)
    os.rename("fresh", "note")
count = 0
for count in itertools.count():
    for act in (
        lambda: swap("good"), lambda: swap("evil"), lambda: swap("good"), lambda: swap("system"), lambda: swap("pipe"),
        lambda: swap("sparse"), lambda: swap("good"), lambda: swap("magic"),
        lambda: libc.renameat2(HERE, b"real", HERE, b"way", EXCHANGE),
        lambda: os.rename("sub", "bus"), lambda: os.rename("bus", "sub"),
        lambda: libc.renameat2(HERE, b"sub/sub", HERE, b"out", EXCHANGE),
    ):
        try:
            act()
        except OSError:
            pass
    if count % 64 == 0:
        with open("turns.new", "w") as f:
            f.write(str(count * 12))
        os.rename("turns.new", "turns")
"""


@pytest.fixture
def secret() -> Iterator[Path]:
    """Readable by everybody, so that only what the reader does can keep it."""
    with tempfile.TemporaryDirectory(prefix="hive-secret-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "secret").write_bytes(SECRET)
        (folder / "note").write_bytes(SECRET)
        yield folder


@pytest.fixture
def racer(secure_hive: RunningHive) -> Iterator[RunningHive]:
    secure_hive.hivectl("spawn", AGENT)
    yield secure_hive
    away(secure_hive, AGENT)


class Tally:
    """What readers were told."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.defects: list[str] = []

    @property
    def good(self) -> int:
        return self.told["fine"]

    @property
    def refused(self) -> int:
        return sum(count for what, count in self.told.items() if what.startswith("refused"))

    async def read(self, client: Client, path: str) -> None:
        try:
            chunk: StateChunk = await client.call(ReadState(AGENT, path))
        except Refused as refused:
            self.told[f"refused {refused.problem}"] += 1
            if refused.problem in (Problem.INTERNAL, Problem.FAILED):
                self.defects.append(refused.detail)
            return
        if SECRET in chunk.data or VISIBLE in chunk.data:
            self.leaks.append(f"read {path}: {chunk.data[:60]!r}")
        self.told["fine" if chunk.data == b"fine" else "other"] += 1

    async def list(self, client: Client, path: str) -> None:
        try:
            page: StatePage = await client.call(ListState(AGENT, path))
        except Refused as refused:
            self.told[f"unlisted {refused.problem}"] += 1
            return
        names = {entry.name for entry in page.entries}
        if names & {"secret", "etc", "usr", "code", "in"}:
            self.leaks.append(f"list {path}: {names}")
        self.told["listed"] += 1


async def race(hive: RunningHive, tally: Tally) -> None:
    """Read until the time is up and both sides had their turns; at the latest at RACE_S_MAX."""
    begun = trio.current_time()

    async def reader() -> None:
        async with Client(hive.socket("privd")) as client:
            while True:
                for path in ("note", "real/note", "way/note", "sub/sub/note", "out/note", "magic/etc/passwd"):
                    await tally.read(client, path)
                for path in ("", "real", "way", "sub/sub", "out", "magic"):
                    await tally.list(client, path)
                await client.call(MeasureState(AGENT))
                tally.told["measured"] += 1
                took = trio.current_time() - begun
                if took > RACE_S_MAX or (took > RACE_S and min(tally.good, tally.refused) >= EACH_MIN):
                    return

    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(reader)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_t10_no_read_ever_leaves_the_state_folder(racer: RunningHive, secret: Path) -> None:
    state = racer.places.state / "agents" / AGENT / "state"
    command = command_inside(racer, AGENT, SWAP, str(secret), f"/agents/{AGENT}/state")
    tally = Tally()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"begun\n"
            trio.run(race, racer, tally)
            assert swapper.poll() is None, "the swapper has ended: nothing raced"
        finally:
            swapper.kill()
    swaps = int((state / "turns").read_text())
    print(f"{dict(tally.told)} against {swaps} swaps, {len(tally.leaks)} leaks")
    assert tally.leaks == []
    assert tally.defects == []
    assert tally.good >= EACH_MIN
    assert tally.refused >= EACH_MIN
    assert tally.told["listed"] >= EACH_MIN
    assert swaps >= SWAPS_MIN


def checked_then_opened(state: Path, path: str) -> bytes:
    """How one must not: the place is resolved and compared, then opened by its name."""
    place = state / path
    if not os.path.realpath(place).startswith(f"{state}/"):
        return b""
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_t10_the_opening_alone_wins_the_race(secret: Path, tmp_path: Path) -> None:
    """Without any box, where a followed link would lead to the secret. The usual check loses against the same swaps."""
    tmp_path.chmod(0o755)
    told: Counter[str] = Counter()
    root = os.open(tmp_path, os.O_PATH)
    with subprocess.Popen([*PYTHON, SWAP, str(secret), str(tmp_path)], stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"begun\n"
            until = time.monotonic() + RACE_S_MAX
            while not told["leaked by the usual check"] and time.monotonic() < until:
                with suppress(OSError):
                    told["leaked by the usual check"] += SECRET in checked_then_opened(tmp_path, "real/note")
            begun = time.monotonic()
            while time.monotonic() < begun + RACE_S or min(told["fine"], told["refused"]) < EACH_MIN:
                for path in (b"note", b"real/note", b"way/note", b"sub/sub/note", b"out/note"):
                    try:
                        _, data = part(root, path, 0)
                    except box.Refused:
                        told["refused"] += 1
                        continue
                    told["leaked" if SECRET in data or VISIBLE in data else "fine"] += 1
                assert time.monotonic() < begun + RACE_S_MAX, dict(told)
        finally:
            swapper.kill()
            os.close(root)
    print(f"{dict(told)} against {(tmp_path / 'turns').read_text()} swaps")
    assert told["leaked by the usual check"] > 0, "these swaps would win against nobody"
    assert told["leaked"] == 0


def test_t10_what_is_no_file_is_refused_and_keeps_nobody_waiting(racer: RunningHive, secret: Path) -> None:
    script = r"""
os.chdir(sys.argv[1])
os.mkfifo("pipe")
s = socket.socket(socket.AF_UNIX); s.bind("socket")
os.symlink(sys.argv[2] + "/secret", "link"); os.symlink("link", "chain"); os.symlink(".", "loop")
for name in (b"\xff\xfe", b"a\nb", b"\x1b[2J", "\u202etxt".encode()):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
os.close(os.open("closed", os.O_CREAT | os.O_WRONLY, 0))
with open("sparse", "wb") as f:
    f.truncate(1 << 43)
print(json.dumps(attempt(lambda: os.mknod("device", 0o20666, os.makedev(1, 8)))))
"""
    made = run_inside(racer, AGENT, script, f"/agents/{AGENT}/state", str(secret))
    assert made["refused"], "an agent makes no device"
    state = racer.places.state / "agents" / AGENT / "state"
    os.mknod(
        state / "device", 0o20666, os.makedev(1, 8)
    )  # as if it could: the kernel's random numbers, without end

    async def look() -> None:
        async with Client(racer.socket("privd")) as client:
            page: StatePage = await client.call(ListState(AGENT))
            kinds = {entry.name: entry.kind for entry in page.entries}
            assert kinds["link"] is kinds["chain"] is kinds["loop"] is StateKind.LINK
            assert kinds["pipe"] is kinds["socket"] is kinds["device"] is StateKind.OTHER
            assert {"\\xff\\xfe", "a\\x0ab", "\\x1b[2J", "\\xe2\\x80\\xaetxt"} <= set(kinds)
            for name in (
                "pipe",
                "socket",
                "link",
                "chain",
                "loop/loop/file",
                "device",
                "closed",
                "../claude/x",
                "/etc/shadow",
            ):
                with pytest.raises(Refused) as refused:
                    await client.call(ReadState(AGENT, name))
                assert refused.value.problem is Problem.CONFLICT, name
            end: StateChunk = await client.call(ReadState(AGENT, "sparse", (1 << 43) - 7))
            assert (end.data, end.total_bytes) == (bytes(7), 1 << 43)
            size = await client.call(MeasureState(AGENT))
            assert size.complete
            assert size.bytes < 1 << 20, "a sparse file takes what the disk holds for it"

    begun = time.monotonic()
    trio.run(look)
    assert time.monotonic() - begun < 60, "somebody waited for a pipe"


def test_t10_kept_state_is_read_as_carefully(racer: RunningHive, secret: Path) -> None:
    """A stopped, a destroyed and a returned agent: the same files, the same refusals."""
    script = r"""
os.chdir(sys.argv[1]); open("note", "w").write("fine"); os.symlink(sys.argv[2] + "/secret", "link"); print("null")
"""
    run_inside(racer, AGENT, script, f"/agents/{AGENT}/state", str(secret))

    async def look() -> None:
        async with Client(racer.socket("privd")) as client:
            chunk: StateChunk = await client.call(ReadState(AGENT, "note"))
            assert chunk.data == b"fine"
            with pytest.raises(Refused, match="links are not followed"):
                await client.call(ReadState(AGENT, "link"))
            assert (await client.call(MeasureState(AGENT))).files == 2

    for command in (("stop", AGENT), ("destroy", AGENT, "--yes"), ("spawn", AGENT)):
        racer.hivectl(*command)
        trio.run(look)


@pytest.mark.parametrize("who", ["web", "broker", "egress", "nobody"])
def test_s381_without_every_check_a_daemon_still_reads_nothing(
    secure_hive: RunningHive, users: dict[str, User], who: str
) -> None:
    """Taken over, webd is its uid: the kernel keeps the host's secrets and every agent's folder from it."""
    agents = secure_hive.places.state / "agents"
    script = r"""
import os, sys
for act in (
    lambda: open("/etc/shadow").read(),
    lambda: os.listdir(sys.argv[1]), lambda: os.listdir(sys.argv[1] + "/iris/state"),
    lambda: open(sys.argv[1] + "/iris/claude/api_key").read(), lambda: os.open(sys.argv[1] + "/iris/state", os.O_PATH),
    lambda: os.chdir(sys.argv[1] + "/iris"), lambda: os.setuid(0),
):
    try:
        act()
        print("did it")
    except PermissionError:
        pass
"""
    assert run_as(users[who], script, str(agents)) == ""


def test_s381_webds_own_socket_reads_no_place_but_an_agents_state(
    secure_hive: RunningHive, users: dict[str, User]
) -> None:
    """It may ask privd for files, with every check of its own left out: any path, straight on the socket."""
    script = r"""
import json, socket, sys
for path in json.loads(sys.argv[2]):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    asked = {"op": "read_state", "agent": "iris", "path": path, "offset": 0}
    s.sendall(json.dumps(asked, separators=(",", ":")).encode() + b"\n")
    print(path, json.loads(s.makefile().readline()).get("problem", "ANSWERED"))
"""
    paths = ["/etc/shadow", "../../../../etc/shadow", "../claude/api_key", "..", ".", "", "../../hm1nd/state",
             "//etc/shadow", "/proc/self/environ", "/proc/self/cwd/etc/shadow", "/in/../etc/shadow",
             "/code/boxes/state.py"]  # fmt: skip
    said = run_as(users["web"], script, str(secure_hive.socket("privd")), json.dumps(paths))
    assert len(said.splitlines()) == len(paths)
    assert {line.rpartition(" ")[2] for line in said.splitlines()} == {"conflict"}, said
