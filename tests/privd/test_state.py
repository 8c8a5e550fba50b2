"""What privd makes of a box's answer: nothing of it is believed before it was decoded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privd.boxes import Box
from privd.handlers import state
from protocol.limits import STATE_CHUNK_BYTES_MAX, STATE_ENTRIES_MAX
from protocol.privd import (
    ListState,
    MeasureState,
    ReadState,
    StateChunk,
    StateEntry,
    StateKind,
    StatePage,
    StateSize,
)
from protocol.problem import Problem, Refused
from protocol.rpc import Call, Caller, Role

pytestmark = pytest.mark.anyio

CALLER = Caller(Role.OPERATOR, 0)
ROW = ["a", "file", 1, 2]


class Boxes:
    """Answers with what it was given; remembers what it was asked."""

    def __init__(self, *frames: bytes) -> None:
        self.frames = frames
        self.asked: list[tuple[Box, bytes]] = []

    async def run(self, box: Box, request: bytes) -> tuple[bytes, ...]:
        self.asked.append((box, request))
        return self.frames


class Host:
    """The two things that the handlers need."""

    def __init__(self, *frames: bytes) -> None:
        self.boxes = Boxes(*frames)

    def state_of(self, agent: str) -> tuple[Path, tuple[int, int]]:
        return Path("/agents", agent, "state"), (7, 8)


def said(value: object) -> bytes:
    return json.dumps(value).encode()


async def ask(request: Call[Any], host: Host) -> Any:
    handlers: dict[type, Callable[..., Any]] = {
        ListState: state.list_state,
        ReadState: state.read,
        MeasureState: state.measure,
    }
    return await handlers[type(request)](request, CALLER, host)


async def test_a_box_is_the_agents_user_and_sees_its_state() -> None:
    host = Host(said({"entries": [ROW], "after": "a"}))
    page = await ask(ListState("iris", "notes", "0"), host)
    assert page == StatePage((StateEntry("a", StateKind.FILE, 1, 2),), "a")
    ((box, request),) = host.boxes.asked
    assert (box.program, box.folder, box.user) == ("state", Path("/agents/iris/state"), (7, 8))
    assert json.loads(request) == {"op": "list", "path": "notes", "after": "0"}


async def test_a_part_keeps_its_offset() -> None:
    chunk = await ask(ReadState("iris", "x", 5), Host(said({"total_bytes": 9, "modified_ms": -1}), b"data"))
    assert chunk == StateChunk(5, b"data", 9, -1)
    size = await ask(MeasureState("iris"), Host(said({"bytes": 3, "files": 2, "complete": False})))
    assert size == StateSize(3, 2, complete=False)


@pytest.mark.parametrize(
    ("request_", "frames"),
    [
        (ListState("iris"), ()),
        (ListState("iris"), (b"{}",)),
        (ListState("iris"), (b"\xff",)),
        (ListState("iris"), (b"[" * 100_000,)),
        (ListState("iris"), (said({"entries": [ROW], "after": None}), b"more")),
        (ListState("iris"), (said({"entries": [ROW] * (STATE_ENTRIES_MAX + 1), "after": None}),)),
        (ListState("iris"), (said({"entries": [["a\x1b[2J", "file", 1, 2]], "after": None}),)),
        (ListState("iris"), (said({"entries": [["../up", "file", 1, 2]], "after": None}),)),
        (ListState("iris"), (said({"entries": [["", "file", 1, 2]], "after": None}),)),
        (ListState("iris"), (said({"entries": [["x" * 1021, "file", 1, 2]], "after": None}),)),
        (ListState("iris"), (said({"entries": [["a", "door", 1, 2]], "after": None}),)),
        (ListState("iris"), (said({"entries": [["a", "file", -1, 2]], "after": None}),)),
        (ListState("iris"), (said({"entries": [], "after": None, "more": 1}),)),
        (ReadState("iris", "x"), (said({"total_bytes": 1, "modified_ms": 1}),)),
        (ReadState("iris", "x"), (said({"total_bytes": 2**60, "modified_ms": 1}), b"x")),
        (
            ReadState("iris", "x"),
            (said({"total_bytes": 1, "modified_ms": 1}), bytes(STATE_CHUNK_BYTES_MAX + 1)),
        ),
        (MeasureState("iris"), (said({"bytes": "many", "files": 1, "complete": True}),)),
    ],
)
async def test_what_is_no_answer_of_ours_is_a_refusal(request_: Call[Any], frames: tuple[bytes, ...]) -> None:
    with pytest.raises(Refused, match="gave no answer of ours") as refused:
        await ask(request_, Host(*frames))
    assert refused.value.problem is Problem.FAILED
