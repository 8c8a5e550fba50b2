"""One connection as a dialogue: every stage of the pipeline has its own no, and nothing a peer does goes further."""

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog.testing
import trio
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked

from protocol.limits import FIRST_FRAME_S, FRAME_BODY_S, FRAME_BYTES_MAX, REPLY_BYTES_MAX, REPLY_TAKEN_S
from protocol.problem import Problem
from protocol.rpc import Role
from runtime.session import WATCH_TAKEN_S
from tests.support.dialogue import Big, Break, Count, Dialogue, Echo, Refuse, Secret, Wait, Work, dialogue

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

ECHO = b'{"op":"echo","text":"hello"}\n'


async def serves_the_next(peer: Dialogue) -> None:
    await peer.says(Echo("still here"))
    assert await peer.hears() == {"ok": "still here"}


# frame


async def test_one_request_after_the_other() -> None:
    async with dialogue() as peer:
        for text in ("hello", "", "zwei\n\u202e"):
            await peer.says(Echo(text))
            assert await peer.hears() == {"ok": text}


async def test_a_request_may_come_in_pieces() -> None:
    async with dialogue() as peer:
        for index in range(len(ECHO)):
            await peer.says(ECHO[index : index + 1])
        assert await peer.hears() == {"ok": "hello"}


async def test_nobody_speaks_first() -> None:
    async with dialogue() as peer:
        began = trio.current_time()
        await peer.hears_problem(Problem.MALFORMED, f"no whole frame within {FIRST_FRAME_S:g} s")
        assert trio.current_time() - began == FIRST_FRAME_S
        await peer.hears_the_end()


async def test_who_has_spoken_once_may_stay_silent() -> None:
    async with dialogue() as peer:
        await serves_the_next(peer)
        await trio.sleep(80_000)
        await serves_the_next(peer)


@pytest.mark.parametrize("spoken_before", [False, True])
async def test_a_frame_that_has_begun_must_end(spoken_before: bool) -> None:
    async with dialogue() as peer:
        if spoken_before:
            await serves_the_next(peer)
        await peer.says(b'{"op":')
        began = trio.current_time()
        await peer.hears_problem(Problem.MALFORMED, f"no whole frame within {FRAME_BODY_S:g} s")
        assert trio.current_time() - began == FRAME_BODY_S
        await peer.hears_the_end()


async def test_a_byte_now_and_then_keeps_no_connection() -> None:
    async with dialogue() as peer, trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                await peer.says(b"x")
                await trio.sleep(FRAME_BODY_S * 0.4)

        began = trio.current_time()
        nursery.start_soon(drip)
        await peer.hears_problem(Problem.MALFORMED, "no whole frame")
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began <= FRAME_BODY_S + 1


async def test_a_frame_of_exactly_the_bound_passes() -> None:
    envelope = len(b'{"op":"echo","text":""}')
    async with dialogue() as peer:
        await peer.says(Echo("x" * (FRAME_BYTES_MAX - envelope)))
        assert len((await peer.hears())["ok"]) == FRAME_BYTES_MAX - envelope
        await peer.says(Echo("x" * (FRAME_BYTES_MAX - envelope + 1)))
        await peer.hears_problem(Problem.MALFORMED, f"at most {FRAME_BYTES_MAX} are allowed")
        await peer.hears_the_end()


async def test_a_frame_without_an_end_is_given_up() -> None:
    async with dialogue() as peer:
        await peer.says(b"x" * (FRAME_BYTES_MAX + 1))
        await peer.hears_problem(Problem.MALFORMED, f"longer than {FRAME_BYTES_MAX} bytes")
        await peer.hears_the_end()


async def test_leaving_in_the_middle_of_a_frame() -> None:
    async with dialogue() as peer:
        await peer.says(b'{"op":"echo"')
        await peer.stream.send_eof()
        await peer.hears_the_end()
    assert peer.room.heard == []


async def test_a_half_closed_peer_still_gets_its_reply() -> None:
    async with dialogue() as peer:
        await peer.says(Work(2.0))
        await peer.stream.send_eof()
        assert await peer.hears() == {"ok": 1}
        await peer.hears_the_end()


# decode


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "not JSON"),
        (b"{}", "missing required field `op`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "got `null`"),
        (b'{"op":"shell","cmd":"id"}', "Invalid value 'shell'"),
        (b'{"op":"echo"}', "missing required field `text`"),
        (b'{"op":"echo","text":1}', "Expected `str`, got `int` - at `$.text`"),
        (b'{"op":"echo","text":"x","as":"root"}', "unknown field `as`"),
        (b'{"op":"echo","text":"\xff"}', "not UTF-8"),
        (b'{"op":"ec\xffho"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"op":"echo"}', "not JSON"),
        (b'{"op":"echo","text":"\\ud800"}', "not JSON"),
        (b'{"op":"work","seconds":1e400}', "out of range"),
        (b'{"op":"work","seconds":NaN}', "not JSON"),
        (b'{"x":' * 10_000, "nested too deeply"),
        (b"[" * 60_000, "Expected `object`"),
        (b'{"op":"echo","text":"a"} x', "not JSON"),
    ],
)
async def test_what_is_no_request_is_malformed_and_ends_the_connection(frame: bytes, words: str) -> None:
    async with dialogue() as peer:
        await peer.says(frame + b"\n")
        await peer.hears_problem(Problem.MALFORMED, words)
        await peer.hears_the_end()
    assert peer.room.heard == []


async def test_a_refusal_repeats_little_and_no_control_character() -> None:
    async with dialogue() as peer:
        await peer.says(b'{"op":"\\u001b[2J\\u202e\\n' + b"x" * 50_000 + b'"}\n')
        detail = await peer.hears_problem(Problem.MALFORMED, "not a request of this socket")
    assert len(detail) < 400
    assert detail.isascii()
    assert detail.isprintable()


@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"echo","text":"a"} ',
        b' {"op":"echo","text":"a"}',
        b'{"op": "echo","text":"a"}',
        b'{"text":"a","op":"echo"}',
        b'{"op":"echo","text":"a","text":"a"}',
        b'{"op":"echo","text":"b","text":"a"}',
        b'{"op":"\\u0065cho","text":"a"}',
        b'{"op":"echo","text":"\\u0061"}',
        b'{"op":"work","seconds":1}',
        b'{"op":"work"}',
    ],
)
async def test_where_root_listens_there_is_one_way_to_write_a_request(frame: bytes) -> None:
    async with dialogue(canonical=True) as peer:
        await peer.says(frame + b"\n")
        await peer.hears_problem(Problem.MALFORMED, "canonical form")
        await peer.hears_the_end()
    assert peer.room.heard == []


async def test_what_our_client_writes_is_canonical() -> None:
    async with dialogue(canonical=True) as peer:
        for text in ("a", 'zwei\n"\\\u202e\U0001f41d', "\x00\x7f"):
            await peer.says(Echo(text))
            assert await peer.hears() == {"ok": text}


async def test_two_frames_at_once_are_refused_undone() -> None:
    async with dialogue() as peer:
        await peer.says(Echo("one"), Echo("two"))
        await peer.hears_problem(Problem.MALFORMED, "a second frame")
        await peer.hears_the_end()
    assert peer.room.heard == []


@pytest.mark.parametrize("request_", [Wait(), Count()])
async def test_speaking_out_of_turn_ends_what_waits(request_: Wait | Count) -> None:
    async with dialogue() as peer:
        await peer.says(request_)
        if isinstance(request_, Count):
            assert [await peer.hears() for _ in range(4)] == [
                {"ok": None},
                *({"event": number} for number in range(3)),
            ]
        await wait_all_tasks_blocked()
        await peer.says(Echo("impatient"))
        await peer.hears_problem(Problem.MALFORMED, "a second frame")
        await peer.hears_the_end()
    assert "impatient" not in peer.room.heard


# role


@pytest.mark.parametrize("role", [Role.BROKER, Role.EGRESS, Role.AGENT, Role.MANAGER])
async def test_a_role_asks_only_for_what_is_its_own(role: Role) -> None:
    async with dialogue(role) as peer:
        await peer.says(Secret())
        assert role.name is not None
        await peer.hears_problem(Problem.DENIED, f"{role.name.lower()} may not ask for secret")
        assert peer.room.heard == []
        await serves_the_next(peer)


async def test_the_one_who_may_is_answered() -> None:
    async with dialogue(Role.OPERATOR) as peer:
        await peer.says(Secret())
        assert await peer.hears() == {"ok": "the secret"}


# policy and act


@pytest.mark.parametrize("problem", list(Problem))
async def test_a_handlers_refusal_crosses_with_its_code(problem: Problem) -> None:
    async with dialogue() as peer:
        await peer.says(Refuse(problem))
        assert await peer.hears_problem(problem) == "because"
        await serves_the_next(peer)


@pytest.mark.parametrize("kind", ["ZeroDivisionError", "TooSlowError", "BrokenResourceError", "group"])
async def test_a_defect_is_an_incident_that_stands_in_the_log(kind: str) -> None:
    async with dialogue() as peer:
        with structlog.testing.capture_logs() as records:
            await peer.says(Break(kind))
            detail = await peer.hears_problem(Problem.INTERNAL, "incident ")
        assert "secret" not in detail
        (record,) = (one for one in records if one["log_level"] == "error")
        assert record["incident"] in detail
        assert record["op"] == "break"
        assert isinstance(record["exc_info"], Exception)
        await serves_the_next(peer)


async def test_a_reply_has_a_bound() -> None:
    async with dialogue() as peer:
        await peer.says(Big(REPLY_BYTES_MAX))
        await peer.hears_problem(Problem.LIMIT, f"at most {REPLY_BYTES_MAX}: ask for less")
        await serves_the_next(peer)


# reply


async def test_a_peer_that_never_reads_is_given_up() -> None:
    async with dialogue(streams=lockstep_stream_pair()) as peer:
        began = trio.current_time()
        await peer.says(Echo("x"))
        await trio.sleep(REPLY_TAKEN_S + 1)
        with pytest.raises(trio.BrokenResourceError):
            await peer.says(Echo("anybody?"))
    assert trio.current_time() - began < REPLY_TAKEN_S + 2


async def test_a_watcher_that_stops_reading_is_given_up() -> None:
    async with dialogue(streams=lockstep_stream_pair()) as peer:
        with structlog.testing.capture_logs() as records:
            await peer.says(Count())
            assert await peer.hears() == {"ok": None}
            await trio.sleep(WATCH_TAKEN_S - 1)
            assert peer.room.watching == 1
            await trio.sleep(2)
            assert peer.room.watching == 0
            with pytest.raises(trio.BrokenResourceError):
                await peer.says(Echo("anybody?"))
    assert levels(records) == ["info"]


def levels(records: list[MutableMapping[str, Any]]) -> list[str]:
    return [str(one["log_level"]) for one in records if one["log_level"] != "debug"]


# waiting


async def test_a_waiting_request_is_answered_when_it_happens() -> None:
    async with dialogue() as peer:
        await peer.says(Wait())
        await trio.sleep(1_000)
        peer.room.bell.set()
        assert await peer.hears() == {"ok": "rung"}
        await serves_the_next(peer)


@pytest.mark.parametrize("half", [False, True])
async def test_a_waiting_request_is_given_up_when_its_peer_leaves(half: bool) -> None:
    async with dialogue() as peer:
        await peer.says(Wait())
        await wait_all_tasks_blocked()
        await (peer.stream.send_eof() if half else peer.stream.aclose())
        await wait_all_tasks_blocked()
        assert peer.room.heard == ["given up"]


# watches


async def test_a_watch_streams_until_its_peer_leaves() -> None:
    async with dialogue() as peer:
        await peer.says(Count())
        assert [await peer.hears() for _ in range(4)] == [
            {"ok": None},
            *({"event": number} for number in range(3)),
        ]
        assert peer.room.watching == 1
        await peer.stream.aclose()
        await wait_all_tasks_blocked()
        assert peer.room.watching == 0


async def test_a_watch_that_is_over_ends_the_connection() -> None:
    async with dialogue() as peer:
        peer.room.bell.set()
        await peer.says(Count(1))
        assert [await peer.hears(), await peer.hears()] == [{"ok": None}, {"event": 0}]
        await peer.hears_the_end()


@pytest.mark.parametrize(
    ("end", "problem", "words"),
    [("refused", Problem.LIMIT, "you fell behind"), ("defect", Problem.INTERNAL, "incident ")],
)
async def test_a_watch_ends_with_the_refusal_that_ended_it(end: str, problem: Problem, words: str) -> None:
    async with dialogue() as peer:
        peer.room.bell.set()
        await peer.says(Count(0, end))
        assert await peer.hears() == {"ok": None}
        await peer.hears_problem(problem, words)
        await peer.hears_the_end()
    assert peer.room.watching == 0


async def test_a_watcher_that_left_is_no_incident() -> None:
    with structlog.testing.capture_logs() as records:
        async with dialogue() as peer:
            await peer.says(Count(1_000_000))
            await peer.hears()
            await peer.stream.aclose()
            await wait_all_tasks_blocked()
            assert peer.room.watching == 0
    assert levels(records) == []


# stopping


async def test_stopping_ends_an_idle_connection_at_once() -> None:
    async with dialogue() as peer:
        await serves_the_next(peer)
        began = trio.current_time()
        peer.stopping.set()
        await peer.hears_the_end()
        assert trio.current_time() == began


async def test_stopping_ends_a_connection_that_has_said_nothing_yet() -> None:
    async with dialogue() as peer:
        await wait_all_tasks_blocked()
        peer.stopping.set()
        await peer.hears_the_end()


@pytest.mark.parametrize("request_", [Wait(), Count(0)])
async def test_stopping_ends_what_waits_with_its_reason(request_: Wait | Count) -> None:
    async with dialogue() as peer:
        await peer.says(request_)
        if isinstance(request_, Count):
            assert await peer.hears() == {"ok": None}
        await wait_all_tasks_blocked()
        began = trio.current_time()
        peer.stopping.set()
        await peer.hears_problem(Problem.STOPPING)
        await peer.hears_the_end()
        assert trio.current_time() == began


async def test_stopping_lets_work_in_hand_finish_and_be_told() -> None:
    async with dialogue() as peer:
        await peer.says(Work(5.0))
        await wait_all_tasks_blocked()
        peer.stopping.set()
        assert await peer.hears() == {"ok": 1}
        await peer.hears_the_end()
    assert peer.room.heard == ["worked"]
