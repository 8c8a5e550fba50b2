"""A session as a conversation: one side says something, the other must answer. Streams in memory, no socket.

`Dialogue` is the peer; the requests below are what a small daemon of the tests serves, one for each way to behave.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Self

import trio
from msgspec import Meta, Struct
from trio.testing import memory_stream_pair

from protocol import frames
from protocol.limits import FRAME_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import EVERY_ROLE, Call, Caller, Request, Role, Watch
from runtime.log import logger
from runtime.session import Session, Surface
from runtime.stopping import Stopping

ANSWER_S = 3_600.0
"""Virtual seconds within which something must be said; more than any limit of a session."""


class Echo(Call[str], frozen=True):
    """Answered at once with its text."""

    text: Annotated[str, Meta(max_length=100_000)]


class Work(Call[int], frozen=True):
    """Answered after so many seconds of work that nothing interrupts."""

    seconds: float = 1.0


class Wait(Call[str], frozen=True):
    """Waits for `Room.bell`, as a long poll does."""

    waits: ClassVar[bool] = True


class Refuse(Call[None], frozen=True):
    """Refused by its handler."""

    problem: Problem


class Break(Call[None], frozen=True):
    """Meets a defect, of the kind named."""

    kind: str = "ZeroDivisionError"


class Big(Call[str], frozen=True):
    """Answered with so many characters."""

    chars: int


class Secret(Call[str], frozen=True):
    """For the operator alone."""


class Count(Watch[int], frozen=True):
    """Counts up to `to`, then waits for `Room.bell`, then ends as `end` says."""

    to: int = 3
    end: str = ""


class Room(Struct):
    """What the handlers act on, and what the tests look at."""

    bell: trio.Event
    heard: list[str]
    watching: int = 0


async def echo(request: Echo, caller: Caller, room: Room) -> str:
    room.heard.append(request.text)
    return request.text


async def work(request: Work, caller: Caller, room: Room) -> int:
    await trio.sleep(request.seconds)
    room.heard.append("worked")
    return 1


async def wait(request: Wait, caller: Caller, room: Room) -> str:
    try:
        await room.bell.wait()
    except trio.Cancelled:
        room.heard.append("given up")
        raise
    return "rung"


async def refuse(request: Refuse, caller: Caller, room: Room) -> None:
    raise Refused(request.problem, "because")


async def break_down(request: Break, caller: Caller, room: Room) -> None:
    defects: dict[str, Exception] = {
        "ZeroDivisionError": ZeroDivisionError("a secret detail"),
        "TooSlowError": trio.TooSlowError(),
        "BrokenResourceError": trio.BrokenResourceError("another stream of the handler"),
        "group": ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    }
    raise defects[request.kind]


async def big(request: Big, caller: Caller, room: Room) -> str:
    return "x" * request.chars


async def secret(request: Secret, caller: Caller, room: Room) -> str:
    room.heard.append("secret")
    return "the secret"


@asynccontextmanager
async def count(request: Count, caller: Caller, room: Room) -> AsyncIterator[AsyncIterator[int]]:
    async def numbers() -> AsyncIterator[int]:
        for number in range(request.to):
            yield number
        await room.bell.wait()
        if request.end == "refused":
            raise Refused(Problem.LIMIT, "you fell behind")
        if request.end == "defect":
            raise ZeroDivisionError("a secret detail")

    room.watching += 1
    try:
        async with trio.open_nursery() as nursery:  # as a handler with a task of its own has
            nursery.start_soon(trio.sleep, 0)
            yield numbers()
    finally:
        room.watching -= 1


ROUTES = (
    Echo.answered_by(echo, callers=EVERY_ROLE),
    Work.answered_by(work, callers=EVERY_ROLE),
    Wait.answered_by(wait, callers=EVERY_ROLE),
    Refuse.answered_by(refuse, callers=EVERY_ROLE),
    Break.answered_by(break_down, callers=EVERY_ROLE),
    Big.answered_by(big, callers=EVERY_ROLE),
    Secret.answered_by(secret, callers=Role.OPERATOR),
    Count.answered_by(count, callers=EVERY_ROLE),
)


def new_room() -> Room:
    return Room(trio.Event(), [])


class Dialogue:
    """The peer of one session. What it reads is whole frames, decoded."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, room: Room, stopping: Stopping) -> None:
        self.stream = stream
        self.room = room
        self.stopping = stopping
        self._splitter = frames.Splitter(1 << 30)

    async def says(self, *what: Request | bytes) -> Self:
        """Send requests, or bytes as they are, at once."""
        data = b"".join(frames.encode_request(one) if isinstance(one, Request) else one for one in what)
        await self.stream.send_all(data)
        return self

    async def hears(self) -> Any:
        """The next frame."""
        while (frame := self._splitter.next_frame()) is None:
            data = await self._receive()
            assert data, "the session ended instead of saying something"
            self._splitter.feed(data)
        return json.loads(frame)

    async def hears_problem(self, problem: Problem, words: str = "") -> str:
        """The next frame is this refusal; its detail."""
        said = await self.hears()
        assert set(said) == {"problem", "detail"}, said
        assert said["problem"] == problem.value, said
        assert words in said["detail"], said
        return str(said["detail"])

    async def hears_the_end(self) -> None:
        """The other side closes without another word."""
        rest = await self._receive()
        assert rest == b"", rest
        assert not self._splitter

    async def _receive(self) -> bytes | bytearray:
        with trio.fail_after(ANSWER_S):
            return await self.stream.receive_some(1 << 16)


@asynccontextmanager
async def dialogue(
    role: Role = Role.OPERATOR,
    *,
    canonical: bool = False,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    streams: tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream] | None = None,
) -> AsyncIterator[Dialogue]:
    """A session in the background and its peer in hand. At the end the peer leaves, and the session must end too."""
    ours, theirs = streams or memory_stream_pair()
    peer = Dialogue(ours, new_room(), Stopping())
    surface = Surface(ROUTES, peer.room, canonical=canonical, frame_bytes_max=frame_bytes_max)
    session = Session(theirs, surface, Caller(role, 1000), stopping=peer.stopping, log=logger("test"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.serve)
        yield peer
        await peer.stream.aclose()
