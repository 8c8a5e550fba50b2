"""Every page, wide and narrow: whole, reachable for everybody, and doing nothing by itself."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.rpc import Call
from protocol.tools import Send
from runtime.clock import new_key
from tests.webd.browser.conftest import picture

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

PAGES = [
    "/",
    "/?q=nothing+is+called+that#matrix",
    "/?thread=1#matrix",
    "/agent/iris/",
    "/agent/iris/state",
    "/agent/iris/stats",
    "/agent/iris/journal",
]
WIDTHS = [320, 360, 390, 600, 768, 960, 961, 1180, 1300, 1440, 1920, 2560]


def open_page(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator(".link [role=status]")).to_have_text("live")


@pytest.mark.parametrize("path", PAGES)
def test_accessible_and_still(
    page: Page, posts: list[str], axe: Callable[[Page], list[str]], path: str
) -> None:
    open_page(page, path)
    picture(page, f"page {path} {page.viewport_size and page.viewport_size['width']}")
    assert page.evaluate("document.getAnimations().length") == 0, "moves under prefers-reduced-motion"
    assert axe(page) == []
    assert posts == [], "a page that is only looked at changes nothing"


@pytest.mark.parametrize("path", PAGES)
def test_never_scrolls_sideways(desk: Page, path: str) -> None:
    open_page(desk, path)
    for width in WIDTHS:
        desk.set_viewport_size({"width": width, "height": 800})
        over = desk.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{over} px too wide at {width} px"


@pytest.mark.parametrize("path", ["/", "/agent/iris/", "/agent/iris/state", "/agent/iris/stats"])
def test_the_keyboard_reaches_everything_and_shows_where_it_is(desk: Page, path: str) -> None:
    open_page(desk, path)
    reached = set()
    for _ in range(40):
        desk.keyboard.press("Tab")
        seen = desk.evaluate(
            """() => { const e = document.activeElement;
                 if (e === document.body) return ["end", true];
                 const ring = getComputedStyle(e).outlineStyle !== "none";
                 const boxed = e.closest(".box") && getComputedStyle(e.closest(".box")).boxShadow !== "none";
                 return [e.outerHTML.slice(0, 120), ring || boxed]; }"""
        )
        assert seen[1], f"focus is not visible on {seen[0]}"
        reached.add(seen[0])
    assert len(reached) > 8


def test_dialogs_are_accessible(desk: Page, axe: Callable[..., list[str]]) -> None:
    open_page(desk, "/")
    desk.get_by_role("button", name="actions for iris").click()
    expect(desk.get_by_role("menu")).to_be_visible()
    assert axe(desk, "[role=menu]") == []  # what it covers is not to be judged
    desk.keyboard.press("Escape")
    desk.get_by_role("button", name="spawn").click()
    desk.get_by_label("name").fill("Iris")
    expect(desk.locator("#spawn-problem")).to_contain_text("small letter")
    assert axe(desk) == []
    for keys in ("Control+k", "?"):
        desk.locator(".brand").press(keys)
        expect(desk.locator("dialog")).to_be_visible()
        assert axe(desk) == []
        desk.keyboard.press("Escape")
        expect(desk.locator("dialog")).to_have_count(0)


@pytest.mark.allow_noise("404")
def test_a_page_that_is_not_there_says_so(page: Page, axe: Callable[[Page], list[str]]) -> None:
    answer = page.goto("/agent/nobody/")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="to the swarm")).to_be_visible()
    assert axe(page) == []
    picture(page, f"lost {page.viewport_size and page.viewport_size['width']}")


@pytest.mark.usefixtures("all_read")
def test_the_title_and_the_favicon_count_what_waits(desk: Page, ask: Callable[[str, Call[Any]], Any]) -> None:
    open_page(desk, "/")
    expect(desk).to_have_title("SW4RM · hyperhive")
    icon = desk.locator("link[rel=icon]")
    expect(icon).to_have_attribute("href", re.compile(r"/icon\.svg$"))
    for n in range(3):
        ask("brokerd", Send(to="iris", body=f"status waiting {n}", key=new_key()))
    expect(desk).to_have_title("(3) SW4RM · hyperhive")
    expect(icon).to_have_attribute("href", re.compile("^data:image/svg"))
    expect(desk.locator("#calls .head")).to_contain_text("3 waiting")


@pytest.mark.usefixtures("all_read")
def test_a_long_queue_is_folded(page: Page, ask: Callable[[str, Call[Any]], Any]) -> None:
    open_page(page, "/")
    for n in range(10):
        ask("brokerd", Send(to="iris", body=f"status queue {n}", key=new_key()))
    expect(page.locator("#calls .head")).to_contain_text("10 waiting")
    shown = page.locator("#calls .call:visible")
    expect(shown).to_have_count(8 if page.viewport_size == {"width": 1440, "height": 900} else 2)
    page.get_by_role("button", name="all 10", exact=True).click()
    expect(shown).to_have_count(10)
