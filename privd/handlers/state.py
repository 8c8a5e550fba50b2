"""One agent's own files, as its user sees them in a box. Root opens the state folder and nothing in it."""

import json
from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from privd.boxes import Bounds, Box
from privd.host import Host, OwnedFolder
from protocol.limits import INTEGER_MAX, STATE_CHUNK_BYTES_MAX, STATE_ENTRIES_MAX
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
from protocol.rpc import Caller

BOUNDS: Final = Bounds(memory_bytes=160 << 20, cpu_s=8, wall_s=15.0)
Shown = Annotated[str, Meta(min_length=1, max_length=4 * 255)]
"""A name of 255 bytes, each of which may stand as four characters."""
Number = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]


class _Listed(Struct, frozen=True, forbid_unknown_fields=True):
    """What `boxes/state.py` answers to `list`; nothing of it is believed before it was decoded."""

    entries: Annotated[tuple[tuple[Shown, StateKind, Count, Number], ...], Meta(max_length=STATE_ENTRIES_MAX)]
    after: Shown | None


class _Read(Struct, frozen=True, forbid_unknown_fields=True):
    total_bytes: Count
    modified_ms: Number


class _Measured(Struct, frozen=True, forbid_unknown_fields=True):
    bytes: Count
    files: Count
    complete: bool


T = TypeVar("T", _Listed, _Read, _Measured)


async def list_state(request: ListState, caller: Caller, host: Host) -> StatePage:
    asked = {"op": "list", "path": request.path, "after": request.after}
    (head,) = await _ask(host, request.agent, asked, frames=1)
    listed = _decoded(head, _Listed)
    if not all(name.isprintable() and "/" not in name for name, *_ in listed.entries):
        raise _unbelievable()
    return StatePage(tuple(StateEntry(*entry) for entry in listed.entries), listed.after)


async def read(request: ReadState, caller: Caller, host: Host) -> StateChunk:
    asked = {"op": "read", "path": request.path, "offset": request.offset}
    head, data = await _ask(host, request.agent, asked, frames=2)
    if len(data) > STATE_CHUNK_BYTES_MAX:
        raise _unbelievable()
    found = _decoded(head, _Read)
    return StateChunk(request.offset, data, found.total_bytes, found.modified_ms)


async def measure(request: MeasureState, caller: Caller, host: Host) -> StateSize:
    return await measured(host, request.agent, host.state_of(request.agent))


async def measured(host: Host, agent: str, place: OwnedFolder) -> StateSize:
    """What one of an agent's folders takes, counted as its owner."""
    (head,) = await _ask(host, agent, {"op": "measure"}, frames=1, place=place)
    found = _decoded(head, _Measured)
    return StateSize(found.bytes, found.files, found.complete)


async def _ask(
    host: Host, agent: str, asked: Mapping[str, object], *, frames: int, place: OwnedFolder | None = None
) -> tuple[bytes, ...]:
    """Ask a box that is this agent's user and sees this agent's state folder, or as another place says."""
    folder, user = place or host.state_of(agent)
    box = Box(
        program="state", purpose=f"looking at the files of {agent}", folder=folder, user=user, bounds=BOUNDS
    )
    answered = await host.boxes.run(box, json.dumps(asked).encode())
    if len(answered) != frames:
        raise _unbelievable()
    return answered


def _decoded(head: bytes, wanted: type[T]) -> T:
    try:
        return msgspec.json.decode(head, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unbelievable() from error


def _unbelievable() -> Refused:
    return Refused(Problem.FAILED, "the box that looked at the files gave no answer of ours")
