"""Everything by keyboard: sequences, rows, the palette, the sheet; never while somebody types, and switchable."""

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]


def open_swarm(page: Page) -> None:
    page.goto("/")
    expect(page.locator(".link [role=status]")).to_have_text("live")


def test_rows_are_walked_with_j_and_k_and_opened_with_enter(desk: Page) -> None:
    open_swarm(desk)
    desk.keyboard.press("j")
    expect(desk.locator("[data-agent=hm1nd] a").first).to_be_focused()
    desk.keyboard.press("j")
    expect(desk.locator("[data-agent=iris] a").first).to_be_focused()
    desk.keyboard.press("k")
    desk.keyboard.press("j")
    desk.keyboard.press("Enter")
    expect(desk).to_have_url(re.compile(r"/agent/iris/$"))


def test_two_keys_go_places(desk: Page) -> None:
    open_swarm(desk)
    desk.keyboard.press("g")
    desk.keyboard.press("j")
    expect(desk).to_have_url(re.compile(r"/agent/hm1nd/journal$"))
    expect(desk.locator(".link [role=status]")).to_have_text("live")
    desk.keyboard.press("g")
    desk.keyboard.press("m")
    expect(desk).to_have_url(re.compile(r"/#matrix$"))


def test_keys_are_letters_while_somebody_types(desk: Page) -> None:
    open_swarm(desk)
    desk.keyboard.press("w")
    expect(desk.locator("#compose")).to_be_focused()
    desk.keyboard.type("gj?/tk")
    expect(desk.locator("#compose")).to_have_value("gj?/tk")
    expect(desk.locator("dialog")).to_have_count(0)


def test_t_turns_times_to_utc_and_stays_so(desk: Page) -> None:
    open_swarm(desk)
    expect(desk.locator(".clock small")).to_have_count(0)
    local = desk.locator(".swarm time").first.get_attribute("title") or ""
    assert "Europe/Berlin" in local
    desk.keyboard.press("t")
    expect(desk.locator(".clock small")).to_have_text("UTC")
    expect(desk.locator(".swarm time").first).to_have_attribute("title", re.compile(r" UTC$"))
    desk.reload()
    expect(desk.locator(".clock small")).to_have_text("UTC")


def test_the_palette_finds_by_a_few_letters_and_asks_twice_before_an_end(
    desk: Page, posts: list[str]
) -> None:
    open_swarm(desk)
    desk.keyboard.press("Control+k")
    desk.keyboard.type("stpir")
    chosen = desk.get_by_role("dialog").get_by_role("option", selected=True)
    expect(chosen).to_contain_text("stop iris")
    desk.keyboard.press("Enter")
    expect(chosen).to_contain_text("sure?")
    desk.keyboard.press("Escape")
    expect(desk.get_by_role("dialog")).to_have_count(0)
    assert posts == []
    desk.keyboard.press("Control+k")
    desk.keyboard.type("iris")
    desk.keyboard.press("Enter")
    expect(desk).to_have_url(re.compile(r"/agent/iris/$"))


def test_single_keys_can_be_switched_off(desk: Page) -> None:
    open_swarm(desk)
    desk.keyboard.press("?")
    desk.get_by_role("checkbox", name="single keys").uncheck()
    desk.get_by_role("button", name="close").click()
    desk.keyboard.press("t")
    desk.keyboard.press("g")
    desk.keyboard.press("m")
    expect(desk.locator(".clock small")).to_have_count(0)
    assert not desk.url.endswith("#matrix")
    desk.keyboard.press("Control+k")
    expect(desk.get_by_role("dialog")).to_be_visible()
