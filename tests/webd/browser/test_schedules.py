"""SCH3DUL3S: set in the form, due in words, fired, changed, cancelled; what is typed survives."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from protocol.reminders import Cron, Reminder
from protocol.rpc import Call
from protocol.tools import CancelReminder, ListReminders, Remind
from runtime.clock import new_key
from tests.webd.browser.conftest import picture

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage, pytest.mark.usefixtures("all_read")]

HOUR_S = 3_600


@pytest.fixture(autouse=True)
def nothing_due(ask: Callable[[str, Call[Any]], Any]) -> Iterator[None]:
    """No reminder of a test is left behind."""
    yield
    for reminder in ask("brokerd", ListReminders()).reminders:
        ask("brokerd", CancelReminder(reminder=reminder.id))


def row(page: Page, text: str) -> Locator:
    return page.locator(".schedule", has_text=text)


def form(page: Page, label: str = "new reminder") -> Locator:
    return page.get_by_role("form", name=label)


def reminders(ask: Callable[[str, Call[Any]], Any]) -> tuple[Reminder, ...]:
    found: tuple[Reminder, ...] = ask("brokerd", ListReminders()).reminders
    return found


def test_a_reminder_is_set_fires_and_its_message_arrives(
    page: Page, axe: Callable[..., list[str]], ask: Callable[[str, Call[Any]], Any]
) -> None:
    page.goto("/")
    page.get_by_role("button", name="remind", exact=True).click()
    text = f"status reminded {page.viewport_size and page.viewport_size['width']}"
    form(page).get_by_placeholder("what to remind of").fill(text)
    form(page).get_by_label("whom").select_option("iris")
    form(page).get_by_role("textbox", name="once, in").fill("soon")
    expect(form(page).get_by_role("status")).to_contain_text("a time such as")
    expect(form(page).get_by_role("button", name="remind")).to_be_disabled()
    form(page).get_by_role("textbox", name="once, in").fill("4 s")
    picture(page, f"remind {page.viewport_size and page.viewport_size['width']}")
    assert axe(page, "#schedules") == []
    form(page).get_by_role("button", name="remind").click()
    expect(form(page)).to_have_count(0)
    expect(row(page, text)).to_contain_text("once")
    message = page.locator(".msg", has_text=text).filter(has=page.locator("[data-event=reminder]"))
    expect(message).to_be_visible()
    expect(row(page, text)).to_have_count(0)
    expect(message.locator("[data-delivery]")).to_have_attribute("data-delivery", "done")
    assert all(found.body != text for found in reminders(ask))
    page.get_by_role("button", name="ended ones").click()
    expect(page.locator(".schedules.over .schedule", has_text=text).locator(".due")).to_have_text("fired")


def test_a_draft_survives_and_a_cron_line_is_read_back(
    desk: Page, ask: Callable[[str, Call[Any]], Any]
) -> None:
    desk.goto("/")
    desk.get_by_role("button", name="remind", exact=True).click()
    form(desk).get_by_placeholder("what to remind of").fill("sweep")
    form(desk).get_by_label("when").select_option("cron")
    form(desk).get_by_role("textbox", name="by cron").fill("0 8 * * 1-5")
    desk.reload()
    desk.get_by_role("button", name="remind", exact=True).click()
    expect(form(desk).get_by_placeholder("what to remind of")).to_have_value("sweep")
    form(desk).get_by_label("only if").fill("test -e work")
    form(desk).get_by_role("button", name="remind").click()
    expect(row(desk, "sweep")).to_contain_text("weekdays at 08:00")
    expect(row(desk, "sweep")).to_contain_text("only if test -e work")
    [found] = reminders(ask)
    assert (found.agent, found.only_if) == ("hm1nd", "test -e work")
    assert found.schedule == Cron("0 8 * * 1-5", "Europe/Berlin")


def test_one_is_changed_fired_and_cancelled_in_two_steps(
    desk: Page, posts: list[str], ask: Callable[[str, Call[Any]], Any]
) -> None:
    number = ask("brokerd", Remind(text="status before", key=new_key(), every_s=6 * HOUR_S, agent="iris")).id
    desk.goto("/")
    shown = desk.locator(f"[data-reminder='{number}']")
    expect(shown).to_contain_text("every 6 h")
    expect(shown.locator(".due")).to_have_text("in 5h 59m")
    shown.get_by_role("button", name="edit").click()
    change = shown.get_by_role("form")
    expect(change.get_by_placeholder("what to remind of")).to_have_value("status before")
    change.get_by_placeholder("what to remind of").fill("status after")
    change.get_by_label("when").select_option("every")
    change.get_by_role("textbox", name="every").fill("1 d")
    change.get_by_role("button", name="change").click()
    expect(change).to_have_count(0)
    expect(shown).to_contain_text("every day")
    expect(shown).to_contain_text("status after")
    shown.get_by_role("button", name="fire").click()
    expect(desk.locator(".msg", has_text="status after").locator("[data-event=reminder]")).to_be_visible()
    expect(shown.locator(".went")).to_have_text("1 ✓")
    cancel = shown.get_by_role("button", name="cancel")
    cancel.click()
    assert reminders(ask)[0].id == number, "one click only arms"
    time.sleep(0.35)  # a second click within a double click's time does not count
    shown.get_by_role("button", name="sure?").click()
    desk.mouse.move(1, 1)
    desk.locator("body").click(position={"x": 2, "y": 2})
    expect(shown).to_have_count(0)
    assert reminders(ask) == ()
    assert posts == [f"/api/v1/reminders/{number}/{what}" for what in ("edit", "fire", "cancel")]


def test_many_are_folded_the_next_first(desk: Page, ask: Callable[[str, Call[Any]], Any]) -> None:
    for n in range(6):
        ask("brokerd", Remind(text=f"folded {n}", key=new_key(), in_s=HOUR_S * (9 - n), agent="iris"))
    desk.goto("/")
    shown = desk.get_by_label("reminders, the next first").locator(".schedule")
    expect(shown).to_have_count(4)
    expect(shown.first).to_contain_text("folded 5")
    desk.get_by_role("button", name="all 6", exact=True).click()
    expect(shown).to_have_count(6)
    expect(shown.last).to_contain_text("folded 0")
