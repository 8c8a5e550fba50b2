"""Reminders over the sockets: who may set them for whom, when they come, and what becomes of them."""

from typing import Any

import pytest

from protocol.agent import SkipDelivery
from protocol.brokerd import EditReminder, FireReminder, ReminderChanged
from protocol.limits import PAGE_ROWS_MAX, REMINDERS_OPEN_MAX
from protocol.messages import DeliveryState, SystemEvent
from protocol.names import MANAGER_NAME
from protocol.problem import Problem, Refused
from protocol.reminders import Cron, Every, Once, Reminder, ReminderState
from protocol.tools import CancelReminder, ListReminders, Remind, ReminderPage, RollUpReminders
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key, now_ms
from tests.brokerd.hive import Hive

pytestmark = pytest.mark.anyio


def client(hive: Hive, name: str) -> Client:
    return hive.operator if name == "operator" else hive.agent(name)


async def remind(hive: Hive, name: str, text: str = "look", **wish: Any) -> Reminder:
    key = wish.pop("key", None) or new_key()
    return await client(hive, name).call(Remind(text=text, key=key, **(wish or {"in_s": 3_600})))


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
