"""Reminders that a configuration sets: made, changed and ended as it says, never doubled, never taken from others."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerd.policy.schedules import Wish
from brokerd.store import firing, reminders, standing
from brokerd.store.keys import Asked
from brokerd.store.reminders import NewReminder
from protocol.brokerd import EditReminder
from protocol.limits import REMINDERS_OPEN_MAX, STANDING_REMINDERS_MAX
from protocol.messages import SystemEvent
from protocol.names import SYSTEM
from protocol.reminders import Cron, Every, Reminder
from protocol.settings import StandingReminder
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.test_firing import START_MS, remind

HOUR_S = 3_600
HOUR_MS = HOUR_S * 1_000


def hourly(name: str = "rounds", body: str = "make your rounds", **more: Any) -> StandingReminder:
    return StandingReminder(name, body, **({"every_s": HOUR_S} | more))


def cron(name: str, expression: str, zone: str | None = None) -> StandingReminder:
    return StandingReminder(name, "look", cron=expression, zone=zone)


def follow(
    write: Writer, *wanted: StandingReminder, agent: str = "iris", at_ms: int = START_MS
) -> standing.Set:
    return write(standing.follow, {agent: wanted}, at_ms)


def active(db: Db, agent: str = "iris") -> list[Reminder]:
    return reminders.active(db, agent, None, 1_000).reminders


def test_what_a_configuration_wants_is_there_and_told(write: Writer, db: Db) -> None:
    found = follow(write, hourly(only_if="test -s todo"), cron("morning", "0 9 * * *", "Europe/Berlin"))
    assert (write.kinds(), found.faults) == (["ReminderChanged"] * 2, {})
    rounds, morning = sorted(active(db), key=lambda each: str(each.standing), reverse=True)
    assert (rounds.standing, rounds.set_by, rounds.agent) == ("rounds", SYSTEM, "iris")
    assert (rounds.body, rounds.only_if) == ("make your rounds", "test -s todo")
    assert rounds.schedule == Every(HOUR_S, START_MS + HOUR_MS)
    assert rounds.next_ms == START_MS + HOUR_MS
    assert morning.schedule == Cron("0 9 * * *", "Europe/Berlin")
    assert active(db, "atlas") == []


def test_the_same_again_changes_nothing(write: Writer, db: Db) -> None:
    follow(write, hourly(), cron("morning", "0 9 * * *"))
    before = active(db)
    write.told.clear()
    found = follow(write, cron("morning", "0 9 * * *"), hourly(), at_ms=START_MS + 5)
    assert (found.reminders, write.kinds(), active(db)) == ((), [], before)


def test_other_words_keep_the_time_and_another_time_replaces_it(write: Writer, db: Db) -> None:
    follow(write, hourly())
    [first] = active(db)
    follow(write, hourly(body="do it well", only_if="true"), at_ms=START_MS + 60_000)
    [second] = active(db)
    assert (second.id, second.schedule, second.next_ms) == (first.id, first.schedule, first.next_ms)
    assert (second.body, second.only_if) == ("do it well", "true")
    follow(write, hourly(body="do it well", every_s=60), at_ms=START_MS + 90_000)
    [third] = active(db)
    assert (third.id, third.next_ms, third.only_if) == (first.id, START_MS + 150_000, None)
    follow(write, cron("rounds", "*/5 * * * *"))
    [fourth] = active(db)
    assert (fourth.id, fourth.schedule) == (first.id, Cron("*/5 * * * *", "UTC"))


def test_what_is_wanted_no_more_ends_and_others_stay(write: Writer, db: Db) -> None:
    own = remind(write, in_s=60)
    follow(write, hourly("one"), hourly("two"))
    follow(write, hourly("one"), agent="atlas")
    follow(write, hourly("two"))
    assert {(each.id == own.id, each.standing) for each in active(db)} == {(True, None), (False, "two")}
    follow(write)
    assert [each.id for each in active(db)] == [own.id]
    assert [each.standing for each in active(db, "atlas")] == ["one"]
    again = follow(write, hourly("one"))
    assert [each.standing for each in again.reminders] == ["one"]
    assert len(active(db)) == 2


def test_what_the_operator_did_to_it_stays_until_the_configuration_says_something_else(
    write: Writer, db: Db
) -> None:
    follow(write, hourly())
    [reminder] = active(db)
    write(reminders.edit, EditReminder(reminder.id, text="the operator's words"), START_MS)
    follow(write, hourly())
    assert [each.body for each in active(db)] == ["the operator's words"]
    write(reminders.cancel, reminder.id)
    follow(write, hourly())
    assert active(db) == []
    follow(write, hourly(body="new words"))
    [renewed] = active(db)
    assert (renewed.body, renewed.id > reminder.id) == ("new words", True)


def test_a_time_that_cannot_be_is_told_and_costs_the_others_nothing(write: Writer, db: Db) -> None:
    found = follow(
        write,
        hourly("good"),
        cron("fields", "every day"),
        cron("never", "0 0 31 2 *"),
        cron("nowhere", "0 9 * * *", "Mars/Olympus"),
    )
    assert [each.standing for each in found.reminders] == ["good"]
    faults = found.faults["iris"]
    assert [fault.split(":")[0] for fault in faults] == [
        "reminder fields",
        "reminder never",
        "reminder nowhere",
    ]
    assert "5" in faults[0] or "needed" in faults[0]
    follow(write, hourly("good"), cron("fields", "0 9 * * *"))
    assert {each.standing for each in active(db)} == {"good", "fields"}
    spoiled = follow(write, hourly("good"), cron("fields", "every day"))
    assert list(spoiled.faults) == ["iris"]
    assert {each.standing for each in active(db)} == {"good"}


def test_it_needs_no_room_among_those_that_agents_set(write: Writer, db: Db) -> None:
    for _ in range(REMINDERS_OPEN_MAX):
        remind(write, in_s=60)
    follow(write, *(hourly(f"n{at}") for at in range(STANDING_REMINDERS_MAX)))
    assert reminders.count_open(db, "iris") == REMINDERS_OPEN_MAX + STANDING_REMINDERS_MAX


def test_it_fires_as_the_hives_own_words(write: Writer, db: Db) -> None:
    follow(write, hourly())
    due_ms = START_MS + HOUR_MS
    write.told.clear()
    fired = write(firing.fire_due, firing.find_due(db, due_ms, 10), due_ms, frozenset())
    assert fired.sent == 1
    [message] = [entry.body.message for entry in write.told if hasattr(entry.body, "message")]
    assert (message.sender, message.to, message.event) == (SYSTEM, "iris", SystemEvent.REMINDER)
    [reminder] = active(db)
    assert (reminder.next_ms, reminder.attempted) == (due_ms + HOUR_MS, 1)


def test_one_whose_row_was_forgotten_is_made_anew_when_it_changes(write: Writer, db: Db) -> None:
    follow(write, hourly())
    [reminder] = active(db)
    write(reminders.cancel, reminder.id)
    db.execute("DELETE FROM reminders WHERE id = ?", (reminder.id,))
    follow(write, hourly())
    assert active(db) == []
    follow(write, hourly(body="again"))
    assert [each.body for each in active(db)] == ["again"]


def test_what_is_remembered_of_it_and_cannot_be_read_is_set_again_in_its_place(write: Writer, db: Db) -> None:
    follow(write, hourly())
    [before] = active(db)
    db.execute("UPDATE standing_reminders SET said = x'00'")
    follow(write, hourly())
    assert [each.id for each in active(db)] == [before.id]


def checked(write: Writer, sender: str, only_if: str) -> Reminder:
    """One with a check, as this sender set it."""
    wanted = NewReminder(Asked(sender, only_if.encode()), b"", "iris", "look", Wish(in_s=60), only_if)
    return write(reminders.set_reminder, wanted, START_MS)


def test_checks_of_agents_go_when_their_commands_are_limited(write: Writer, db: Db) -> None:
    follow(write, hourly(only_if="test -s configured"))
    own, asked = checked(write, "iris", "test -s own"), checked(write, "operator", "true")
    plain = remind(write, in_s=60)
    write.told.clear()
    write(standing.forget_checks, "iris")
    assert write.kinds() == ["ReminderChanged"]
    conditions = {each.id: each.only_if for each in active(db)}
    assert conditions.pop(own.id) is None
    assert conditions.pop(plain.id) is None
    assert conditions.pop(asked.id) == "true"
    assert list(conditions.values()) == ["test -s configured"]


NAMES = ("one", "two", "three")
CONFIGURATIONS = st.lists(
    st.builds(
        StandingReminder,
        name=st.sampled_from(NAMES),
        body=st.sampled_from(("a", "b")),
        every_s=st.sampled_from((60, HOUR_S)),
    ),
    max_size=3,
    unique_by=lambda each: each.name,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(CONFIGURATIONS, st.sampled_from(["nothing", "again", "fire", "cancel"])), max_size=6)
)
def test_there_is_never_more_than_one_for_each_name(
    write: Writer, db: Db, steps: list[tuple[list[StandingReminder], str]]
) -> None:
    """Whatever is deployed in whichever order, fired or ended in between: the reminders are what was said last."""
    follow(write)
    at_ms = START_MS
    cancelled: dict[str, StandingReminder] = {}
    for wanted, act in steps:
        follow(write, *wanted, at_ms=at_ms)
        by_name = {each.name: each for each in wanted}
        cancelled = {name: said for name, said in cancelled.items() if by_name.get(name) == said}
        there = active(db)
        assert sorted(str(each.standing) for each in there) == sorted(by_name.keys() - cancelled)
        assert all(each.body == by_name[str(each.standing)].body for each in there)
        at_ms += HOUR_MS
        match act:
            case "again":
                assert follow(write, *wanted, at_ms=at_ms).reminders == ()
            case "fire":
                write(firing.fire_due, firing.find_due(db, at_ms, 10), at_ms, frozenset())
            case "cancel" if there:
                write(reminders.cancel, there[0].id)
                cancelled[str(there[0].standing)] = by_name[str(there[0].standing)]
