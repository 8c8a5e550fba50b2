"""Boxes as they are: scripts inside real ones, made by root and by an ordinary user, try what a box may not."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import structs

import privd.boxes
from boxes.reply import REQUEST_BYTES_MAX
from privd.boxes import BOXES_MAX, Box, Boxes, boxes_of_this_process, one_line
from privd.boxing import EXIT_DEADLINE
from protocol.problem import Problem, Refused
from runtime.log import logger
from tests.privd.box_driver import SANDBOX_USER
from tests.privd.cages.hive import CHECKOUT, ORDINARY_UID, until

pytestmark = [pytest.mark.root, pytest.mark.cage]

DRIVER_S = 120
PROBE = '''
import ctypes, errno, mmap, os, resource, signal, socket, struct, sys, threading, time
from boxes.reply import Refused

def refusal(act):
    """The name of the error that the kernel answers, or what it gave instead."""
    try:
        return "did it: %r" % (act(),)
    except OSError as fault:
        return errno.errorcode[fault.errno]
    except (RuntimeError, ValueError) as fault:
        return type(fault).__name__

def answer(request):
    found = {"say": []}
    exec(request.decode(), {**globals(), **found})
    yield from (str(word).encode() for word in found["say"])
'''
TRIES = {
    "shadow": "open('/etc/shadow')",
    "host file": "open('/proc/1/environ')",
    "write the input": "open('/in/new', 'w')",
    "change the input": "os.chmod('/in/file', 0o777)",
    "write the root": "open('/new', 'w')",
    "write programs": "open('/usr/new', 'w')",
    "make a folder": "os.mkdir('/new')",
    "fork": "os.fork()",
    "start a program": "os.execv('/usr/bin/true', ['true'])",
    "thread": "threading.Thread(target=print).start()",
    "internet": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "unix socket": "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
    "socket pair": "socket.socketpair()",
    "signal": "os.kill(1, 9)",
    "become root": "os.setuid(0)",
    "more files": "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
    "file in memory": "os.memfd_create('x')",
    "follow a link": "os.open('/in/link', os.O_RDONLY)",
    "up": "os.listdir('/in/up')",
}
FORBIDDEN = {
    "shadow": {"ENOENT"},
    "host file": {"ENOENT"},
    "write the input": {"EROFS"},
    "change the input": {"EPERM"},
    "write the root": {"EROFS"},
    "write programs": {"EROFS"},
    "make a folder": {"EPERM"},
    "fork": {"EPERM"},
    "start a program": {"EPERM"},
    "thread": {"RuntimeError"},
    "internet": {"EPERM"},
    "unix socket": {"EPERM"},
    "socket pair": {"EPERM"},
    "signal": {"EPERM"},
    "become root": {"EPERM"},
    "more files": {"ValueError"},
    "file in memory": {"EPERM"},
    "follow a link": {"ELOOP", "ENOENT"},
    "up": {"ELOOP", "ENOENT"},
}
"""What each is answered. Python says ValueError and RuntimeError where the kernel said EPERM."""
LOW = {"memory_bytes": 96 << 20, "cpu_s": 1, "wall_s": 30.0}
OTHERS: list[dict[str, Any]] = [
    {"name": "see", "script": "say += [*sorted(os.listdir('/')), '|', *sorted(os.listdir('/in'))]"},
    {"name": "who", "script": "say += [os.getuid(), os.getgid(), len(os.sched_getaffinity(0)) > 0]"},
    {"name": "read", "script": "say.append(open('/in/file').read())"},
    {
        "name": "executable memory",
        "script": "say.append(refusal(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)))",
    },
    {"name": "memory", "script": "bytearray(1 << 30)", "bounds": LOW},
    {"name": "processor", "script": "while True: pass", "bounds": LOW},
    {"name": "clock", "script": "time.sleep(3600)", "bounds": {"wall_s": 0.5}},
    {"name": "refuse", "script": "raise Refused('not_found', 'no such\\nthing \\x1b[2J')"},
    {"name": "refuse too much", "script": "raise Refused('internal', 'x')"},
    {
        "name": "refuse in other words",
        "script": "os.write(1, b'n' + struct.pack('>I', 2) + b'{}'); os._exit(0)",
    },
    {"name": "defect", "script": "raise KeyError('\\x1b]0;x\\x07 \\u202e oops')"},
    {"name": "cut short", "script": "os.write(1, b'd' + struct.pack('>I', 9) + b'half'); os._exit(0)"},
    {"name": "no reply", "script": "os.write(1, b'HTTP/1.1 200 OK'); time.sleep(60)"},
    {"name": "huge frame", "script": "os.write(1, b'd' + struct.pack('>I', 0xffffffff)); time.sleep(60)"},
    {"name": "long", "script": "say += ['x' * 1000] * 3", "bounds": {"reply_bytes": 2500}},
    {
        "name": "empty frames",
        "script": "while True: os.write(1, (b'd' + struct.pack('>I', 0)) * 1000)",
        "bounds": {"reply_bytes": 2500},
    },
    {
        "name": "left open",
        "script": "say += [n for n in range(32) if refusal(lambda n=n: os.fstat(n)) != 'EBADF']",
    },
    {"name": "signal", "script": "ctypes.string_at(0)"},
    {"name": "flood the log", "script": "for _ in range(64): os.write(2, b'y' * 4096)"},
    {"name": "after all that", "script": "say.append('fine')"},
]


PROBES: list[dict[str, Any]] = [
    {
        "name": "tries",
        "script": "\n".join(f"say.append(refusal(lambda: {act}))" for act in TRIES.values()),
    },
    *OTHERS,
]


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A copy of the boxed programs with one more, and an input folder."""
    with tempfile.TemporaryDirectory(prefix="hive-boxes-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        lay_code(folder / "boxes")
        lay_input(folder / "in")
        yield folder


def lay_code(place: Path) -> None:
    """The boxed programs, with one more."""
    shutil.copytree(CHECKOUT / "boxes", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "probe.py").write_text(PROBE)
    text = (place / "confine.py").read_text()
    marker = "    match program:\n"
    assert marker in text
    added = '        case "probe":\n            from boxes import probe\n            return probe.answer\n'
    (place / "confine.py").write_text(text.replace(marker, marker + added))
    for path in (place, *place.rglob("*")):
        path.chmod(0o755)


def lay_input(place: Path) -> None:
    place.mkdir(mode=0o755)
    (place / "file").write_text("content")
    (place / "file").chmod(0o755)
    (place / "link").symlink_to("/in/file")
    (place / "up").symlink_to("../../../..")


def drive(ground: Path, uid: int, probes: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.privd.box_driver", str(ground / "boxes"), str(ground / "in")],
        input=json.dumps(probes),
        capture_output=True,
        text=True,
        timeout=DRIVER_S,
        check=False,
        cwd=CHECKOUT,
        user=uid,
        group=uid,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def found(request: pytest.FixtureRequest, ground: Path) -> dict[str, Any]:
    """What every probe found, and what privd logged."""
    if request.param != "root" and shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    answered, logged = drive(ground, 0 if request.param == "root" else ORDINARY_UID, PROBES)
    return {**answered, "log": logged, "is_root": request.param == "root"}


def test_a_box_sees_its_input_and_programs_and_nothing_else(found: dict[str, Any]) -> None:
    seen = found["see"]["frames"]
    places = set(seen[: seen.index("|")])
    assert {"usr", "in", "code"} <= places
    assert places <= {"usr", "in", "code", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix"}
    assert seen[seen.index("|") + 1 :] == ["file", "link", "up"]
    assert found["read"]["frames"] == ["content"]


WRITES = {
    "the input": ("open('/in/new', 'w').write('x')", "did it: 1"),
    "a folder": ("os.mkdir('/in/folder')", "did it: None"),
    "too much": ("open('/in/long', 'wb', 0).write(bytes(5000))", "did it: 4096"),
    "even more": ("open('/in/long', 'ab', 0).write(b'x')", "EFBIG"),
    "another's file": ("open('/in/file', 'w')", "EACCES"),
    "a link": ("open('/in/link', 'w')", "ELOOP"),
    "up": ("open('/in/up/new', 'w')", "ELOOP"),
    "the root": ("open('/new', 'w')", "EROFS"),
    "programs": ("open('/usr/new', 'w')", "EROFS"),
    "its own code": ("open('/code/new', 'w')", "EROFS"),
    "a mode": ("os.chmod('/in/new', 0o4755)", "EPERM"),
    "a link of its own": ("os.symlink('/', '/in/out')", "EPERM"),
    "a device": ("os.mknod('/in/device', 0o020600, 0x103)", "EPERM"),
    "another name": ("os.link('/in/file', '/in/again')", "EPERM"),
    "a process": ("os.fork()", "EPERM"),
}


def test_a_box_that_writes_writes_into_its_folder_and_nowhere_else(ground: Path) -> None:
    """Plain files and folders, up to a length; nothing that another would follow or run."""
    uid = SANDBOX_USER[0]
    place = ground / "in"
    os.chown(place, uid, uid)
    ignore = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    script = ignore + "\n".join(f"say.append(refusal(lambda: {act}))" for act, _ in WRITES.values())
    try:
        answered, _ = drive(ground, 0, [{"name": "writes", "script": script, "written_bytes": 4096}])
        said = dict(zip(WRITES, answered["writes"]["frames"], strict=True))
        assert said == {name: words for name, (_, words) in WRITES.items()}
        assert (place / "new").stat().st_uid == uid
    finally:
        os.chown(place, 0, 0)
        for name in ("new", "long"):
            (place / name).unlink(missing_ok=True)
        shutil.rmtree(place / "folder", ignore_errors=True)


def test_a_box_is_its_user(found: dict[str, Any]) -> None:
    uid = SANDBOX_USER[0] if found["is_root"] else ORDINARY_UID
    assert found["who"]["frames"] == [str(uid), str(uid), "True"]


def test_a_box_can_do_nothing_but_read(found: dict[str, Any]) -> None:
    answered = dict(zip(TRIES, found["tries"]["frames"], strict=True))
    if not found["is_root"]:  # bubblewrap has no flag that refuses links: this one stays within the input
        assert answered.pop("follow a link").startswith("did it")
        assert "in" in answered.pop("up"), "the root of the box is as far as it leads"
    assert {name: said for name, said in answered.items() if said not in FORBIDDEN[name]} == {}
    assert found["executable memory"]["frames"] == ["EPERM"]


@pytest.mark.parametrize(
    ("name", "problem", "words"),
    [
        ("memory", Problem.LIMIT, "probing needs more than 96 MiB of memory and was given up"),
        ("processor", Problem.LIMIT, "probing took more than 1 s of the processor"),
        ("clock", Problem.LIMIT, "probing took longer than 0.5 s and was given up"),
        ("long", Problem.LIMIT, "probing: the answer is longer than 2500 bytes"),
        ("empty frames", Problem.LIMIT, "probing: the answer is longer than 2500 bytes"),
        ("refuse", Problem.NOT_FOUND, "no such\\nthing \\x1b[2J"),
        ("refuse too much", Problem.FAILED, "refused with internal"),
        ("refuse in other words", Problem.FAILED, "refused in no words of ours"),
        ("defect", Problem.FAILED, "went wrong (exit code 70)"),
        ("cut short", Problem.FAILED, "went wrong (exit code 0)"),
        ("no reply", Problem.FAILED, "answered with what is no reply"),
        ("huge frame", Problem.FAILED, "answered with what is no reply"),
        ("signal", Problem.FAILED, "was ended by signal 11"),
    ],
)
def test_what_goes_wrong_is_a_refusal_in_words(
    found: dict[str, Any], name: str, problem: Problem, words: str
) -> None:
    assert found[name]["problem"] == problem
    assert words in found[name]["detail"]


def test_what_a_box_says_is_logged_without_power(found: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in found["log"].splitlines()]
    said = [line["text"] for line in lines if line["event"] == "a box said something"]
    assert any("oops" in text for text in said)
    assert not set("\x1b\x07\u202e") & set(found["log"])
    assert max(len(text) for text in said) <= privd.boxes.STDERR_BYTES_MAX
    assert found["flood the log"]["problem"] == Problem.FAILED or found["flood the log"]["frames"] == []


def test_a_box_has_nothing_open_but_its_request_its_reply_and_the_log(found: dict[str, Any]) -> None:
    """A folder that is open leads up to its own root, whatever the box's root is."""
    assert found["left open"]["frames"] == ["0", "1", "2"]


def test_boxes_leave_nothing_open(found: dict[str, Any]) -> None:
    assert found["after all that"]["frames"] == ["fine"]
    assert found["descriptors"] < 12


def shown_by_host(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def children(parent: int) -> list[int]:
    """A box's maker is a child of privd, and the boxed process a child of its maker."""
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def makers(parent: int) -> list[int]:
    """Among whatever else a process has started."""
    found = children(parent)
    return [
        pid for pid in found if not is_over(pid) and b"boxing.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def is_over(pid: int) -> bool:
    """Ended; who has lost its parent may still wait for the machine's first process to take notice."""
    try:
        return shown_by_host(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def probing(ground: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setattr(privd.boxes, "PACKAGE", ground / "boxes")
    return Box("probe", "probing", ground / "in", SANDBOX_USER)


SLEEPS = b"os.write(1, b'd' + struct.pack('>I', 5) + b'ready')\ntime.sleep(3600)"


@pytest.mark.anyio
async def test_the_host_sees_a_process_without_any_power(probing: Box) -> None:
    boxes = boxes_of_this_process(logger("test"))
    async with boxes.open(probing, SLEEPS) as frames:
        assert await anext(frames) == b"ready"
        (maker,) = makers(os.getpid())
        (pid,) = children(maker)
        status = shown_by_host(pid)
        uid = str(SANDBOX_USER[0])
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {uid}
        assert status["Groups"] == ""
        assert {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
            ""
        }
        assert (status["NoNewPrivs"], status["Seccomp"], status["NSpid"].split()[-1]) == ("1", "2", "1")
        for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert Path("/proc/self/ns", name).readlink() != Path(f"/proc/{pid}/ns", name).readlink(), name
        limits = Path(f"/proc/{pid}/limits").read_text()
        for line in (
            "Max file size             0 ",
            "Max processes             0 ",
            "Max core file size        0 ",
        ):
            assert line in limits
    assert not Path(f"/proc/{pid}").exists(), "a zombie is left"
    assert not Path(f"/proc/{maker}").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["leave", "cancel", "kill"])
async def test_whoever_leaves_ends_the_box(probing: Box, how: str) -> None:
    boxes = boxes_of_this_process(logger("test"))
    pid = ended = None
    with trio.CancelScope() as scope:
        try:
            async with boxes.open(probing, SLEEPS) as frames:
                assert await anext(frames) == b"ready"
                (maker,) = makers(os.getpid())
                (pid,) = children(maker)
                if how == "cancel":
                    scope.cancel()
                if how == "kill":
                    os.kill(maker, 9)
                if how != "leave":
                    await anext(frames)
        except Refused as refused:
            ended = refused.problem
    assert pid is not None
    assert ended == (Problem.FAILED if how == "kill" else None)
    if how == "kill":  # whoever could have waited for it is gone
        until(lambda: is_over(pid), "the end of the box")
    assert is_over(pid)


ENDED_TWICE = """
import os, signal
from privd import boxing

reap = os.waitpid

def reap_and_be_asked(pid, options):
    found = reap(pid, options)
    os.kill(os.getpid(), signal.SIGTERM)
    return found

child = os.fork()
if child == 0:
    os._exit(7)
os.waitpid = reap_and_be_asked
raise SystemExit(boxing.wait(child, 60.0, None))
"""


def test_a_box_that_ends_as_it_is_ended_says_nothing() -> None:
    """A box that refused is ended by privd; it may have ended by itself just before."""
    done = subprocess.run(
        [sys.executable, "-c", ENDED_TWICE], cwd=CHECKOUT, capture_output=True, timeout=DRIVER_S, check=False
    )
    assert (done.returncode, done.stderr) == (7, b"")


def test_a_box_ends_at_its_deadline_without_privd(probing: Box, tmp_path: Path) -> None:
    """The process that made it counts by itself."""
    argv = privd.boxes._by_root(probing)
    order = json.loads(argv[-1]) | {"wall_s": 0.3, "input": False}
    (tmp_path / "request").write_bytes(SLEEPS)
    with (tmp_path / "request").open() as request:
        done = subprocess.run(
            [*argv[:-1], json.dumps(order)], stdin=request, capture_output=True, timeout=DRIVER_S, check=False
        )
    assert (done.returncode, done.stdout[-5:], done.stderr) == (EXIT_DEADLINE, b"ready", b"")


def test_a_box_ends_with_privd(ground: Path) -> None:
    probes = [{"name": "sleep", "script": SLEEPS.decode(), "bounds": {"wall_s": 600}}]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.privd.box_driver", str(ground / "boxes"), str(ground / "in")],
        stdin=subprocess.PIPE, text=True, cwd=CHECKOUT, env={"PATH": "/usr/bin:/bin"},
    ) as driver:  # fmt: skip
        try:
            assert driver.stdin is not None
            json.dump(probes, driver.stdin)
            driver.stdin.close()
            (maker,) = until(lambda: makers(driver.pid), "the start of a box")
            pid = until(
                lambda: [pid for pid in children(maker) if shown_by_host(pid)["Seccomp"] == "2"], "a box"
            )[0]
        finally:
            driver.kill()
    until(lambda: is_over(pid) and is_over(maker), "the end of the box")


def test_a_box_never_runs_as_root(ground: Path) -> None:
    answered, logged = drive(ground, 0, [{"name": "root", "script": "say.append(1)", "user": [0, 0]}])
    assert answered["root"]["problem"] == Problem.FAILED
    assert "a box never runs as root" in logged


@pytest.mark.anyio
async def test_only_so_many_boxes_are_at_work(probing: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privd.boxes, "PLACE_WAIT_S", 0.05)
    boxes = boxes_of_this_process(logger("test"))
    async with AsyncExitStack() as held:
        for _ in range(BOXES_MAX):
            await held.enter_async_context(boxes.open(probing, SLEEPS))
        with pytest.raises(Refused, match=r"busy: probing: 8 boxes are at work; try again"):
            await boxes.run(probing, b"say.append(1)")
    assert await boxes.run(probing, b"say.append(1)") == (b"1",)


@pytest.mark.anyio
async def test_an_input_that_is_no_real_folder_is_refused(probing: Box, tmp_path: Path) -> None:
    boxes = boxes_of_this_process(logger("test"))
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "file").touch()
    for name, problem in (("link", "failed"), ("file", "failed"), ("missing", "not_found")):
        with pytest.raises(Refused, match=problem):
            await boxes.run(structs.replace(probing, folder=tmp_path / name), b"")


@pytest.mark.anyio
async def test_no_link_is_followed_below_a_folder_that_others_change(probing: Box, tmp_path: Path) -> None:
    boxes = boxes_of_this_process(logger("test"))
    (tmp_path / "agents/iris/config").mkdir(parents=True)
    (tmp_path / "agents/otto").symlink_to("iris")
    (tmp_path / "agents/muse").mkdir()
    (tmp_path / "agents/muse/config").symlink_to("../iris/config")
    above = tmp_path / "agents"
    for agent, problem in (("otto", "failed"), ("muse", "failed"), ("nobody", "not_found")):
        with pytest.raises(Refused, match=problem):
            await boxes.run(structs.replace(probing, folder=above / agent / "config", above=above), b"")
    assert await boxes.run(structs.replace(probing, folder=above / "iris" / "config", above=above), b"") == ()


@pytest.mark.anyio
async def test_bubblewraps_box_says_no_to_a_folder_that_was_swapped(
    probing: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the folder by its name once more, after privd has opened what was meant."""
    for name in ("meant", "swapped"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    box = structs.replace(probing, folder=tmp_path / "swapped")
    boxes = Boxes(logger("test"), shutil.which("bwrap"), None)
    assert await boxes.run(box, b"say = []") == ()
    opened = privd.boxes._open_input
    monkeypatch.setattr(
        privd.boxes, "_open_input", lambda purpose, folder, above: opened(purpose, tmp_path / "meant", above)
    )
    with pytest.raises(Refused, match=r"failed: probing went wrong \(exit code 1\)"):
        await boxes.run(box, b"say = []")


@pytest.mark.anyio
async def test_a_request_has_a_bound(probing: Box) -> None:
    with pytest.raises(Refused, match="limit: probing: asked with 4194305 bytes"):
        await boxes_of_this_process(logger("test")).run(probing, bytes(REQUEST_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("text", "line"), [("plain ä", "plain ä"), ("a\nb", "a\\nb"), ("\x9b\u202e\u2028", "\\x9b\\u202e\\u2028")]
)
def test_words_of_a_box_become_one_line(text: str, line: str) -> None:
    assert one_line(text) == line
