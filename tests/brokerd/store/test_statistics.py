"""Statistics: exact on small histories, and on any history what a plain count over everything says."""

import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from brokerd.policy.statistics import HOUR_MS, MINUTE_MS, Span, span_for
from brokerd.store import behind, statistics, traffic, turns
from brokerd.store.statistics import Counted, Inbox
from brokerd.store.turns import Ending
from protocol.statistics import AgentStatistics, Traffic
from protocol.turns import Outcome, Usage
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send
from tests.brokerd.store.undone import undone

START = 1_000 * HOUR_MS
STEP = 5 * MINUTE_MS
AGENTS = ("atlas", "hm1nd", "iris")


def read(db: Db, span: Span, *agents: str, series: bool = False, **inboxes: Inbox) -> Counted:
    return statistics.read(db, span, agents or AGENTS, inboxes, series=series)


def of(counted: Counted, agent: str) -> AgentStatistics:
    return next(each for each in counted.agents if each.agent == agent)


def span(at_ms: int, since_ms: int = START) -> Span:
    return span_for(since_ms, at_ms, 0)


def turn(write: Writer, agent: str, began_ms: int, ended_ms: int | None, ending: Ending) -> int:
    """A turn, by a message of the operator's."""
    write.now_ms = began_ms
    (sent,) = send(write, draft("operator", (agent,)))
    number = begin(write, agent, sent.message << 7, "a" * 32)
    if ended_ms is not None:
        write.now_ms = ended_ms
        write(turns.end, agent, number, ending)
    return number


def test_nothing_happened(db: Db) -> None:
    (iris,) = read(db, span(START), "iris", series=True).agents
    assert (iris.turns, iris.turns_per_minute, iris.tool_calls_per_turn) == (0, 0.0, 0.0)
    assert (iris.duration_p50_ms, iris.duration_p95_ms, iris.last_turn_ms, iris.notes_bytes) == (None,) * 4
    assert (iris.outcomes, iris.tools, iris.usage) == ({}, {}, Usage())
    assert (iris.sent, iris.received) == (Traffic(), Traffic())
    (bucket,) = iris.series
    assert (bucket.at_ms, bucket.turns, bucket.duration_p50_ms, bucket.notes_bytes) == (START, 0, None, None)


def test_a_small_history(db: Db, write: Writer) -> None:
    usage = Usage(10, 20, 30, 40, 50)
    turn(write, "iris", START - 9_000, START - 1, Ending(Outcome.CRASHED, notes_bytes=9))  # ended before
    turn(write, "iris", START, START + 1_000, Ending(Outcome.DONE, usage=usage, tools={"send": 2, "Bash": 1}))
    turn(write, "iris", START + 2_000, START + 4_000, Ending(Outcome.RATE_LIMITED, notes_bytes=100))
    turn(
        write,
        "iris",
        START + STEP - 1,
        START + STEP + 9_999,
        Ending(Outcome.CANCELLED, usage=usage, tools={"send": 3}, notes_bytes=200),
    )
    turn(write, "iris", START + STEP + 20_000, None, Ending(Outcome.DONE))
    turn(write, "atlas", START, START + 30_000, Ending(Outcome.DONE))

    at_ms = START + 2 * STEP - 1
    counted = read(db, span(at_ms), series=True, iris=Inbox(4, 7))
    iris = of(counted, "iris")
    assert iris.turns == 3
    assert iris.turns_per_minute == pytest.approx(3 / (at_ms - START) * 60_000)
    assert iris.tool_calls_per_turn == 2.0
    assert (iris.duration_p50_ms, iris.duration_p95_ms) == (2_000, 10_000)
    assert iris.outcomes == {Outcome.DONE: 1, Outcome.RATE_LIMITED: 1, Outcome.CANCELLED: 1}
    assert list(iris.tools.items()) == [("send", 5), ("Bash", 1)]
    assert iris.usage == Usage(20, 40, 60, 80, 100)
    assert (iris.inbox, iris.inbox_max) == (4, 7)
    assert (iris.notes_bytes, iris.last_turn_ms) == (200, START + STEP + 9_999)
    assert (iris.sent, iris.received) == (Traffic(), Traffic(operator=4))
    first, second = iris.series
    assert (first.at_ms, first.turns, first.failed, first.tool_calls, first.notes_bytes) == (
        START,
        2,
        1,
        3,
        100,
    )
    assert (first.duration_p50_ms, first.duration_p95_ms, first.output_tokens, first.cost_microusd) == (
        1_000,
        2_000,
        20,
        50,
    )
    assert (second.at_ms, second.turns, second.failed, second.received) == (START + STEP, 1, 0, 1)
    assert (first.inbox_max, second.inbox_max) == (0, 7)
    assert of(counted, "atlas").turns == 1
    assert counted.swarm.messages == 5
    assert counted.swarm.messages_kept == 6
    assert counted.faults == ()


def test_a_turn_longer_than_the_span_counts_where_it_ended(db: Db, write: Writer) -> None:
    turn(write, "iris", START - 50 * HOUR_MS, None, Ending(Outcome.DONE))
    for minute in range(5):  # others begin and end meanwhile
        turn(write, "atlas", START + minute, START + minute, Ending(Outcome.DONE))
    write.now_ms = START + MINUTE_MS
    write(turns.end_open, "iris", Ending(Outcome.DONE))
    counted = read(db, span(START + MINUTE_MS))
    assert (of(counted, "iris").turns, of(counted, "atlas").turns) == (1, 5)
    assert of(counted, "iris").duration_p50_ms == 50 * HOUR_MS + MINUTE_MS


def test_messages_by_kind_of_the_other_side(db: Db, write: Writer) -> None:
    write.now_ms = START
    send(
        write,
        draft("iris", ("atlas", "hm1nd")),
        draft("iris", ("operator",)),
        draft("system", ("iris",)),
        draft("operator", ("iris", "atlas")),
        draft("hm1nd", ("iris",)),
        draft("atlas", ("iris",)),
    )
    for taken_in in (0, 3, 6):
        behind.catch_up(db, taken_in, 100)
        counted = read(db, span(START))
        assert of(counted, "iris").sent == Traffic(peer=1, operator=1, manager=1)
        assert of(counted, "iris").received == Traffic(peer=1, operator=1, manager=1, system=1)
        assert of(counted, "hm1nd").sent == of(counted, "hm1nd").received == Traffic(peer=1)
        assert of(counted, "atlas").received == Traffic(peer=1, operator=1)


def test_the_deepest_inbox_of_each_step(db: Db, write: Writer) -> None:
    for at_ms, depth in ((START, 3), (START + 1, 2), (START + STEP, 9), (START - 1, 50)):
        traffic.note_inboxes(db, {"iris": depth}, at_ms)
    counted = read(db, span(START + 2 * STEP), "iris", series=True, iris=Inbox(1, 4))
    assert [bucket.inbox_max for bucket in counted.agents[0].series] == [3, 9, 4]
    assert (counted.agents[0].inbox, counted.agents[0].inbox_max) == (1, 9)


def test_a_long_time_is_read_in_long_steps(db: Db, write: Writer) -> None:
    write.now_ms = START + 30 * MINUTE_MS
    send(write, *(draft("iris", ("atlas",)) for _ in range(4)))
    traffic.note_inboxes(db, {"iris": 3}, write.now_ms)
    behind.catch_up(db, 4, 100)
    long = span(START + 500 * HOUR_MS)
    assert long.step_ms == HOUR_MS
    db.execute("DELETE FROM traffic WHERE step_ms = ?", (STEP,))
    iris = read(db, long, "iris").agents[0]
    assert (iris.sent.peer, iris.inbox_max) == (4, 3)


def test_the_notes_of_before_when_none_were_told_since(db: Db, write: Writer) -> None:
    turn(write, "iris", START - 2, START - 1, Ending(Outcome.DONE, notes_bytes=77))
    assert read(db, span(START), "iris").agents[0].notes_bytes == 77


def test_what_cannot_be_read_hides_nothing_else(db: Db, write: Writer) -> None:
    for tools in ({"send": 1}, {"send": 2}, {"send": 4}, {"send": 8}):
        turn(write, "iris", START, START, Ending(Outcome.DONE, tools=tools))
    db.execute("UPDATE turns SET tools = 'send: 2' WHERE id = 2")
    db.execute("UPDATE turns SET tools = '[1]', outcome = 'exploded' WHERE id = 3")
    counted = read(db, span(START), "iris")
    (iris,) = counted.agents
    assert (iris.turns, iris.tools, iris.outcomes) == (4, {"send": 9}, {Outcome.DONE: 3})
    assert counted.faults == ("1 turns of iris: outcome 'exploded'", "turn 2: its tools", "turn 3: its tools")


def test_numbers_past_all_bounds_are_no_error(db: Db, write: Writer) -> None:
    most = 2**53 - 1
    for _ in range(2):
        ending = Ending(Outcome.DONE, usage=Usage(most, most, most, most, most), tools={"a": most, "b": most})
        turn(write, "iris", START, START, ending)
    (iris,) = read(db, span(START), "iris", series=True).agents
    assert iris.usage == Usage(most, most, most, most, most)
    assert iris.tools == {"a": most, "b": most}
    assert iris.series[0].tool_calls == most


@pytest.mark.parametrize("agents", [("iris",), AGENTS])
def test_a_span_with_too_many_turns_is_cut(
    db: Db, write: Writer, monkeypatch: pytest.MonkeyPatch, agents: tuple[str, ...]
) -> None:
    monkeypatch.setattr(statistics, "TURNS_READ_MAX", 3)
    for step in range(6):
        turn(write, "iris", START + step * STEP, START + step * STEP + 1, Ending(Outcome.DONE))
    counted = read(db, span(START + 6 * STEP), *agents, series=len(agents) == 1)
    assert counted.span.since_ms == START + 4 * STEP
    assert of(counted, "iris").turns == 2
    assert of(counted, "iris").received.operator == 2
    assert counted.swarm.messages == 2


class Happened(Struct, frozen=True):
    """One turn, in milliseconds after START."""

    agent: str
    began: int
    took: int
    outcome: Outcome
    tools: dict[str, int]
    notes: int | None
    tokens: int


happenings = st.lists(
    st.builds(
        Happened,
        st.sampled_from(AGENTS),
        st.integers(-3 * STEP, 9 * STEP),
        st.integers(0, 3 * STEP),
        st.sampled_from(Outcome),
        st.dictionaries(st.sampled_from(["send", "recv", "Bash"]), st.integers(0, 3)),
        st.none() | st.integers(0, 9),
        st.integers(0, 9),
    ),
    max_size=15,
)


def one_after_the_other(happened: list[Happened]) -> list[Happened]:
    """At most one turn of an agent at a time; in the order in which they begin."""
    free: dict[str, int] = {}
    ran = []
    for each in sorted(happened, key=lambda one: one.began):
        began = max(each.began, free.get(each.agent, each.began))
        free[each.agent] = began + each.took
        ran.append(replace(each, began=began))
    return sorted(ran, key=lambda one: one.began)


def by_rank(durations: list[int], percent: int) -> int | None:
    return sorted(durations)[math.ceil(len(durations) * percent / 100) - 1] if durations else None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings, st.integers(0, 2 * STEP), st.integers(8 * STEP, 12 * STEP), st.integers(0, 15))
def test_it_counts_what_a_plain_count_counts(
    db: Db, write: Writer, happened: list[Happened], since: int, at: int, head: int
) -> None:
    with undone(db):
        asked = span(START + at, START + since)
        ran = one_after_the_other(happened)
        for each in ran:
            usage = Usage(output_tokens=each.tokens)
            ending = Ending(each.outcome, usage=usage, tools=each.tools, notes_bytes=each.notes)
            turn(write, each.agent, START + each.began, START + each.began + each.took, ending)
        ended = [each for each in ran if asked.since_ms <= START + each.began + each.took <= asked.at_ms]
        behind.catch_up(db, min(head, behind.last_message(db)), 100)

        for agent in AGENTS:
            (found,) = read(db, asked, agent, series=True).agents
            assert replace(found, series=()) == of(read(db, asked), agent)
            mine = [each for each in ended if each.agent == agent]
            assert found.turns == len(mine) == sum(bucket.turns for bucket in found.series)
            assert found.outcomes == Counter(each.outcome for each in mine)
            assert Counter(found.tools) == sum((Counter(each.tools) for each in mine), Counter[str]())
            assert found.usage.output_tokens == sum(each.tokens for each in mine)
            assert found.duration_p50_ms == by_rank([each.took for each in mine], 50)
            assert found.duration_p95_ms == by_rank([each.took for each in mine], 95)
            assert found.received.operator == sum(bucket.received for bucket in found.series)
            for bucket in found.series:
                here = [
                    each
                    for each in mine
                    if bucket.at_ms <= START + each.began + each.took < bucket.at_ms + asked.bucket_ms
                ]
                assert bucket.turns == len(here)
                assert bucket.failed == sum(
                    each.outcome not in (Outcome.DONE, Outcome.CANCELLED) for each in here
                )
                assert bucket.tool_calls == sum(sum(each.tools.values()) for each in here)
                assert bucket.duration_p95_ms == by_rank([each.took for each in here], 95)
                told = [each.notes for each in here if each.notes is not None]
                assert bucket.notes_bytes == (told[-1] if told else None)
