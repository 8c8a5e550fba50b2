"""What a box says on its standard output: frames, each `tag length payload`, the last one an end or a refusal.

    d   a part of the reply
    n   a refusal: JSON, {"problem": code, "detail": words}
    e   the end; a reply without it was cut short

A program is a function from the request to the parts of its reply; it refuses by raising `Refused`.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

HEAD: Final = struct.Struct(">cI")
DATA, REFUSAL, END = b"d", b"n", b"e"
FRAME_BYTES_MAX: Final = 1024 * 1024
"""Of one payload; a program divides what is longer."""
REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024
EXIT_DEFECT: Final = 70
"""The program or its box went wrong; what it said stands in privd's log."""
EXIT_MEMORY: Final = 71

Answer = Callable[[bytes], Iterator[bytes]]


class Refused(Exception):
    """A no, for the peer of privd: one of its problem codes, and words about what it asked for."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(f"{problem}: {detail}")
        self.problem = problem
        self.detail = detail


def write_reply(answer: Answer, request: bytes, descriptor: int) -> None:
    """Write the whole reply. What is no refusal is left to whoever called: the reply then has no end."""
    try:
        for part in answer(request):
            _write(descriptor, DATA, part)
    except Refused as refused:
        words = {"problem": refused.problem, "detail": refused.detail}
        _write(descriptor, REFUSAL, json.dumps(words).encode())
    else:
        _write(descriptor, END, b"")


def _write(descriptor: int, tag: bytes, payload: bytes) -> None:
    if len(payload) > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(payload)} bytes, at most {FRAME_BYTES_MAX}")
    rest = memoryview(HEAD.pack(tag, len(payload)) + payload)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
