"""The tail and the journal: they follow their end until the reader leaves it, and load what is older on top."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.rpc import Call
from protocol.tools import Send
from runtime.clock import new_key
from tests.webd.browser.conftest import picture

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

SCROLL = "one => [Math.round(one.scrollTop), Math.round(one.scrollHeight - one.scrollTop - one.clientHeight)]"
TURNS = 60


@pytest.fixture(scope="module")
def busy(ask: Callable[[str, Call[Any]], Any]) -> None:
    """An agent with more turns than a snapshot holds."""
    for n in range(TURNS):
        ask("brokerd", Send(to="iris", body=f"status number {n}", key=new_key()))


def scroll(page: Page) -> tuple[int, int]:
    top, below = page.locator(".tail").evaluate(SCROLL)
    return int(top), int(below)


def say(ask: Callable[[str, Call[Any]], Any], body: str) -> None:
    ask("brokerd", Send(to="iris", body=body, key=new_key()))


@pytest.mark.usefixtures("busy")
def test_it_follows_its_end_until_the_reader_leaves(desk: Page, ask: Callable[[str, Call[Any]], Any]) -> None:
    desk.goto("/agent/iris/")
    expect(desk.locator(".tail")).to_contain_text(f"number {TURNS - 1}", timeout=120_000)
    say(ask, "status at the end")
    expect(desk.locator(".turn").last).to_contain_text("My status is now: at the end")
    assert scroll(desk)[1] <= 1, "it follows"

    desk.locator(".tail").evaluate("one => one.scrollBy(0, -500)")
    top = scroll(desk)[0]
    say(ask, "status unseen")
    pill = desk.locator(".under .pill")
    expect(pill).to_contain_text("new")
    assert abs(scroll(desk)[0] - top) <= 1, "the reader's place is kept"
    picture(desk, "pill")
    pill.click()
    expect(pill).to_have_count(0)
    assert scroll(desk)[1] <= 1


@pytest.mark.usefixtures("busy")
def test_older_turns_come_on_top_and_nothing_jumps(page: Page) -> None:
    page.goto("/agent/iris/")
    expect(page.locator(".turn").last).to_be_visible()
    page.locator(".tail").evaluate("one => { one.scrollTop = 0; }")
    first = page.locator(".turn").first.get_attribute("data-turn")
    mark = page.locator(f"[data-turn='{first}'] h2")
    before = mark.evaluate("one => one.getBoundingClientRect().top")
    page.get_by_role("button", name="load older").click()
    expect(page.locator(".turn").first).not_to_have_attribute("data-turn", first or "")
    after = mark.evaluate("one => one.getBoundingClientRect().top")
    assert abs(after - before) < 45, f"the row the reader looked at moved by {after - before} px"
    turns = [int(n) for n in page.locator(".turn").evaluate_all("all => all.map((one) => one.dataset.turn)")]
    assert turns == sorted(set(turns))


def test_the_journal_follows_and_finds(desk: Page) -> None:
    desk.goto("/agent/iris/journal")
    expect(desk.locator(".journal p").first).to_be_visible()
    assert scroll(desk)[1] <= 1
    lines = desk.locator(".journal p").count()
    desk.locator("#filter").fill("no line says this")
    expect(desk.locator(".journal .empty")).to_be_visible()
    assert desk.url.endswith("/journal?q=no+line+says+this")
    desk.locator("#filter").fill("")
    expect(desk.locator(".journal p").nth(lines - 1)).to_be_visible()
    desk.get_by_role("navigation", name="journals").get_by_role("link", name="hm1nd").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("hm1nd")
