"""Reminders as the terminal shows them."""

import time
from collections.abc import Iterator

import pytest

from hivectl import reminders
from protocol.reminders import AnySchedule, Cron, Every, Once, Reminder, ReminderRollup, ReminderState
from protocol.tools import ReminderPage

AT_MS = 1_800_000_000_000
ONCE = Once(AT_MS)


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def made(schedule: AnySchedule = ONCE, **more: object) -> Reminder:
    active = {"state": ReminderState.ACTIVE, "next_ms": AT_MS, "set_by": "operator", **more}
    return Reminder(
        id=7,
        agent="iris",
        body="look\x1b[2J",
        schedule=schedule,
        created_ms=1,
        **active,  # type: ignore[arg-type]  # what a test varies
    )


@pytest.mark.parametrize(
    ("schedule", "shown"),
    [
        (Once(AT_MS), "once"),
        (Every(90, AT_MS), "every 90 s"),
        (Every(7_200, AT_MS), "every 2 h"),
        (Every(5_400, AT_MS), "every 90 min"),
        (Every(172_800, AT_MS), "every 2 d"),
        (Cron("0 9 * * mon", "Europe/Berlin"), "0 9 * * mon Europe/Berlin"),
    ],
)
def test_schedules(schedule: AnySchedule, shown: str) -> None:
    assert reminders.schedule(schedule) == shown


def test_a_page() -> None:
    over = made(state=ReminderState.ENDED, next_ms=None, attempted=3, delivered=1, failed=1, skipped=1)
    standing = made(set_by="system", standing="rounds")
    heads, first, second, third, later, older = reminders.reminders(
        ReminderPage((made(Every(60, AT_MS)), over, standing), before=3, after=9)
    ).splitlines()
    assert " ".join(heads.split()) == "# AGENT SET BY NEXT SCHEDULE SENT DONE FAILED SKIPPED TEXT"
    assert first.split()[:8] == ["7", "iris", "operator", "2027-01-15", "09:00", "every", "1", "min"]
    assert second.split()[3:9] == ["ended", "once", "3", "1", "1", "1"]
    assert third.split()[2:4] == ["agent.toml:", "rounds"]
    assert first.endswith("look\\x1b[2J")
    assert (later, older) == ("(later: --after 9)", "(older: --before 3)")
    assert reminders.reminders(ReminderPage(())) == "no reminders"


def test_one() -> None:
    assert reminders.reminder(made()) == "reminder 7 for iris: once, next 2027-01-15 09:00"
    assert reminders.reminder(made(only_if="test -e x")).endswith(", if `test -e x` succeeds")
    cancelled = made(state=ReminderState.CANCELLED, next_ms=None)
    assert reminders.reminder(cancelled) == "reminder 7 for iris: once, cancelled"


def test_a_rollup() -> None:
    assert reminders.rollup(ReminderRollup(AT_MS, 4, 1, 1, 2, 9)) == (
        "since 2027-01-15 09:00: 4 sent, 1 done, 1 failed, 2 skipped; 9 still to fire"
    )
