"""Frames: however a stream is cut the same frames come out, and whatever is in one, decoding refuses or succeeds."""

import json
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.routes import ROUTES
from protocol.frames import (
    END,
    RequestCodec,
    Splitter,
    decode_reply,
    encode_event,
    encode_ok,
    encode_refusal,
    encode_request,
)
from protocol.limits import FRAME_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Request
from tests.support.shapes import example, requests, to_plain, values

ALL = requests()
PLAIN = RequestCodec(ALL)
CANONICAL = RequestCodec(ALL, canonical=True)
ROOT = RequestCodec([route.request for route in ROUTES], canonical=True)
FRAMES = [json.dumps(example(request)).encode() for request in ALL]
CUTS = st.lists(st.integers(0, 100_000), max_size=8)
ANY_REQUEST = st.sampled_from(ALL).flatmap(values)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(edges)]


def split(data: bytes, cuts: list[int], bytes_max: int) -> tuple[list[bytes], str | None, bool]:
    """The frames, the complaint if there was one, and whether something is left over."""
    splitter = Splitter(bytes_max)
    found: list[bytes] = []
    try:
        for piece in pieces(data, cuts):
            splitter.feed(piece)
            while (frame := splitter.next_frame()) is not None:
                found.append(frame)
    except Refused as refused:
        return found, refused.problem, True
    return found, None, bool(splitter)


# splitting


@given(
    st.lists(st.binary(max_size=30).filter(lambda frame: END not in frame), max_size=6),
    st.binary(max_size=5),
    CUTS,
)
def test_frames_come_out_as_they_went_in(frames: list[bytes], rest: bytes, cuts: list[int]) -> None:
    rest = rest.replace(END, b"")
    data = b"".join(frame + END for frame in frames) + rest
    assert split(data, cuts, 30) == (frames, None, bool(rest))


@given(st.binary(max_size=120), CUTS, CUTS, st.integers(1, 40))
def test_where_a_stream_is_cut_changes_nothing_but_the_moment(
    data: bytes, cuts: list[int], others: list[int], bytes_max: int
) -> None:
    first, second = split(data, cuts, bytes_max), split(data, others, bytes_max)
    assert first[:2] == second[:2]
    if first[1] is None:
        assert first == second


@given(st.binary(max_size=200), CUTS, st.integers(1, 40))
def test_no_frame_is_longer_than_its_bound(data: bytes, cuts: list[int], bytes_max: int) -> None:
    frames, problem, _ = split(data, cuts, bytes_max)
    assert all(len(frame) <= bytes_max for frame in frames)
    longest = max(map(len, data.split(END)))
    assert (problem == Problem.MALFORMED) == (longest > bytes_max)


@pytest.mark.parametrize("over", [0, 1])
def test_the_bound_is_exact(over: int) -> None:
    splitter = Splitter(10)
    splitter.feed(b"x" * (10 + over))
    if over:
        with pytest.raises(Refused, match="longer than 10 bytes"):
            splitter.next_frame()
    else:
        assert splitter.next_frame() is None
        splitter.feed(END)
        assert splitter.next_frame() == b"x" * 10
        assert not splitter


def test_a_frame_that_is_too_long_is_refused_even_when_it_comes_whole() -> None:
    splitter = Splitter(10)
    splitter.feed(b"x" * 11 + END)
    with pytest.raises(Refused, match="the frame has 11 bytes, at most 10 are allowed"):
        splitter.next_frame()


def test_a_stream_without_an_end_is_searched_once() -> None:
    splitter = Splitter(1 << 20)
    for _ in range(1 << 14):
        splitter.feed(b"x" * 32)
        assert splitter.next_frame() is None
        assert splitter._searched == len(splitter._buffer)


# requests


@given(ANY_REQUEST)
def test_every_request_survives_the_way(request: Request) -> None:
    line = encode_request(request)
    assert line.endswith(END)
    assert line.count(END) == 1
    assert PLAIN.decode(line[:-1]) == request
    assert CANONICAL.decode(line[:-1]) == request


@given(ANY_REQUEST, st.randoms(use_true_random=False))
def test_another_way_to_write_the_same_is_not_canonical(request: Request, chance: Random) -> None:
    plain = to_plain(request)
    keys = list(plain)
    chance.shuffle(keys)
    written = json.dumps(
        {key: plain[key] for key in keys}, ensure_ascii=chance.choice([True, False])
    ).encode()
    assert PLAIN.decode(written) == request
    if written + END != encode_request(request):
        with pytest.raises(Refused, match="canonical form"):
            CANONICAL.decode(written)


def refuses_or_decodes(codec: RequestCodec, frame: bytes) -> None:
    try:
        request = codec.decode(frame)
    except Refused as refused:
        told = refused
    else:
        assert isinstance(request, ALL)
        assert codec is PLAIN or encode_request(request) == frame + END
        return
    assert told.problem is Problem.MALFORMED
    assert len(told.detail) < 400
    assert told.detail.isascii()
    assert told.detail.isprintable()


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(frame: bytes) -> None:
    for codec in (PLAIN, CANONICAL, ROOT):
        refuses_or_decodes(codec, frame)


@given(
    st.sampled_from(FRAMES),
    st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=4
    ),
)
def test_mutated_requests_are_refused_or_another_request(
    frame: bytes, changes: list[tuple[int, bytes, int]]
) -> None:
    for at, inserted, dropped in changes:
        place = at % (len(frame) + 1)
        frame = frame[:place] + inserted + frame[place + dropped :]
    for codec in (PLAIN, CANONICAL, ROOT):
        refuses_or_decodes(codec, frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(FRAMES), st.data())
def test_a_field_of_any_other_value_is_refused_or_valid(frame: bytes, data: st.DataObject) -> None:
    plain = json.loads(frame)
    plain[data.draw(st.sampled_from([*plain, "another"]))] = data.draw(JSON | st.floats())
    written = json.dumps(plain).encode()
    for codec in (PLAIN, CANONICAL, ROOT):
        refuses_or_decodes(codec, written)


@pytest.mark.parametrize("opening", [b"[", b'{"op":', b'{"op":"echo","x":[', b'{"op":"send","body":['])
@pytest.mark.parametrize("depth", [100, 5_000, FRAME_BYTES_MAX // 30])
def test_depth_is_refused(opening: bytes, depth: int) -> None:
    refuses_or_decodes(PLAIN, opening * depth)
    refuses_or_decodes(PLAIN, b'{"op":"hello","x":' + opening * depth)


# replies


@given(JSON)
def test_a_reply_is_an_ok_an_event_or_a_refusal(value: object) -> None:
    assert json.loads(bytes(decode_reply(encode_ok(value)[:-1]).ok)) == value
    assert json.loads(bytes(decode_reply(encode_event(value)[:-1]).event)) == value


@given(st.sampled_from(Problem), st.text(max_size=50))
def test_a_refusal_arrives_as_it_was_raised(problem: Problem, detail: str) -> None:
    line = encode_refusal(Refused(problem, detail))
    assert line.count(END) == 1
    with pytest.raises(Refused) as caught:
        decode_reply(line[:-1])
    assert (caught.value.problem, caught.value.detail) == (problem, detail)


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_reply_is_the_daemons_defect(frame: bytes) -> None:
    try:
        decode_reply(frame)
    except Refused as refused:
        assert refused.problem in Problem  # noqa: PT017  # either way out is right
