"""A lost link: the page says since when it may be wrong, keeps what is typed, and misses or doubles nothing."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.brokerd import ListMessages
from protocol.rpc import Call
from protocol.tools import Send
from runtime.clock import new_key
from tests.support.hive import RunningHive
from tests.webd.browser.conftest import PATIENCE_MS, picture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.allow_noise(r"net::ERR_|Failed to load resource"),
]


def shown(page: Page) -> list[int]:
    """Ids of the messages shown, oldest first."""
    ids = page.locator(".flow .msg").evaluate_all("all => all.map((one) => Number(one.dataset.message))")
    return [int(number) for number in reversed(ids)]


def same_as_the_broker(page: Page, ask: Callable[[str, Call[Any]], Any], last: int) -> None:
    """The page comes to show what the broker has: all of it, once, in order."""
    expect(page.locator(f"#m-{last}")).to_be_visible()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while True:
        known = sorted(message.id for message in ask("brokerd", ListMessages()).messages)
        seen = shown(page)
        assert seen == sorted(set(seen)), "doubled or out of order"
        if seen[-20:] == known[-20:]:
            return
        assert time.monotonic() < deadline, f"something is missing: {seen[-20:]} of {known[-20:]}"


def test_the_network_of_the_page_goes_and_comes_back(
    desk: Page, ask: Callable[[str, Call[Any]], Any]
) -> None:
    desk.goto("/#matrix")
    expect(desk.locator(".link [role=status]")).to_have_text("live")
    desk.context.set_offline(True)
    desk.evaluate("() => window.dispatchEvent(new Event('online'))")
    last = 0
    for n in range(5):
        last = ask("brokerd", Send(to="iris", body=f"status unseen {n}", key=new_key())).message
    desk.context.set_offline(False)
    same_as_the_broker(desk, ask, last)
    expect(desk.locator(".link [role=status]")).to_have_text("live")


def test_webd_is_killed_and_comes_back(
    page: Page, hive: RunningHive, ask: Callable[[str, Call[Any]], Any]
) -> None:
    page.goto("/#matrix")
    expect(page.locator(".link [role=status]")).to_have_text("live")
    page.locator("#compose").fill("half a thought")
    last = 0
    for _ in range(2):
        hive.kill_daemon("webd")
        last = ask("brokerd", Send(to="iris", body="status while webd was away", key=new_key())).message
        same_as_the_broker(page, ask, last)
    expect(page.locator(".link [role=status]")).to_have_text("live")
    expect(page.locator("#compose")).to_have_value("half a thought")


def test_a_long_loss_says_as_of_when_and_lets_nothing_be_sent(desk: Page) -> None:
    desk.goto("/agent/iris/")
    expect(desk.locator(".link [role=status]")).to_have_text("live")
    desk.route("**/api/**", lambda route: route.abort())
    desk.locator("#compose").fill("not yet")
    desk.evaluate("() => window.dispatchEvent(new PageTransitionEvent('pagehide'))")
    desk.evaluate("() => window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    banner = desk.locator(".banner")
    expect(banner).to_contain_text("true as of", timeout=PATIENCE_MS)
    expect(desk.locator(".id").get_by_role("button", name="stop")).to_be_disabled()
    expect(desk.get_by_role("button", name="send", exact=True)).to_be_disabled()
    picture(desk, "link lost")
    with desk.expect_request("**/api/**"):
        banner.get_by_role("button", name="now").click()
    desk.unroute("**/api/**")
    expect(banner).to_have_count(0, timeout=PATIENCE_MS)
    expect(desk.locator("#compose")).to_have_value("not yet")


def test_brokerd_is_killed_while_a_message_is_sent(
    desk: Page, hive: RunningHive, ask: Callable[[str, Call[Any]], Any]
) -> None:
    desk.goto("/#matrix")
    desk.get_by_label("recipient").select_option("iris")
    desk.locator("#compose").fill("status through the storm")
    hive.kill_daemon("brokerd")
    desk.locator("#compose").press("Enter")
    sent = desk.locator(".msg", has_text="status through the storm").filter(has=desk.locator(".chip.op"))
    try:
        expect(sent).to_have_count(1)
    except AssertionError:
        # webd may refuse while brokerd is away: the text is kept, and the same key is used again
        expect(desk.locator("#compose")).to_have_value("status through the storm")
        desk.locator("#compose").press("Enter")
        expect(sent).to_have_count(1)
    bodies = [message.body for message in ask("brokerd", ListMessages()).messages]
    assert bodies.count("status through the storm") == 1
