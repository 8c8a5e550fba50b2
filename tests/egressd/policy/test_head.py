"""The parser of the request head: whatever the bytes and however they are cut, a Target or a BadHead."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.head import HEAD_BYTES_MAX, BadHead, HeadReader, parse_connect
from egressd.policy.target import Target
from protocol.problem import Problem

HEAD = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nUser-Agent: x\r\n\r\n"


def read(data: bytes) -> tuple[Target, bytes] | None:
    reader = HeadReader()
    head = reader.feed(data)
    return None if head is None else (parse_connect(head), reader.rest)


def read_in_pieces(data: bytes, cuts: list[int]) -> tuple[Target, bytes] | None:
    reader = HeadReader()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        head = reader.feed(data[begin:end])
        if head is not None:
            return parse_connect(head), reader.rest + data[end:]
    return None


def outcome(data: bytes, cuts: list[int] | None = None) -> object:
    try:
        return read(data) if cuts is None else read_in_pieces(data, cuts)
    except BadHead as bad:
        return bad.status, bad.reason


def test_a_plain_connect() -> None:
    assert read(HEAD + b"\x16\x03\x01") == (Target("example.org", 443), b"\x16\x03\x01")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_both_spoken_versions(version: str) -> None:
    assert read(f"CONNECT example.org:443 HTTP/{version}\r\n\r\n".encode()) == (
        Target("example.org", 443),
        b"",
    )


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PRI", "connect", "BREW"])
def test_everything_but_connect_is_405(method: str) -> None:
    assert outcome(f"{method} http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n".encode()) == (
        405,
        f"only CONNECT host:port is offered here, not {method}",
    )


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"\r\n\r\n", 400, "first line"),
        (b"CONNECT  example.org:443 HTTP/1.1\r\n\r\n", 400, "first line"),
        (b"CONNECT example.org:443\r\n\r\n", 400, "first line"),
        (b"CONNECT example.org:443 HTTP/1.1 \r\n\r\n", 400, "first line"),
        (b"CONNECT example.org:443 HTTP/2.0\r\n\r\n", 400, "HTTP/1.1"),
        (b"CONNECT example.org:443 HTTP/1.1\n\n", 400, "CR LF"),
        (b"CONNECT example.org:443 HTTP/1.1\r\rHost: x\r\n\r\n", 400, "CR LF"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\n\r\n", 400, "CR LF"),
        (b"CONNECT example.org HTTP/1.1\r\n\r\n", 400, "write host:port"),
        (b"CONNECT http://example.org:443 HTTP/1.1\r\n\r\n", 400, "host"),
        (b"CONNECT /etc/passwd HTTP/1.1\r\n\r\n", 400, "host:port"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost : x\r\n\r\n", 400, "name: value"),
        (b"CONNECT example.org:443 HTTP/1.1\r\n folded\r\n\r\n", 400, "name: value"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400, "name: value"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nno colon\r\n\r\n", 400, "name: value"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400, "no body"),
        (b"CONNECT example.org:443 HTTP/1.1\r\ntransfer-ENCODING: chunked\r\n\r\n", 400, "no body"),
        (b"CONNECT example.org:443 HTTP/1.1\r\n" + b"A: b\r\n" * 65 + b"\r\n", 431, "64 headers"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nA: " + b"b" * HEAD_BYTES_MAX, 431, "longer than 8192"),
        (b"\x16\x03\x01" + b"\x00" * HEAD_BYTES_MAX, 431, "longer than 8192"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, status: int, reason: str) -> None:
    with pytest.raises(BadHead, match=reason) as caught:
        read(data)
    assert caught.value.status == status
    assert caught.value.problem is Problem.MALFORMED


def test_a_head_of_exactly_the_bound_passes() -> None:
    begin, end = b"CONNECT example.org:443 HTTP/1.1\r\nA: ", b"\r\n\r\n"
    fits = begin + b"b" * (HEAD_BYTES_MAX - len(begin) - len(end)) + end
    assert read(fits) == (Target("example.org", 443), b"")
    assert outcome(fits[:-4] + b"b" + end) == (431, f"the request head is longer than {HEAD_BYTES_MAX} bytes")


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=6))
def test_random_bytes_are_refused_or_unfinished(data: bytes, cuts: list[int]) -> None:
    for untrusted in (data, data + b"\r\n\r\n", b"CONNECT " + data + b"\r\n\r\n"):
        result = outcome(untrusted, cuts)
        if isinstance(result, tuple) and isinstance(result[0], int):
            assert result[0] in (400, 405, 431)
            assert isinstance(result[1], str)
            assert result[1].isascii()
            assert result[1].isprintable()


@given(
    st.integers(0, len(HEAD) - 1),
    st.integers(0, 255),
    st.booleans(),
    st.lists(st.integers(0, 10_000), max_size=6),
)
def test_mutated_heads_end_alike_however_they_are_cut(
    at: int, byte: int, insert: bool, cuts: list[int]
) -> None:
    data = HEAD[:at] + bytes([byte]) + HEAD[at if insert else at + 1 :] + b"rest"
    assert outcome(data, cuts) == outcome(data)


@given(st.lists(st.integers(0, 10_000), max_size=12), st.binary(max_size=50))
def test_cuts_change_nothing(cuts: list[int], rest: bytes) -> None:
    assert read_in_pieces(HEAD + rest, cuts) == (Target("example.org", 443), rest)
