"""Frames of a reply, and that one which was cut short can be told from one that ended."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxes.reply import FRAME_BYTES_MAX, HEAD, Answer, Refused, write_reply


def written(tmp_path: Path, answer: Answer) -> bytes:
    descriptor = os.open(tmp_path / "reply", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        write_reply(answer, b"request", descriptor)
    finally:
        os.close(descriptor)
    return (tmp_path / "reply").read_bytes()


def test_parts_then_an_end(tmp_path: Path) -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        yield request
        yield b""

    assert written(tmp_path, answer) == HEAD.pack(b"d", 7) + b"request" + HEAD.pack(b"d", 0) + HEAD.pack(
        b"e", 0
    )


def test_a_refusal_ends_it(tmp_path: Path) -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        yield b"some"
        raise Refused("conflict", "ä")

    text = rb'{"problem": "conflict", "detail": "\u00e4"}'
    assert written(tmp_path, answer) == HEAD.pack(b"d", 4) + b"some" + HEAD.pack(b"n", len(text)) + text


def test_a_defect_leaves_it_without_an_end(tmp_path: Path) -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        yield b"some"
        raise KeyError

    with pytest.raises(KeyError):
        written(tmp_path, answer)
    assert (tmp_path / "reply").read_bytes() == HEAD.pack(b"d", 4) + b"some"


def test_a_frame_has_a_bound(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most"):
        written(tmp_path, lambda request: iter([bytes(FRAME_BYTES_MAX + 1)]))
