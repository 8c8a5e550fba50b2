"""What operators do about reminders: look, set, change, cancel, fire."""

from typing import Final

from msgspec import UNSET, UnsetType

from protocol.brokerd import EditReminder, FireReminder
from protocol.limits import PAGE_ROWS_MAX
from protocol.names import AgentName
from protocol.reminders import (
    AtTime,
    CronExpression,
    EverySeconds,
    OnlyIf,
    Reminder,
    ReminderText,
    Seconds,
    ZoneName,
)
from protocol.rpc import Call
from protocol.tools import CancelReminder, ListReminders, Remind
from webd.deeds import Done
from webd.handlers.actions import SHOWN_WITHIN_S, Keyed, did
from webd.http.answers import Answer, as_json
from webd.live.rows import reminder_row
from webd.policy.keys import request_key
from webd.visit import Host, Visit

ROWS: Final = 100


class RemindSaid(Keyed, frozen=True):
    agent: AgentName
    text: ReminderText
    in_s: Seconds | None = None
    at: AtTime | None = None
    every_s: EverySeconds | None = None
    cron: CronExpression | None = None
    zone: ZoneName = "UTC"
    only_if: OnlyIf | None = None


class EditSaid(Keyed, frozen=True):
    """What is not given stays; `only_if` null forgets it."""

    text: ReminderText | None = None
    at: AtTime | None = None
    every_s: EverySeconds | None = None
    cron: CronExpression | None = None
    zone: ZoneName | None = None
    only_if: OnlyIf | UnsetType | None = UNSET


async def listed(visit: Visit, host: Host) -> Answer:
    """Reminders: those still to fire, the next first; with `ended`, those that are over too, newest first."""
    limit = visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS
    page = await host.ask_brokerd(
        ListReminders(
            agent=visit.agent("agent"),
            ended=visit.flag("ended"),
            after=visit.number("after", least=1),
            before=visit.number("before", least=1),
            limit=limit,
        )
    )
    rows = [reminder_row(row) for row in page.reminders]
    return as_json({"reminders": rows, "after": page.after, "before": page.before})


async def remind(visit: Visit, host: Host) -> Answer:
    """Set a reminder for an agent."""
    said = visit.said(RemindSaid)
    request = Remind(
        text=said.text,
        key=request_key(visit.operator.operator, said.key),
        in_s=said.in_s,
        at=said.at,
        every_s=said.every_s,
        cron=said.cron,
        zone=said.zone,
        only_if=said.only_if,
        agent=said.agent,
    )
    return await _reminded(visit, host, said.key, f"remind {said.agent}", request)


async def edit(visit: Visit, host: Host) -> Answer:
    """Change a reminder that is still to fire."""
    number = int(visit.named["reminder"])
    said = visit.said(EditSaid)
    request = EditReminder(
        reminder=number,
        text=said.text,
        at=said.at,
        every_s=said.every_s,
        cron=said.cron,
        zone=said.zone,
        only_if=None if said.only_if is UNSET else said.only_if,
        always=said.only_if is None,
    )
    return await _reminded(visit, host, said.key, f"edit reminder {number}", request, number)


async def cancel(visit: Visit, host: Host) -> Answer:
    """Cancel a reminder."""
    number = int(visit.named["reminder"])
    key = visit.said(Keyed).key
    return await _reminded(
        visit, host, key, f"cancel reminder {number}", CancelReminder(reminder=number), number
    )


async def fire(visit: Visit, host: Host) -> Answer:
    """Send a reminder's message now."""
    number = int(visit.named["reminder"])
    key = visit.said(Keyed).key
    return await _reminded(visit, host, key, f"fire reminder {number}", FireReminder(reminder=number), number)


async def _reminded(
    visit: Visit, host: Host, key: str, what: str, request: Call[Reminder], number: int = 0
) -> Answer:
    """A deed whose effect shows when the feed has told of the reminder once more."""
    schedules = host.picture.world.schedules
    before = schedules.times_heard(number)

    async def deed() -> Done:
        reminder = await host.ask_brokerd(request)
        await host.picture.until(lambda: schedules.times_heard(reminder.id) > before, SHOWN_WITHIN_S)
        return Done(reminder.id)

    return await did(visit, host, key, what, deed)
