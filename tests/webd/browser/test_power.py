"""What ends something takes two clicks; a spinner stays until the stream has shown the effect."""

import pytest
from playwright.sync_api import Page, expect

from tests.webd.browser.conftest import picture

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

BOOT_MS = 30_000


def state(page: Page, agent: str, wanted: str) -> None:
    expect(page.locator(f"[data-agent={agent}]")).to_have_attribute("data-state", wanted, timeout=BOOT_MS)


def test_one_click_arms_and_time_or_escape_disarm(desk: Page, posts: list[str]) -> None:
    desk.goto("/agent/iris/")
    stop = desk.locator(".id").get_by_role("button", name="stop", exact=True)
    stop.click()
    armed = desk.locator(".id .btn.armed")
    expect(armed).to_have_text("sure? click again")
    picture(desk, "armed")
    desk.keyboard.press("Escape")
    expect(armed).to_have_count(0)
    stop.dblclick()
    expect(armed).to_have_count(1)
    expect(armed).to_have_count(0)  # time disarms
    assert posts == [], "neither one click nor a careless double click does anything"


def test_stop_start_and_restart(desk: Page, posts: list[str]) -> None:
    desk.goto("/")
    state(desk, "iris", "idle")
    menu = desk.get_by_role("button", name="actions for iris")
    menu.click()
    stop = desk.get_by_role("menuitem", name="stop")
    stop.click()
    sure = desk.get_by_role("menuitem", name="sure?")
    expect(sure).to_be_visible()
    desk.wait_for_timeout(350)  # a second click within a double click's time does not count
    sure.click()
    state(desk, "iris", "offline")
    expect(desk.get_by_role("log", name="notices")).to_contain_text("iris is stopping")
    picture(desk, "stopped")
    start = desk.get_by_role("menuitem", name="start", exact=True)
    expect(start).to_be_visible()
    start.click()
    state(desk, "iris", "idle")
    assert posts == ["/api/v1/agents/iris/stop", "/api/v1/agents/iris/start"]


def test_escape_twice_cancels_the_turn(desk: Page) -> None:
    desk.goto("/agent/iris/")
    desk.locator("#compose").fill("count to 100")
    desk.locator("#compose").press("Enter")
    expect(desk.locator(".turn").last.locator(".ev.say").nth(1)).to_be_visible()
    desk.keyboard.press("Escape")  # leaves the field
    desk.keyboard.press("Escape")
    expect(desk.locator(".id .btn.armed")).to_be_visible()
    desk.wait_for_timeout(350)
    desk.keyboard.press("Escape")
    expect(desk.locator(".turn").last.locator(".tag")).to_have_text("cancelled", timeout=BOOT_MS)
    expect(desk.locator(".id .state")).to_contain_text("idle")


@pytest.mark.slow
def test_spawn_destroy_and_purge(desk: Page) -> None:
    desk.goto("/")
    desk.get_by_role("button", name="spawn").click()
    form = desk.get_by_role("form", name="new agent")
    for refused in ("Moth", "9lives", "operator", "iris"):
        form.get_by_label("name").fill(refused)
        expect(desk.locator("#spawn-problem")).not_to_be_empty()
        expect(form.get_by_role("button", name="spawn")).to_be_disabled()
    form.get_by_label("name").fill("moth")
    form.get_by_label("driven by").select_option("demo")
    form.get_by_role("button", name="spawn").click()
    state(desk, "moth", "idle")
    picture(desk, "spawned")

    desk.goto("/agent/moth/")
    destroy = desk.locator(".side").get_by_role("button", name="destroy")
    destroy.click()
    sure = desk.locator(".side").get_by_role("button", name="sure?")
    desk.wait_for_timeout(350)
    sure.click()
    left = desk.get_by_role("form", name="what is kept of moth")
    expect(left).to_be_visible(timeout=BOOT_MS)
    purge = left.get_by_role("button", name="purge")
    expect(purge).to_be_disabled()
    left.get_by_role("textbox").fill("mot")
    expect(purge).to_be_disabled()
    picture(desk, "destroyed")
    left.get_by_role("textbox").fill("moth")
    purge.click()
    expect(desk.get_by_role("log", name="notices")).to_contain_text("moth is purged")
