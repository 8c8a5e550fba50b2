"""Who may set reminders for whom, and what an edit says."""

import pytest

from brokerd.policy.recipients import Sender
from brokerd.policy.reminders import (
    check_active,
    check_cancel,
    check_edit,
    edited_schedule,
    listed,
    may_see,
    reminded,
)
from protocol.brokerd import EditReminder
from protocol.problem import Problem, Refused
from protocol.reminders import AnySchedule, Cron, Every, Once, Reminder, ReminderState
from protocol.settings import AgentRole
from runtime.zones import zone_of

NOW_MS = 1_800_000_000_000
HIVE = {"hm1nd": AgentRole.MANAGER, "iris": AgentRole.AGENT, "atlas": AgentRole.AGENT}
OPERATOR = Sender("operator")
MANAGER = Sender("hm1nd", AgentRole.MANAGER)
IRIS = Sender("iris", AgentRole.AGENT)
CRON = Cron("0 9 * * *", "Europe/Berlin")


@pytest.mark.parametrize(
    ("sender", "agent", "whose"),
    [
        (IRIS, None, "iris"),
        (IRIS, "iris", "iris"),
        (MANAGER, None, "hm1nd"),
        (MANAGER, "iris", "iris"),
        (OPERATOR, "iris", "iris"),
    ],
)
def test_whom_a_reminder_is_for(sender: Sender, agent: str | None, whose: str) -> None:
    assert reminded(sender, agent, HIVE) == whose


@pytest.mark.parametrize(
    ("sender", "agent", "problem"),
    [
        (OPERATOR, None, Problem.MALFORMED),
        (OPERATOR, "operator", Problem.NOT_FOUND),
        (MANAGER, "nobody", Problem.NOT_FOUND),
        (IRIS, "atlas", Problem.DENIED),
        (IRIS, "nobody", Problem.DENIED),
    ],
)
def test_whom_it_cannot_be_for(sender: Sender, agent: str | None, problem: Problem) -> None:
    with pytest.raises(Refused) as refused:
        reminded(sender, agent, HIVE)
    assert refused.value.problem is problem


def test_in_an_empty_hive_nobody_is_named() -> None:
    with pytest.raises(Refused, match="there are: no agent at all"):
        reminded(OPERATOR, "iris", {})


def test_whose_are_listed() -> None:
    assert listed(OPERATOR, None) is None
    assert listed(OPERATOR, "iris") == "iris"
    assert listed(MANAGER, None) == "hm1nd"
    assert listed(MANAGER, "iris") == "iris"
    assert listed(IRIS, None) == "iris"
    with pytest.raises(Refused, match=r"^denied"):
        listed(IRIS, "atlas")
    assert not may_see(IRIS, "atlas")


def reminder(state: ReminderState) -> Reminder:
    return Reminder(1, "iris", "iris", "look", Once(NOW_MS), state, 1)


def test_who_may_cancel_what() -> None:
    def set_by(name: str) -> Reminder:
        return Reminder(1, "iris", name, "look", Once(NOW_MS), ReminderState.ACTIVE, 1)

    for sender, name in (
        (IRIS, "iris"),
        (MANAGER, "hm1nd"),
        (MANAGER, "iris"),
        (OPERATOR, "operator"),
        (OPERATOR, "iris"),
    ):
        check_cancel(sender, set_by(name))
    for sender, name in ((IRIS, "operator"), (IRIS, "hm1nd"), (MANAGER, "operator")):
        with pytest.raises(Refused, match=f"^denied: reminder 1 was set by {name}: ask there"):
            check_cancel(sender, set_by(name))
    with pytest.raises(Refused, match=r"^not_found: there is no reminder 1$"):
        check_cancel(Sender("atlas", AgentRole.AGENT), set_by("iris"))


def test_only_what_is_still_to_fire_can_be_changed() -> None:
    check_active(reminder(ReminderState.ACTIVE))
    for state in (ReminderState.ENDED, ReminderState.CANCELLED):
        with pytest.raises(Refused, match=f"reminder 1 is {state}"):
            check_active(reminder(state))


@pytest.mark.parametrize(
    ("schedule", "request_", "after"),
    [
        (CRON, EditReminder(1, text="x"), None),
        (Once(NOW_MS + 1), EditReminder(1, always=True), None),
        (CRON, EditReminder(1, zone="Asia/Tokyo"), Cron("0 9 * * *", "Asia/Tokyo")),
        (CRON, EditReminder(1, cron="5 9 * * *"), Cron("5 9 * * *", "Europe/Berlin")),
        (Once(NOW_MS + 1), EditReminder(1, cron="5 9 * * *"), Cron("5 9 * * *", "UTC")),
        (CRON, EditReminder(1, every_s=60), Every(60, NOW_MS + 60_000)),
        (
            Once(NOW_MS + 1),
            EditReminder(1, at="2027-06-01T12:00", zone="Europe/Berlin"),
            Once(1_811_844_000_000),
        ),
        (CRON, EditReminder(1, at="2027-06-01T12:00"), Once(1_811_844_000_000)),
    ],
)
def test_edited_schedules(schedule: AnySchedule, request_: EditReminder, after: AnySchedule | None) -> None:
    assert edited_schedule(request_, schedule, NOW_MS, zone_of) == after


def test_a_zone_alone_needs_a_cron() -> None:
    with pytest.raises(Refused, match="zone: it belongs to"):
        edited_schedule(EditReminder(1, zone="Asia/Tokyo"), Every(60, 1), NOW_MS, zone_of)


def test_an_edit_says_something_and_only_once() -> None:
    check_edit(EditReminder(1, always=True))
    check_edit(EditReminder(1, text="x", only_if="true"))
    with pytest.raises(Refused, match="say what is to change about reminder 1"):
        check_edit(EditReminder(1))
    with pytest.raises(Refused, match="either only_if or always"):
        check_edit(EditReminder(1, only_if="true", always=True))
