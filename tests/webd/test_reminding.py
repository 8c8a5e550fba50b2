"""Reminders through webd: set, told live, changed, fired, cancelled, listed; and what is refused."""

from collections.abc import Iterator

import pytest

from protocol.brokerd import ListMessages
from protocol.tools import ListReminders
from tests.webd.support.hive import WebHive
from tests.webd.test_actions import acted, place

pytestmark = pytest.mark.anyio


@pytest.fixture
def keys() -> Iterator[str]:
    return (f"{number:022d}" for number in range(1_000))


async def test_a_reminder_is_set_changed_fired_and_cancelled(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream("reminders") as frames:
        assert (await frames.next("snapshot")).data["topics"] == {"reminders": {}}
        said = {"agent": "iris", "text": "look\x1b[1m again", "every_s": 3_600, "key": next(keys)}
        answer = await acted(browser, "reminders", **said)
        told = await frames.next("reminders")
        number = answer.json["id"]
        assert place(answer.json["seq"]) >= place(told.id)
        assert (told.data["k"], told.data["d"]["body"]) == (str(number), "look again")
        assert told.data["d"]["schedule"]["kind"] == "every"
        assert (await acted(browser, "reminders", **said)).json["id"] == number
        cron = {"cron": "0 8 * * 1-5", "zone": "Europe/Berlin", "only_if": "test -e x", "key": next(keys)}
        await acted(browser, f"reminders/{number}/edit", **cron)
        row = (await frames.next("reminders")).data["d"]
        assert row["schedule"] == {"kind": "cron", "expression": "0 8 * * 1-5", "zone": "Europe/Berlin"}
        assert (row["only_if"], row["body"]) == ("test -e x", "look again")
        await acted(browser, f"reminders/{number}/edit", only_if=None, text="now", key=next(keys))
        row = (await frames.next("reminders")).data["d"]
        assert (row["only_if"], row["body"], row["schedule"]["kind"]) == (None, "now", "cron")
        await acted(browser, f"reminders/{number}/fire", key=next(keys))
        assert (await frames.next("reminders")).data["d"]["attempted"] == 1
        delivery = await iris.take()
        assert (delivery.message.event, delivery.message.about) == ("reminder", number)
        assert "now" in delivery.message.body
        await acted(browser, f"reminders/{number}/cancel", key=next(keys))
        assert (await frames.next("reminders")).data == {"k": str(number), "d": None}
    shown = (await browser.get("/api/v1/log/flow")).json["messages"]
    assert [(row["event"], row["about"]) for row in shown] == [("reminder", number)]


async def test_firing_twice_with_one_key_sends_once(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser, key = await hive.browser(), next(keys)
    said = {"agent": "iris", "text": "look", "in_s": 3_600, "key": next(keys)}
    number = (await acted(browser, "reminders", **said)).json["id"]
    for _ in range(2):
        await acted(browser, f"reminders/{number}/fire", key=key)
    assert len((await hive.operator("brokerd").call(ListMessages())).messages) == 1


async def test_a_page_begins_with_the_next_ones_and_reads_on(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    await hive.agent("atlas")
    browser = await hive.browser()
    numbers = []
    for place_, agent in enumerate(("iris", "atlas", "iris", "iris")):
        said = {"agent": agent, "text": str(place_), "in_s": 4_000 - place_, "key": next(keys)}
        numbers.append((await acted(browser, "reminders", **said)).json["id"])
    await acted(browser, f"reminders/{numbers[0]}/cancel", key=next(keys))
    shown = (await browser.get("/api/state?topics=reminders")).json["snapshot"]["topics"]["reminders"]
    assert shown.keys() == {str(number) for number in numbers[1:]}
    page = (await browser.get("/api/v1/reminders?limit=2")).json
    assert [row["id"] for row in page["reminders"]] == [numbers[3], numbers[2]]
    later = (await browser.get(f"/api/v1/reminders?after={page['after']}")).json
    assert [row["id"] for row in later["reminders"]] == [numbers[1]]
    own = (await browser.get("/api/v1/reminders?agent=atlas")).json
    assert [row["id"] for row in own["reminders"]] == [numbers[1]]
    over = (await browser.get(f"/api/v1/reminders?ended=1&before={2**53 - 1}")).json
    assert [(row["id"], row["state"]) for row in over["reminders"]] == [(numbers[0], "cancelled")]


async def test_what_is_no_reminder_is_refused(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    refused: tuple[tuple[str, dict[str, object], int], ...] = (
        ("reminders", {"agent": "iris", "text": "x"}, 400),
        ("reminders", {"agent": "iris", "text": "x", "in_s": 5, "every_s": 60}, 400),
        ("reminders", {"agent": "iris", "text": "x", "cron": "every day"}, 400),
        ("reminders", {"agent": "iris", "text": "x", "cron": "0 8 * * *", "zone": "Mars/North"}, 400),
        ("reminders", {"agent": "iris", "text": "", "in_s": 5}, 400),
        ("reminders", {"agent": "nobody", "text": "x", "in_s": 5}, 404),
        ("reminders/999/fire", {}, 404),
        ("reminders/999/cancel", {}, 404),
        ("reminders/999/edit", {"text": "x"}, 404),
        ("reminders/999/edit", {"more": "x"}, 400),
    )
    for path, said, status in refused:
        answer = await browser.post(f"/api/v1/{path}", {"key": next(keys), **said})
        assert (answer.status, answer.json.keys()) == (status, {"problem", "detail"}), (path, said, answer)
    assert (await hive.operator("brokerd").call(ListReminders())).reminders == ()
    for query in ("limit=0", "ended=yes", "agent=NOBODY", "after=0"):
        assert (await browser.get(f"/api/v1/reminders?{query}")).status == 400, query
