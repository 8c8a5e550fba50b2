"""The difference between two commits of root's own repositories, computed in a box that is nobody and sees nothing."""

import json
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from privd.boxes import Bounds, Box, Boxes
from privd.git.applied import Applied
from privd.git.contents import blobs
from privd.policy.objects import Kind
from protocol.approvals import DiffLine, FileDiff
from protocol.limits import DIFF_FILES_MAX, DIFF_LINES_MAX
from protocol.problem import Problem, Refused

BOUNDS: Final = Bounds(memory_bytes=256 << 20, cpu_s=10, wall_s=20.0, reply_bytes=8 << 20)
PROGRAM: Final = "(a program: it may be executed)"
Side = Annotated[int, Meta(ge=1)] | None


class _Said(Struct, frozen=True, forbid_unknown_fields=True):
    """What `boxes/difference.py` answers for each file."""

    path: str
    before_bytes: int | None
    after_bytes: int | None
    lines: Annotated[
        tuple[tuple[Annotated[str, Meta(pattern=r"\A[ +-]\Z")], Side, Side, str], ...],
        Meta(max_length=DIFF_LINES_MAX),
    ]
    cut: bool


async def difference(boxes: Boxes, applied: Applied, before: str | None, after: str) -> tuple[FileDiff, ...]:
    """What changed from one commit (or from nothing) to another, file by file: every file, or Refused(limit).

    Where a file becomes a program or is none any more, lines without a number say so.
    """
    asked, modes, content = await trio.to_thread.run_sync(_changed, applied, before, after)
    if not asked:
        return ()
    if len(asked) > DIFF_FILES_MAX:
        raise Refused(
            Problem.LIMIT, f"{len(asked)} files are not the same, at most {DIFF_FILES_MAX} are compared"
        )
    request = json.dumps(asked).encode() + b"\n" + content
    said = await boxes.run(Box("difference", "comparing the configurations", bounds=BOUNDS), request)
    try:
        found = [msgspec.json.decode(each, type=_Said) for each in said]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(
            Problem.FAILED, "the box that compared the configurations gave no answer of ours"
        ) from error
    return tuple(
        FileDiff(
            each.path,
            each.before_bytes,
            each.after_bytes,
            (*modes.get(each.path, ()), *(DiffLine(*line) for line in each.lines)),
            each.cut,
        )
        for each in found
    )


Asked = list[tuple[str, int | None, int | None]]
Modes = dict[str, tuple[DiffLine, ...]]


def _changed(applied: Applied, before: str | None, after: str) -> tuple[Asked, Modes, bytes]:
    """The files that are not the same, which of them may be executed from now on or no more, and their contents."""
    old = {} if before is None else blobs(applied, before)
    new = blobs(applied, after)
    asked: Asked = []
    modes: Modes = {}
    content = b""
    for path in sorted({*old, *new}):
        one, other = old.get(path), new.get(path)
        if one == other:
            continue
        was = None if one is None else applied.read(Kind.BLOB, one.id)
        now = None if other is None else applied.read(Kind.BLOB, other.id)
        asked.append((path, None if was is None else len(was), None if now is None else len(now)))
        content += (was or b"") + (now or b"")
        if other is not None and other.executable != (one is not None and one.executable):
            modes[path] = (DiffLine("+" if other.executable else "-", None, None, PROGRAM),)
    return asked, modes, content
