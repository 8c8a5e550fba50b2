"""Numbers and search: an agent's page of figures and charts, the sizes, and messages that no page has loaded."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.rpc import Call
from protocol.tools import Send
from runtime.clock import new_key
from tests.webd.browser.conftest import picture
from tests.webd.browser.puppets import Puppet

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

LOADED = 100


def figure(page: Page, term: str) -> Any:
    return page.locator(".figures > div", has=page.get_by_text(term, exact=True)).locator("dd")


@pytest.mark.usefixtures("all_read")
def test_an_agent_in_numbers(page: Page, ask: Callable[[str, Call[Any]], Any]) -> None:
    ask("brokerd", Send(to="iris", body="who", key=new_key()))
    page.goto("/agent/iris/")
    expect(page.locator(".turn").last).to_contain_text("who")
    expect(page.locator(".id .state")).to_contain_text("idle")
    page.get_by_role("link", name="stats").click()
    expect(figure(page, "turns")).to_have_text(re.compile(r"^[1-9][0-9 ]*$"))
    expect(figure(page, "a turn takes, median")).to_have_text(re.compile(r"\d(ms|s)$"))
    expect(page.locator(".shares li", has_text="done").locator("b")).to_have_text(re.compile(r"^[1-9]"))
    expect(page.locator(".shares li", has_text="list_agents")).to_be_visible()
    expect(page.locator(".traffic tbody tr").first.locator("td").nth(1)).to_have_text(re.compile(r"^[1-9]"))
    chart = page.get_by_role("img", name=re.compile("^turns: [1-9]"))
    assert re.match(r"M[\d.]+ ", chart.locator("path.bars").first.get_attribute("d") or ""), "no bar is drawn"
    picture(page, f"stats {page.viewport_size and page.viewport_size['width']}")
    page.get_by_role("link", name="1h", exact=True).click()
    expect(page.locator(".spans [aria-current]")).to_have_text("1h")
    assert page.url.endswith("?since=1h")
    expect(figure(page, "turns")).to_have_text(re.compile(r"^[1-9]"))


def test_the_sizes_are_below_the_swarm(desk: Page) -> None:
    desk.goto("/")
    expect(desk.locator(".sizes")).to_contain_text(re.compile(r"history \d.*iB.*\d.*iB free"))


@pytest.mark.usefixtures("all_read")
def test_words_are_found_in_messages_that_are_not_loaded(
    page: Page, puppets: Callable[[str], Puppet], ask: Callable[[str, Call[Any]], Any]
) -> None:
    attic = puppets("attic")
    secret = f"heirloom {new_key()[:10]}"
    old = ask("brokerd", Send(to="attic", body=f"here lies the {secret}", key=new_key())).message
    for n in range(LOADED):
        ask("brokerd", Send(to="attic", body=f"a box, number {n}", key=new_key()))
    attic.takes_all(LOADED + 1)
    page.goto("/#matrix")
    expect(page.locator(".msg").first).to_be_visible()
    expect(page.locator(f"#m-{old}")).to_have_count(0)
    page.locator("#filter").fill(f"to:attic {secret}")
    expect(page.locator(f"#m-{old}")).to_contain_text(secret)
    expect(page.locator(".msg")).to_have_count(1)
    expect(page.locator(f"#m-{old} mark").first).to_have_text("heirloom")
    page.locator("#filter").fill(f"from:iris {secret}")
    expect(page.get_by_text("all messages that the hive has kept were searched.")).to_be_visible()
    page.locator("#filter").fill("to:nobody")
    expect(page.get_by_text("this filter looks at what is loaded")).to_be_visible()
