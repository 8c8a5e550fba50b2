"""Statistics on a terminal: a line for each agent, bars for one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.statistics import BARS, BARS_MAX, bars, duration, money, size, statistics
from protocol.reminders import ReminderRollup
from protocol.statistics import AgentStatistics, Bucket, Disk, Statistics, Traffic
from protocol.turns import Outcome, Usage

NOW = 1_763_731_234_567
HOUR = 3_600_000


def bucket(at_ms: int, turns: int, inbox_max: int = 0) -> Bucket:
    return Bucket(at_ms, turns, 0, 0, None, None, inbox_max, turns, 0, 0, 0, None)


def agent(name: str, *series: Bucket, **given: object) -> AgentStatistics:
    values: dict[str, object] = {
        "turns": 12,
        "turns_per_minute": 0.2,
        "tool_calls_per_turn": 3.25,
        "duration_p50_ms": 1_250,
        "duration_p95_ms": 90_000,
        "outcomes": {Outcome.DONE: 10, Outcome.RATE_LIMITED: 2},
        "inbox": 3,
        "inbox_max": 9,
        "sent": Traffic(peer=1, operator=2),
        "received": Traffic(),
        "tools": {"send": 30, "bad\x1b[31m": 9},
        "last_turn_ms": NOW - 5_000,
        "notes_bytes": 2_048,
        "usage": Usage(1, 2, 3, 4, 1_234_567),
        "reminders": ReminderRollup(0, 4, 3, 1, 0, 7),
    }
    return AgentStatistics(agent=name, series=series, **(values | given))  # type: ignore[arg-type]  # as named


def reply(*agents: AgentStatistics) -> Statistics:
    disk = Disk(5 * 2**20, 2**20, 10_000, 0, 7 * 2**30, 2**28)
    return Statistics(NOW - HOUR, NOW, 300_000, agents, 100, 2_000, 1, 2, 0, 0, disk)


def test_a_line_for_each_agent_under_its_head() -> None:
    head, iris, new, blank, swarm, disk = statistics(
        reply(
            agent("iris"),
            agent("new", duration_p50_ms=None, duration_p95_ms=None, last_turn_ms=None, notes_bytes=None),
        )
    ).split("\n")
    assert dict(zip(head.split(), iris.replace(" KiB", "KiB").split(), strict=True)) == {
        "AGENT": "iris",
        "TURNS": "12",
        "/MIN": "0.20",
        "TOOLS/TURN": "3.2",
        "P50": "1.2s",
        "P95": "2m",
        "FAILED": "2",
        "INBOX": "3",
        "MAX": "9",
        "SENT": "3",
        "GOT": "0",
        "TOKENS": "2",
        "COST": "$1.23",
        "REMINDERS": "3/4",
        "NOTES": "2.0KiB",
        "LAST": "5s",
    }
    assert new.split()[-2:] == ["–", "–"]
    assert blank == ""
    assert swarm.startswith("100 messages since 20")
    assert "2000 kept; 1 open questions, 2 reminders, 0 parked threads, 0 approvals waiting" in swarm
    assert disk == (
        "on disk: messages 5.0 MiB, events 1.0 MiB, logs 9.8 KiB, backups 0 B; 7.0 GiB free, 256 MiB of it kept free"
    )


def test_one_agent_with_its_series() -> None:
    text = statistics(
        reply(agent("iris", bucket(NOW - HOUR, 0), bucket(NOW - HOUR // 2, 4, 8), bucket(NOW, 2)))
    )
    assert "outcomes   done 10, rate limited 2" in text
    assert "tools      3.2 a turn: send 30, bad\\x1b[31m 9" in text
    assert "sent       peer 1, operator 2\n  received   –" in text
    assert "turns      ▁█▅  at most 4 in 5m" in text
    assert "failed     ···  at most 0" in text
    assert "\x1b" not in text


def test_nobody_yet() -> None:
    assert "no agents yet" in statistics(reply())


@given(st.lists(st.integers(0, 10**6), max_size=300))
def test_bars_are_few_and_the_highest_stands_out(values: list[int]) -> None:
    drawn = bars(values)
    assert len(drawn) <= BARS_MAX
    assert (BARS[-1] in drawn) == any(values)
    assert set(drawn) <= set(BARS) | {"·"}


@pytest.mark.parametrize(
    ("took_ms", "text"),
    [
        (None, "–"),
        (0, "0ms"),
        (999, "999ms"),
        (1_000, "1.0s"),
        (12_300, "12s"),
        (7_200_000, "2h"),
        (9 * 86_400_000, "9d"),
    ],
)
def test_durations(took_ms: int | None, text: str) -> None:
    assert duration(took_ms) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (50 * 2**20, "50 MiB"),
        (5_000 * 2**30, "5000 GiB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size(count) == text


def test_money() -> None:
    assert money(0) == "$0.00"
    assert money(12_345_678) == "$12.35"
