"""Who may set a reminder for whom, and what an edit leaves of the old one."""

from collections.abc import Mapping

from brokerd.policy.recipients import Sender
from brokerd.policy.schedules import Wish, ZoneOf, schedule_of
from protocol.brokerd import EditReminder
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.reminders import AnySchedule, Cron, Reminder, ReminderState
from protocol.settings import AgentRole


def reminded(sender: Sender, agent: str | None, agents: Mapping[str, AgentRole]) -> str:
    """Whom a reminder is for: an agent itself; whoever the manager or the operator names."""
    if agent is None and sender.role is None:
        raise Refused(Problem.MALFORMED, "agent: say who is to be reminded")
    name = sender.name if agent is None else agent
    if not may_see(sender, name):
        raise Refused(
            Problem.DENIED, f"{sender.name} may set reminders for itself only; the manager may for others"
        )
    if name not in agents:
        known = ", ".join(sorted(agents)) or "no agent at all"
        raise Refused(Problem.NOT_FOUND, f"there is no agent {name}; there are: {known}")
    return name


def listed(sender: Sender, agent: str | None) -> str | None:
    """Whose reminders are meant; None is everybody's, for the operator."""
    if agent is None:
        return None if sender.role is None else sender.name
    if not may_see(sender, agent):
        raise Refused(Problem.DENIED, f"{sender.name} may see its own reminders only")
    return agent


def may_see(sender: Sender, agent: str) -> bool:
    """Whether the reminders of an agent are the sender's business."""
    return sender.role is not AgentRole.AGENT or sender.name == agent


def check_cancel(sender: Sender, reminder: Reminder) -> None:
    """Whoever set a reminder may cancel it; the manager what agents set; the operator all.

    Refused: `denied`, and `not_found` for another agent's, of which an agent is not told.
    """
    if not may_see(sender, reminder.agent):
        raise not_found(reminder.id)
    if reminder.standing is not None and sender.role is not None:
        raise Refused(
            Problem.DENIED,
            f"reminder {reminder.id} stands in {reminder.agent}'s configuration, as {reminder.standing}: the "
            "manager may propose another one",
        )
    is_managed = sender.role is AgentRole.MANAGER and reminder.set_by != OPERATOR
    if sender.role is not None and sender.name != reminder.set_by and not is_managed:
        raise Refused(Problem.DENIED, f"reminder {reminder.id} was set by {reminder.set_by}: ask there")


def check_condition(
    sender: Sender, agent: str, commands: tuple[str, ...] | None, only_if: str | None
) -> None:
    """Refuse (`denied`) a check that an agent sets in a cage whose shell commands are limited: it would be one more."""
    if only_if is not None and sender.role is not None and commands is not None:
        raise Refused(
            Problem.DENIED,
            f"only_if: {agent} may run some shell commands only, and a check is one; leave it out, or have the "
            "operator set this reminder",
        )


def not_found(reminder: int) -> Refused:
    return Refused(Problem.NOT_FOUND, f"there is no reminder {reminder}")


def check_active(reminder: Reminder) -> None:
    """Refuse (`conflict`) what can only be done while a reminder is still to fire."""
    if reminder.state is not ReminderState.ACTIVE:
        raise Refused(
            Problem.CONFLICT, f"reminder {reminder.id} is {reminder.state}: set a new one with `remind`"
        )


def edited_schedule(
    request: EditReminder, schedule: AnySchedule, now_ms: int, zone_of: ZoneOf
) -> AnySchedule | None:
    """The schedule that replaces the old one; None when it stays. A zone alone moves a cron to another."""
    old_zone = schedule.zone if isinstance(schedule, Cron) else "UTC"
    wish = Wish(at=request.at, every_s=request.every_s, cron=request.cron, zone=request.zone or old_zone)
    if wish.given:
        return schedule_of(wish, now_ms, zone_of)
    if request.zone is None:
        return None
    if not isinstance(schedule, Cron):
        raise Refused(Problem.MALFORMED, "zone: it belongs to `at` or `cron`; give one of them with it")
    return schedule_of(Wish(cron=schedule.expression, zone=request.zone), now_ms, zone_of)


def check_edit(request: EditReminder) -> None:
    """Refuse (`malformed`) an edit that says nothing, or two things at once."""
    if request.only_if is not None and request.always:
        raise Refused(Problem.MALFORMED, "give either only_if or always, not both")
    said = (request.text, request.at, request.every_s, request.cron, request.zone, request.only_if)
    if not request.always and all(each is None for each in said):
        raise Refused(Problem.MALFORMED, f"say what is to change about reminder {request.reminder}")
