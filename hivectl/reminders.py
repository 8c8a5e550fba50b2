"""Reminders for people: when the next one is, how it is set, how often it went well."""

from datetime import datetime
from typing import assert_never

from hivectl.tables import CELL_CHARS_MAX, printable, table
from protocol.reminders import AnySchedule, Cron, Every, Once, Reminder, ReminderRollup, ReminderState
from protocol.tools import ReminderPage

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def moment(at_ms: int | None) -> str:
    """A local day and time."""
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def span(seconds: int) -> str:
    """A length in the largest unit that fits it whole: 90 → `90 s`, 7200 → `2 h`."""
    unit, size = next((unit, size) for unit, size in UNITS if seconds % size == 0)
    return f"{seconds // size} {unit}"


def schedule(set_so: AnySchedule) -> str:
    match set_so:
        case Once():
            return "once"
        case Every(every_s):
            return f"every {span(every_s)}"
        case Cron(expression, zone):
            return f"{printable(expression)} {printable(zone)}"
        case _:
            assert_never(set_so)


def reminders(page: ReminderPage) -> str:
    if not page.reminders:
        return "no reminders"
    shown = table(
        ("#", "AGENT", "SET BY", "NEXT", "SCHEDULE", "SENT", "DONE", "FAILED", "SKIPPED", "TEXT"),
        (
            (
                str(each.id),
                printable(each.agent),
                set_by(each),
                moment(each.next_ms) if each.state is ReminderState.ACTIVE else each.state.value,
                schedule(each.schedule),
                str(each.attempted),
                str(each.delivered),
                str(each.failed),
                str(each.skipped),
                printable(each.body, chars_max=CELL_CHARS_MAX),
            )
            for each in page.reminders
        ),
    )
    more = [f"(later: --after {page.after})"] if page.after is not None else []
    more += [f"(older: --before {page.before})"] if page.before is not None else []
    return "\n".join([shown, *more])


def set_by(one: Reminder) -> str:
    """Who set it, or under which name it stands in its agent's configuration."""
    return printable(one.set_by) if one.standing is None else f"agent.toml: {printable(one.standing)}"


def reminder(one: Reminder) -> str:
    head = f"reminder {one.id} for {printable(one.agent)}: {schedule(one.schedule)}"
    if one.state is not ReminderState.ACTIVE:
        return f"{head}, {one.state.value}"
    condition = f", if `{printable(one.only_if, chars_max=CELL_CHARS_MAX)}` succeeds" if one.only_if else ""
    return f"{head}, next {moment(one.next_ms)}{condition}"


def rollup(counts: ReminderRollup) -> str:
    return (
        f"since {moment(counts.since_ms)}: {counts.attempted} sent, {counts.delivered} done, "
        f"{counts.failed} failed, {counts.skipped} skipped; {counts.waiting} still to fire"
    )
