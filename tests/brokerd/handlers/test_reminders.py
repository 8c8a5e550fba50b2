"""Reminders over the sockets: who may set them for whom, when they come, and what becomes of them."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from brokerd.policy.settling import CRASHES_MAX
from protocol.agent import SkipDelivery
from protocol.brokerd import (
    EditReminder,
    FireReminder,
    MessageSent,
    ReminderChanged,
    RetryDelivery,
    WatchFeed,
)
from protocol.limits import PAGE_ROWS_MAX, REMINDERS_OPEN_MAX
from protocol.messages import DeliveryState, SystemEvent
from protocol.names import MANAGER_NAME
from protocol.privd import Power
from protocol.problem import Problem, Refused
from protocol.reminders import Cron, Every, Once, Reminder, ReminderState
from protocol.tools import CancelReminder, ListReminders, Remind, ReminderPage, RollUpReminders
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key, now_ms
from tests.brokerd.hive import Hive, cage
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SCHEDULES = {"in_s", "at", "every_s", "cron", "zone"}


def client(hive: Hive, name: str) -> Client:
    return hive.operator if name == "operator" else hive.agent(name)


async def remind(hive: Hive, name: str, text: str = "look", **wish: Any) -> Reminder:
    """In an hour, unless told otherwise."""
    key = wish.pop("key", None) or new_key()
    if not SCHEDULES & set(wish):
        wish["in_s"] = 3_600
    return await client(hive, name).call(Remind(text=text, key=key, **wish))


async def listing(hive: Hive, name: str, **how: Any) -> ReminderPage:
    return await client(hive, name).call(ListReminders(**how))


async def read(hive: Hive, number: int) -> Reminder:
    page = await listing(hive, "operator", ended=True)
    return next(each for each in page.reminders if each.id == number)


async def test_an_agent_reminds_itself(hive: Hive) -> None:
    before_ms = now_ms()
    reminder = await remind(hive, "iris", "look at the build", in_s=60, only_if="test -e /tmp/built")
    assert (reminder.agent, reminder.set_by, reminder.body) == ("iris", "iris", "look at the build")
    assert (reminder.state, reminder.only_if) == (ReminderState.ACTIVE, "test -e /tmp/built")
    assert reminder.next_ms is not None
    assert before_ms + 60_000 <= reminder.next_ms <= now_ms() + 60_000
    assert reminder.schedule == Once(reminder.next_ms)
    assert (await listing(hive, "iris")).reminders == (reminder,)


async def test_each_kind_of_schedule(hive: Hive) -> None:
    every = await remind(hive, "iris", every_s=600)
    assert every.schedule == Every(600, every.next_ms or 0)
    cron = await remind(hive, "iris", cron="0  9 * * mon", zone="Europe/Berlin")
    assert cron.schedule == Cron("0 9 * * mon", "Europe/Berlin")
    at = await remind(hive, "iris", at="2027-06-01T12:00", zone="Europe/Berlin")
    assert at.schedule == Once(1_811_844_000_000)


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        ({"zone": "UTC"}, "give exactly one of in_s, at, every_s and cron; none of them was given"),
        ({"in_s": 5, "cron": "* * * * *"}, "in_s and cron was given"),
        ({"at": "tomorrow"}, "at: 'tomorrow' is no time"),
        ({"at": "2001-01-01T00:00Z"}, "at: 2001-01-01T00:00Z is over; it is 20"),
        ({"cron": "61 * * * *"}, "cron: '61 * * * *': bad minute"),
        ({"cron": "* * * * * *"}, "has 6 fields"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"cron": "0 0 */30 2 MON#5"}, "never comes"),
        ({"in_s": 5, "zone": "Europe/Bonn"}, "zone: there is no time zone 'Europe/Bonn'"),
        ({"in_s": 5, "zone": "Europe"}, "zone: there is no time zone 'Europe'"),
        ({"in_s": 5, "zone": "../../etc/passwd"}, "zone: there is no time zone"),
        ({"in_s": 5, "text": "a\0b"}, "NUL"),
        ({"in_s": 5, "only_if": "a\0b"}, "NUL"),
    ],
)
async def test_what_is_no_schedule(hive: Hive, wish: dict[str, Any], fault: str) -> None:
    with pytest.raises(Refused) as refused:
        await remind(hive, "iris", **wish)
    assert refused.value.problem is Problem.MALFORMED
    assert fault in refused.value.detail
    assert (await listing(hive, "iris")).reminders == ()


async def test_a_due_reminder_is_a_message(hive: Hive) -> None:
    reminder = await remind(hive, "operator", "water the plants", in_s=1, agent="iris")
    delivery = await hive.taken("iris", wait_s=60)
    message = delivery.message
    assert (message.sender, message.to, message.body) == ("operator", "iris", "water the plants")
    assert (message.event, message.about) == (SystemEvent.REMINDER, reminder.id)
    fired = await read(hive, reminder.id)
    assert (fired.state, fired.next_ms, fired.attempted) == (ReminderState.ENDED, None, 1)
    assert fired.last_ms is not None
    assert fired.last_ms >= (reminder.next_ms or 0)
    turn = await hive.begin("iris", delivery)
    await hive.end("iris", turn)
    assert (await read(hive, reminder.id)).delivered == 1


async def test_an_earlier_one_wakes_the_scheduler(hive: Hive) -> None:
    await remind(hive, "iris", "late", in_s=3_600)
    await remind(hive, "iris", "soon", in_s=1)
    assert (await hive.taken("iris", wait_s=60)).message.body == "soon"


async def test_who_may_set_them_for_whom(hive: Hive) -> None:
    with pytest.raises(Refused, match=r"^denied: iris may set reminders for itself only"):
        await remind(hive, "iris", in_s=60, agent="atlas")
    with pytest.raises(Refused, match=r"^malformed: agent: say who is to be reminded"):
        await remind(hive, "operator", in_s=60)
    with pytest.raises(Refused, match=r"^not_found: there is no agent nobody; there are: atlas, hm1nd, iris"):
        await remind(hive, MANAGER_NAME, in_s=60, agent="nobody")
    assert (await remind(hive, "iris", in_s=60, agent="iris")).set_by == "iris"
    assert (await remind(hive, MANAGER_NAME, in_s=60, agent="iris")).set_by == MANAGER_NAME
    assert (await remind(hive, MANAGER_NAME, in_s=60)).agent == MANAGER_NAME
    assert (await remind(hive, "operator", in_s=60, agent="iris")).set_by == "operator"
    assert len((await listing(hive, "iris")).reminders) == 3
    assert len((await listing(hive, MANAGER_NAME)).reminders) == 1
    assert len((await listing(hive, MANAGER_NAME, agent="iris")).reminders) == 3
    assert len((await listing(hive, "operator")).reminders) == 4
    with pytest.raises(Refused, match=r"^denied: atlas may see its own reminders only"):
        await listing(hive, "atlas", agent="iris")


async def test_a_repeat_gets_the_first_answer(hive: Hive) -> None:
    key = new_key()
    first = await remind(hive, "iris", in_s=60, key=key)
    await hive.operator.call(EditReminder(first.id, text="something else"))
    assert await remind(hive, "iris", in_s=60, key=key) == first
    assert len((await listing(hive, "iris")).reminders) == 1
    with pytest.raises(Refused, match=r"^conflict: this key was used"):
        await remind(hive, "iris", in_s=61, key=key)


async def test_one_agent_has_so_many(hive: Hive) -> None:
    for _ in range(REMINDERS_OPEN_MAX):
        await remind(hive, "operator", agent="iris")
    with pytest.raises(Refused, match=rf"^limit: iris has {REMINDERS_OPEN_MAX} reminders .* cancel some"):
        await remind(hive, "iris")
    await remind(hive, "operator", agent="atlas")
    first = (await listing(hive, "iris")).reminders[0]
    with pytest.raises(Refused, match=rf"^denied: reminder {first.id} was set by operator: ask there"):
        await hive.agent("iris").call(CancelReminder(first.id))
    await hive.operator.call(CancelReminder(first.id))
    await remind(hive, "iris")


async def test_one_agent_sets_so_many_at_once(hive: Hive) -> None:
    most = hive.settings.guards.reminders_per_hour
    key = new_key()
    first = await remind(hive, "iris", key=key)
    for _ in range(most - 1):
        await remind(hive, "iris")
    with pytest.raises(Refused, match=rf"^limit: iris: at most {most} reminders in an hour"):
        await remind(hive, "iris")
    assert await remind(hive, "iris", key=key) == first
    await remind(hive, "operator", agent="iris")
    await remind(hive, "atlas")


async def test_what_was_refused_does_not_count(hive: Hive) -> None:
    most = hive.settings.guards.reminders_per_hour
    for _ in range(most + 1):
        with pytest.raises(Refused, match=r"^malformed"):
            await remind(hive, "iris", cron="never")
    await remind(hive, "iris")


async def test_pages_lead_on(hive: Hive) -> None:
    numbers = [(await remind(hive, "iris", in_s=1_000 - 10 * n)).id for n in range(5)]
    for number in numbers[:3]:
        await hive.agent("iris").call(CancelReminder(number))
    page = await listing(hive, "iris", ended=True, limit=1)
    shown = [each.id for each in page.reminders]
    while page.after or page.before:
        page = await listing(hive, "iris", ended=True, limit=1, after=page.after, before=page.before)
        shown += [each.id for each in page.reminders]
    assert shown == [numbers[4], numbers[3], numbers[2], numbers[1], numbers[0]]
    with pytest.raises(Refused, match=r"^not_found: .*list from the start"):
        await listing(hive, "iris", after=numbers[0])


async def test_a_page_of_long_ones_is_cut(hive: Hive) -> None:
    for _ in range(100):
        await remind(hive, "operator", "\x01" * 8_000, agent="iris")
    shown: set[int] = set()
    after, pages = None, 0
    while pages == 0 or after is not None:
        page = await listing(hive, "iris", after=after, limit=PAGE_ROWS_MAX)
        shown |= {each.id for each in page.reminders}
        after, pages = page.after, pages + 1
    assert (len(shown), pages > 1) == (100, True)


async def test_another_agents_reminder_is_not_there(hive: Hive) -> None:
    reminder = await remind(hive, "iris")
    for number in (reminder.id, reminder.id + 1):
        with pytest.raises(Refused, match=rf"^not_found: there is no reminder {number}$"):
            await hive.agent("atlas").call(CancelReminder(number))
    assert (await hive.agent(MANAGER_NAME).call(CancelReminder(reminder.id))).state == "cancelled"


async def test_a_cancelled_one_does_not_fire(hive: Hive) -> None:
    reminder = await remind(hive, "iris", in_s=1)
    for _ in range(2):
        assert (await hive.agent("iris").call(CancelReminder(reminder.id))).state == ReminderState.CANCELLED
    await remind(hive, "iris", "after it", in_s=2)
    assert (await hive.taken("iris", wait_s=60)).message.body == "after it"
    with pytest.raises(Refused, match=r"^conflict: reminder 1 is cancelled: set a new one"):
        await hive.operator.call(FireReminder(reminder.id))


async def test_an_edit_leaves_what_it_does_not_name(hive: Hive) -> None:
    reminder = await remind(hive, "iris", cron="0 9 * * *", zone="Europe/Berlin", only_if="true")
    text = await hive.operator.call(EditReminder(reminder.id, text="other words"))
    assert (text.body, text.schedule, text.next_ms) == ("other words", reminder.schedule, reminder.next_ms)
    zone = await hive.operator.call(EditReminder(reminder.id, zone="Asia/Tokyo"))
    assert zone.schedule == Cron("0 9 * * *", "Asia/Tokyo")
    cron = await hive.operator.call(EditReminder(reminder.id, cron="5 9 * * *"))
    assert (cron.schedule, cron.only_if) == (Cron("5 9 * * *", "Asia/Tokyo"), "true")
    always = await hive.operator.call(EditReminder(reminder.id, always=True))
    assert (always.only_if, always.schedule) == (None, cron.schedule)
    every = await hive.operator.call(EditReminder(reminder.id, every_s=60))
    assert isinstance(every.schedule, Every)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, "say what is to change about reminder 1"),
        ({"always": True, "only_if": "true"}, "either only_if or always"),
        ({"zone": "Asia/Tokyo"}, "zone: it belongs to `at` or `cron`"),
        ({"at": "2001-01-01T00:00"}, "is over"),
        ({"every_s": 60, "cron": "* * * * *"}, "every_s and cron was given"),
        ({"text": "a\0b"}, "NUL"),
        ({"only_if": "a\0b"}, "NUL"),
    ],
)
async def test_an_edit_that_cannot_be(hive: Hive, change: dict[str, Any], fault: str) -> None:
    reminder = await remind(hive, "iris")
    with pytest.raises(Refused) as refused:
        await hive.operator.call(EditReminder(reminder.id, **change))
    assert refused.value.problem is Problem.MALFORMED
    assert fault in refused.value.detail
    assert (await listing(hive, "iris")).reminders == (reminder,)


async def test_an_edit_may_bring_it_forward(hive: Hive) -> None:
    reminder = await remind(hive, "iris", "look", in_s=3_600)
    soon = datetime.fromtimestamp(now_ms() / 1000 + 1, UTC).isoformat()
    await hive.operator.call(EditReminder(reminder.id, at=soon))
    assert (await hive.taken("iris", wait_s=60)).message.about == reminder.id


async def test_fired_now_it_keeps_its_schedule(hive: Hive) -> None:
    reminder = await remind(hive, "iris", every_s=3_600)
    fired = await hive.operator.call(FireReminder(reminder.id))
    assert (fired.next_ms, fired.attempted, fired.state) == (reminder.next_ms, 1, ReminderState.ACTIVE)
    with pytest.raises(Refused, match=r"^conflict: message 1 of reminder 1 still waits for iris"):
        await hive.operator.call(FireReminder(reminder.id))
    _, turn = await hive.begun("iris")
    await hive.end("iris", turn)
    again = await hive.operator.call(FireReminder(reminder.id))
    assert (again.attempted, again.delivered) == (2, 1)
    with pytest.raises(Refused, match=r"^not_found: there is no reminder 99"):
        await hive.operator.call(FireReminder(99))


async def test_a_delivery_that_dies_is_a_failure_until_it_is_tried_again(hive: Hive) -> None:
    reminder = await remind(hive, "iris", every_s=3_600)
    await hive.operator.call(FireReminder(reminder.id))
    taken: set[tuple[int, int]] = set()
    for _ in range(CRASHES_MAX):
        delivery, turn = await hive.begun("iris")
        taken.add((delivery.id, delivery.message.id))
        assert (await read(hive, reminder.id)).failed == 0
        await hive.end("iris", turn, Outcome.CRASHED)
    ((dead, message),) = taken
    assert await hive.states(message) == [DeliveryState.DEAD]
    assert (await read(hive, reminder.id)).failed == 1
    await hive.operator.call(RetryDelivery(dead))
    assert (await read(hive, reminder.id)).failed == 0
    with pytest.raises(Refused, match=r"^conflict: .* still waits"):
        await hive.operator.call(FireReminder(reminder.id))
    _, turn = await hive.begun("iris")
    await hive.end("iris", turn)
    done = await read(hive, reminder.id)
    assert (done.attempted, done.delivered, done.failed) == (1, 1, 0)


async def test_only_if_goes_to_the_harness_and_may_end_the_delivery(hive: Hive) -> None:
    reminder = await remind(hive, "iris", every_s=3_600, only_if="test -e x")
    await hive.operator.call(FireReminder(reminder.id))
    delivery = await hive.taken("iris")
    assert delivery.only_if == "test -e x"
    skip = SkipDelivery(delivery.id, delivery.token, "exit code 1")
    for _ in range(2):
        await hive.agent("iris").call(skip)
    skipped = await read(hive, reminder.id)
    assert (skipped.attempted, skipped.skipped, skipped.delivered) == (1, 1, 0)
    assert await hive.states(delivery.message.id) == [DeliveryState.DONE]
    assert await hive.take("iris") is None
    await hive.operator.call(FireReminder(reminder.id))
    assert (await hive.taken("iris")).id != delivery.id


async def test_skipping_needs_the_lease_of_a_reminder(hive: Hive) -> None:
    await hive.send("operator", "iris")
    plain = await hive.taken("iris")
    assert plain.only_if is None
    with pytest.raises(Refused, match=rf"^not_found: iris has no delivery {plain.id} of a reminder"):
        await hive.agent("iris").call(SkipDelivery(plain.id, plain.token))
    turn = await hive.begin("iris", plain)
    await hive.end("iris", turn)
    reminder = await remind(hive, "iris", only_if="true")
    await hive.operator.call(FireReminder(reminder.id))
    old = await hive.taken("iris")
    new = await hive.taken("iris")
    with pytest.raises(Refused, match=r"^conflict: the lease"):
        await hive.agent("iris").call(SkipDelivery(old.id, old.token))
    with pytest.raises(Refused, match=r"^not_found: atlas has no delivery"):
        await hive.agent("atlas").call(SkipDelivery(new.id, new.token))
    turn = await hive.begin("iris", new)
    with pytest.raises(Refused, match=r"^conflict: a turn runs"):
        await hive.agent("iris").call(SkipDelivery(new.id, new.token))
    await hive.end("iris", turn, Outcome.CRASHED)
    with pytest.raises(Refused, match=r"^conflict: the lease of delivery \d+ was lost: it is queued"):
        await hive.agent("iris").call(SkipDelivery(new.id, new.token))


async def test_a_skip_is_remembered_by_the_next_brokerd(unserved: Hive) -> None:
    async with unserved.broker():
        reminder = await remind(unserved, "iris", only_if="false")
        await unserved.operator.call(FireReminder(reminder.id))
        delivery = await unserved.taken("iris")
        await unserved.agent("iris").call(SkipDelivery(delivery.id, delivery.token))
    async with unserved.broker():
        await unserved.agent("iris").call(SkipDelivery(delivery.id, delivery.token))
        assert await unserved.take("iris") is None
        assert (await read(unserved, reminder.id)).skipped == 1


async def test_roll_up(hive: Hive) -> None:
    for name in ("iris", "iris", "atlas"):
        reminder = await remind(hive, name, only_if="x")
        await hive.operator.call(FireReminder(reminder.id))
    delivery = await hive.taken("iris")
    await hive.agent("iris").call(SkipDelivery(delivery.id, delivery.token))
    _, turn = await hive.begun("atlas")
    await hive.end("atlas", turn)
    ours = await hive.agent("iris").call(RollUpReminders(since_s=60))
    assert (ours.attempted, ours.delivered, ours.failed, ours.skipped, ours.waiting) == (2, 0, 0, 1, 2)
    all_of_them = await hive.operator.call(RollUpReminders())
    counts = (all_of_them.attempted, all_of_them.delivered, all_of_them.skipped, all_of_them.waiting)
    assert counts == (3, 1, 1, 3)
    assert (await hive.operator.call(RollUpReminders(agent="atlas"))).delivered == 1
    with pytest.raises(Refused, match=r"^denied"):
        await hive.agent("iris").call(RollUpReminders(agent="atlas"))


async def test_everybody_sees_what_changes(hive: Hive) -> None:
    start = await hive.snapshot()
    reminder = await remind(hive, "iris")
    await hive.operator.call(FireReminder(reminder.id))
    _, turn = await hive.begun("iris")
    await hive.end("iris", turn)
    await hive.agent("iris").call(CancelReminder(reminder.id))
    seen: list[Reminder] = []
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        async for event in events:
            if isinstance(event.body, MessageSent) and event.body.fired is not None:
                seen.append(event.body.fired)
            elif isinstance(event.body, ReminderChanged):
                seen.append(event.body.reminder)
                if event.body.reminder.state is ReminderState.CANCELLED:
                    break
    assert [(each.attempted, each.delivered) for each in seen] == [(0, 0), (1, 0), (1, 1), (1, 1)]


async def test_a_purged_agents_reminders_are_over(hive: Hive) -> None:
    reminder = await remind(hive, "operator", agent="iris")
    other = await remind(hive, "operator", agent="atlas")
    hive.privd.remove("iris")

    async def is_over() -> bool:
        return (await read(hive, reminder.id)).state is ReminderState.CANCELLED

    await until(is_over, what="the end of a purged agent's reminder")
    assert (await read(hive, other.id)).state is ReminderState.ACTIVE


async def test_an_agent_purged_while_nobody_looked_has_no_reminders_left(unserved: Hive) -> None:
    async with unserved.broker():
        reminder = await remind(unserved, "operator", agent="iris")
        unserved.privd.change(cage("iris", Power.KEPT))

        async def is_gone() -> bool:
            return "iris" not in {now.agent.name for now in (await unserved.snapshot()).agents}

        await until(is_gone, what="iris gone")
        assert (await read(unserved, reminder.id)).state is ReminderState.ACTIVE
    unserved.privd.remove("iris")
    async with unserved.broker():

        async def is_over() -> bool:
            return (await read(unserved, reminder.id)).state is ReminderState.CANCELLED

        await until(is_over, what="the end of a purged agent's reminder")


async def test_a_broken_row_hides_no_other(hive: Hive, capsys: pytest.CaptureFixture[str]) -> None:
    broken = await remind(hive, "iris", in_s=3_600)
    whole = await remind(hive, "iris", in_s=1)
    with closing(sqlite3.connect(hive.settings.database)) as db, db:
        db.execute(
            "UPDATE reminders SET schedule = ?, next_ms = 1 WHERE id = ?", (b'{"kind":"never"}', broken.id)
        )
    assert [each.id for each in (await listing(hive, "iris")).reminders] == [whole.id]
    assert (await hive.taken("iris", wait_s=60)).message.about == whole.id
    said = "".join(capsys.readouterr())
    assert "a reminder cannot be read; it fires no more" in said
    assert "Invalid value 'never'" in said
