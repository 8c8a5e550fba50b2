"""Boxes: helper programs (`boxes/`) that read what an agent made, or write where it writes, so that root never does.

A box has one user, which is never root: the agent whose files it reads, or nobody. It sees one input folder, read-only
(unless it is to write there), without links, devices and programs, beside the host's /usr and its own code; no network,
no process but itself, no capability, the few system calls of `boxes/system_calls.py`. Memory, processor time, wall
clock and the length of its reply have bounds. The reply is as untrustworthy as the input: whoever asked decodes it
strictly.

As root `privd/boxing.py` makes it: as our child, or as a unit where systemd runs the hive (`privd/box_unit.py`).
An ordinary user's privd lets bubblewrap make the same, as that user.
"""

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from boxes.reply import DATA, END, EXIT_MEMORY, FRAME_BYTES_MAX, HEAD, REFUSAL, REQUEST_BYTES_MAX
from privd import box_unit
from privd.box_unit import BoxUnit
from privd.boxing import CODE, EXIT_BY_SIGNAL, EXIT_DEADLINE, INPUT, INPUT_FD
from privd.cages import folders
from privd.cages.boot import UNHANDLED
from privd.cages.probe import PROGRAM_PATH
from privd.cages.processes import Process
from privd.cages.skeleton import LINKED
from privd.cages.spec import Exit, How
from protocol.limits import DETAIL_CHARS_MAX
from protocol.problem import Problem, Refusal, Refused
from runtime.log import Log

BOXES_MAX: Final = 8
"""Boxes at once; who asks for one more waits."""
PLACE_WAIT_S: Final = 20.0
WALL_SLACK_S: Final = 1.0
"""What a box's own deadline is later than ours: it ends the box when privd has gone."""
END_S: Final = 5.0
"""How long a box may take to end by itself, and then by force."""
STDERR_BYTES_MAX: Final = 4096
OOM_SCORE: Final = 600
NOBODY: Final = (65_534, 65_534)
LAUNCHER: Final = Path(__file__).with_name("boxing.py")
PACKAGE: Final = Path(__file__).parents[1] / "boxes"
READ_BYTES: Final = 64 * 1024
MAY_SAY: Final = frozenset(
    {Problem.MALFORMED, Problem.NOT_FOUND, Problem.CONFLICT, Problem.LIMIT, Problem.BUSY, Problem.FAILED}
)
"""Problems that a box may answer with; another one is a box that has gone wrong."""


class Bounds(Struct, frozen=True):
    """What one box may use."""

    memory_bytes: int = 192 << 20
    """Address space, the interpreter's own 40 MiB within it."""
    cpu_s: int = 10
    wall_s: float = 20.0
    files: int = 32
    reply_bytes: int = 1 << 20
    """All frames together, the empty ones as well."""


class Box(Struct, frozen=True):
    """One box. `purpose` begins the sentence "… took longer than 5 s" for whoever asked."""

    program: str
    purpose: str
    folder: Path | None = None
    """Seen as /in. Everything above it must be root's (or the hive's own user's)."""
    user: tuple[int, int] = NOBODY
    bounds: Bounds = Bounds()
    written_bytes: int = 0
    """The longest file that it may write into its folder; 0: it writes nothing."""
    above: Path | None = None
    """A folder above `folder` in which somebody may change names: no link is followed from there on."""


class Order(Struct, frozen=True):
    """What `boxing.py` is told."""

    program: str
    parent: int | None
    """Who started it, and with whom it ends; None where it ends with the call that ordered it."""
    uid: int
    gid: int
    input: str | None
    """Where the input folder is, which is handed over open."""
    show: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    oom_score_adj: int
    memory_bytes: int
    cpu_s: int
    wall_s: float
    files: int
    written_bytes: int


class Boxes:
    """The boxes of one hive. `bwrap` makes them where privd is an ordinary user, systemd where `unit` is its socket."""

    def __init__(self, log: Log, bwrap: str | None, unit: Path | None) -> None:
        self._log = log
        self._bwrap = bwrap
        self._unit = unit
        self._places = trio.CapacityLimiter(BOXES_MAX)

    async def run(self, box: Box, request: bytes) -> tuple[bytes, ...]:
        """Every frame of the reply. Refused as the box refused, or `limit`, `failed`, `busy` in our own words."""
        async with self.open(box, request) as frames:
            return tuple([frame async for frame in frames])

    @asynccontextmanager
    async def open(self, box: Box, request: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """The frames of the reply, one by one as they come; whoever leaves early ends the box."""
        if len(request) > REQUEST_BYTES_MAX:
            raise Refused(
                Problem.LIMIT, f"{box.purpose}: asked with {len(request)} bytes, at most {REQUEST_BYTES_MAX}"
            )
        place = object()
        with trio.move_on_after(PLACE_WAIT_S) as waiting:
            await self._places.acquire_on_behalf_of(place)
        if waiting.cancelled_caught:
            raise Refused(Problem.BUSY, f"{box.purpose}: {BOXES_MAX} boxes are at work; try again")
        try:
            running = _start(box, request, self._bwrap, self._unit)
            try:
                async with aclosing(running.frames()) as frames:
                    yield frames
            finally:
                with trio.CancelScope(shield=True):
                    await self._end(running)
        finally:
            self._places.release_on_behalf_of(place)

    async def _end(self, running: "_Running") -> None:
        """End whatever is left of a box, for sure, and log what it said."""
        if not running.has_answered:
            running.process.send(signal.SIGTERM)
        try:
            with trio.move_on_after(END_S):
                await running.ended()
            running.process.send(signal.SIGKILL)
            with trio.move_on_after(END_S) as ending:
                await running.ended()
            if ending.cancelled_caught:
                self._log.error("a box does not end", program=running.box.program, pid=running.process.pid)
            running.process.exit()
            said = os.read(running.said, STDERR_BYTES_MAX)
        except BlockingIOError:
            said = b""
        finally:
            await running.close()
        if said:
            text = said.decode("utf-8", "backslashreplace")
            self._log.warning(
                "a box said something", program=running.box.program, user=running.box.user[0], text=text
            )


def boxes_of_this_process(log: Log, unit: Path | None = None) -> Boxes:
    """For whoever runs privd: bubblewrap makes the boxes of an ordinary user. `unit` is systemd's socket for boxes."""
    bwrap = None if os.geteuid() == 0 else shutil.which("bwrap", path=PROGRAM_PATH)
    if bwrap is None and os.geteuid() != 0:
        raise Refused(Problem.FAILED, "no bwrap: apt-get install --no-install-recommends bubblewrap")
    return Boxes(log, bwrap, unit)


class _Running:
    """One box at work."""

    def __init__(self, box: Box, process: Process | BoxUnit, reply: int, said: int) -> None:
        self.box = box
        self.process = process
        self.said = said
        self._reply = trio.lowlevel.FdStream(reply)
        self._taken = bytearray()
        self.has_answered = False
        """Whether it has said all that it has to say; it ends by itself then."""
        self._deadline = trio.current_time() + box.bounds.wall_s

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Payloads until the end that the box itself declares; whatever else happens is a refusal."""
        left = self.box.bounds.reply_bytes
        while True:
            tag, length = HEAD.unpack(await self._take(HEAD.size))
            if tag not in {DATA, REFUSAL, END} or length > FRAME_BYTES_MAX:
                raise self._fault("answered with what is no reply")
            if length > left:
                most = self.box.bounds.reply_bytes
                raise Refused(Problem.LIMIT, f"{self.box.purpose}: the answer is longer than {most} bytes")
            left -= HEAD.size + length
            payload = await self._take(length)
            if tag == REFUSAL:
                raise self._refusal(payload)
            if tag == END:
                self.has_answered = True
                return
            yield payload

    async def _take(self, count: int) -> bytes:
        while len(self._taken) < count:
            more = b""
            with trio.move_on_at(self._deadline) as waiting:
                more = await self._reply.receive_some(READ_BYTES)
                if not more:
                    await self.process.ended()
            if waiting.cancelled_caught:
                raise self._too_long()
            if not more:
                raise self._ended()
            self._taken += more
        taken = bytes(self._taken[:count])
        del self._taken[:count]
        return taken

    def _ended(self) -> Refused:
        """Why a reply has no end."""
        bounds = self.box.bounds
        match self.process.exit():
            case Exit(How.EXIT, code) if code == EXIT_DEADLINE:
                return self._too_long()
            case Exit(How.EXIT, code) if code == EXIT_MEMORY:
                return self._limit(f"needs more than {bounds.memory_bytes >> 20} MiB of memory")
            case Exit(How.EXIT, code) if code == EXIT_BY_SIGNAL + signal.SIGKILL:
                return self._limit(
                    f"took more than {bounds.cpu_s} s of the processor, or more memory than there is"
                )
            case Exit(How.EXIT, code) if code > EXIT_BY_SIGNAL:
                return self._fault(f"was ended by signal {code - EXIT_BY_SIGNAL}")
            case how:
                return self._fault(f"went wrong ({how})")

    def _too_long(self) -> Refused:
        return self._limit(f"took longer than {self.box.bounds.wall_s:g} s")

    def _limit(self, what: str) -> Refused:
        return Refused(Problem.LIMIT, f"{self.box.purpose} {what} and was given up")

    def _fault(self, what: str) -> Refused:
        return Refused(Problem.FAILED, f"{self.box.purpose} {what}; privd's log has what it said")

    def _refusal(self, payload: bytes) -> Refused:
        try:
            said = msgspec.json.decode(payload, type=Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._fault("refused in no words of ours")
        if said.problem not in MAY_SAY:
            return self._fault(f"refused with {said.problem}, which is not its to say")
        return Refused(said.problem, one_line(said.detail)[:DETAIL_CHARS_MAX])

    async def ended(self) -> None:
        """Return when nothing of the box is left: its last process held the other end of the reply."""
        await self.process.ended()
        while await self._reply.receive_some(READ_BYTES):
            continue

    async def close(self) -> None:
        os.close(self.said)
        self.process.close()
        await self._reply.aclose()


def _start(box: Box, request: bytes, bwrap: str | None, unit: Path | None) -> _Running:
    """Start what makes the box, with the request as its input and pipes for what it says."""
    with ExitStack() as opened:

        def close_later(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        handed = {0: close_later(_sealed(request))}
        reply, handed[1] = os.pipe2(os.O_CLOEXEC)
        close_later(handed[1])
        said, handed[2] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        close_later(handed[2])
        try:
            if box.folder is not None:
                handed[INPUT_FD] = close_later(_open_input(box.purpose, box.folder, box.above))
            process = _made(box, handed, bwrap, unit)
        except BaseException:
            os.close(reply)
            os.close(said)
            raise
    return _Running(box, process, reply, said)


def _made(box: Box, handed: dict[int, int], bwrap: str | None, unit: Path | None) -> Process | BoxUnit:
    """What waits for the box, and ends with it."""
    if unit is not None:
        return box_unit.call(unit, _order(box, None), handed)
    argv = _by_root(box) if bwrap is None else _by_bwrap(box, bwrap, handed.get(INPUT_FD))
    pid = os.posix_spawn(
        argv[0],
        argv,
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in handed.items()],
        setsid=True,
        setsigmask=[],
        setsigdef=UNHANDLED,
    )
    return Process.child(pid)


def _sealed(request: bytes) -> int:
    """The request as a file in memory that nobody can change: it needs no task of ours that writes it."""
    held = os.memfd_create("request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(held, "wb", closefd=False) as file:
        file.write(request)
    os.lseek(held, 0, os.SEEK_SET)
    fcntl.fcntl(
        held,
        fcntl.F_ADD_SEALS,
        fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
    )
    return held


def _open_input(purpose: str, folder: Path, above: Path | None) -> int:
    """The input folder itself, whatever its name leads to a moment later."""
    try:
        if above is not None:
            return folders.hold(above, folder)
        return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Refused(Problem.NOT_FOUND, f"{purpose}: {folder} is not there") from error
    except OSError as error:
        raise Refused(Problem.FAILED, f"{purpose}: {folder} is no real folder") from error


def _by_root(box: Box) -> list[str]:
    return [sys.executable, "-I", "-S", str(LAUNCHER), _order(box, os.getpid()).decode()]


def _order(box: Box, parent: int | None) -> bytes:
    uid, gid = box.user
    order = Order(
        program=box.program,
        parent=parent,
        uid=uid,
        gid=gid,
        input=None if box.folder is None else str(box.folder),
        show=_shown(box),
        links=_links(),
        oom_score_adj=OOM_SCORE,
        memory_bytes=box.bounds.memory_bytes,
        cpu_s=box.bounds.cpu_s,
        wall_s=box.bounds.wall_s + WALL_SLACK_S,
        files=box.bounds.files,
        written_bytes=box.written_bytes,
    )
    return msgspec.json.encode(order)


def _by_bwrap(box: Box, bwrap: str, opened: int | None) -> list[str]:
    """Bubblewrap finds the input by its name once more; the box looks whether it is what was opened."""
    found = None if opened is None else os.fstat(opened)
    order = {
        "input": None if found is None else (found.st_dev, found.st_ino),
        "program": box.program,
        "memory_bytes": box.bounds.memory_bytes,
        "cpu_s": box.bounds.cpu_s,
        "files": box.bounds.files,
        "written_bytes": box.written_bytes,
    }
    given = "--bind" if box.written_bytes else "--ro-bind"
    place = (given, str(box.folder), INPUT) if box.folder is not None else ()
    return [
        bwrap,
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--clearenv", "--hostname", "box"),
        *(word for source, target in _shown(box) for word in ("--ro-bind", source, target)),
        *place,
        *(word for target, place in _links() for word in ("--symlink", target, place)),
        *("--remount-ro", "/", "--chdir", "/", "--"),
        *(
            str(Path(sys.executable).resolve()),
            "-I",
            "-S",
            f"{CODE}/boxes",
            msgspec.json.encode(order).decode(),
        ),
    ]


def _shown(box: Box) -> tuple[tuple[str, str], ...]:
    """What a box sees of the host, and where: the programs and libraries of /usr, and our own code."""
    shown = [(ground, ground) for ground in _grounds()]
    places = [Path("/", name) for name in LINKED]
    shown += [(str(place), str(place)) for place in places if place.is_dir() and not place.is_symlink()]
    return (*shown, (str(PACKAGE), f"{CODE}/boxes"))


def _grounds() -> tuple[str, ...]:
    """The host's /usr, and what holds the interpreter where that is elsewhere."""
    base = sys.base_prefix
    if base.startswith("/nix/store/"):
        return ("/usr", "/nix/store")
    return ("/usr",) if base == "/usr" or base.startswith("/usr/") else ("/usr", base)


def _links() -> tuple[tuple[str, str], ...]:
    return tuple(
        (str(Path("/", name).readlink()), f"/{name}") for name in LINKED if Path("/", name).is_symlink()
    )


def one_line(text: str) -> str:
    """Text that a box made, without anything that a terminal or a log would obey."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
