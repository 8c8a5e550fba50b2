"""What stands above every page: daemons that are down, standing notices, limits."""

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.hive import RunningHive
from tests.webd.browser.conftest import picture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.allow_noise(r"net::ERR_|Failed to load resource"),
]

NOTICED_MS = 45_000


def test_a_daemon_that_is_down_is_said_until_it_is_back(
    page: Page, hive: RunningHive, axe: Callable[..., list[str]]
) -> None:
    page.goto("/")
    expect(page.locator(".link [role=status]")).to_have_text("live")
    banner = page.locator(".banner", has_text="egressd is down")
    expect(banner).to_have_count(0)
    hive.kill_daemon("egressd", signal.SIGSTOP)  # one that hangs is as good as away
    try:
        expect(banner).to_contain_text("agents reach nothing outside", timeout=NOTICED_MS)
        picture(page, f"a daemon down {page.viewport_size and page.viewport_size['width']}")
        assert axe(page, ".banner") == []
    finally:
        hive.kill_daemon("egressd", signal.SIGCONT)
    expect(banner).to_have_count(0, timeout=NOTICED_MS)


def test_notices_are_in_a_strip_that_unfolds(desk: Page) -> None:
    def noticed(route: Any) -> None:
        answer = route.fetch()
        notices = '"notices":["the first thing","a second thing","a third <b>thing</b>"]'
        route.fulfill(response=answer, body=re.sub(r'"notices":\[[^]]*\]', notices, answer.text()))

    desk.route("**/", noticed)
    desk.route("**/api/v1/stream*", lambda route: route.abort())
    desk.goto("/")
    strip = desk.get_by_label("standing notices")
    expect(strip.locator("li")).to_have_text(["the first thing"])
    strip.get_by_role("button", name="2 more").click()
    expect(strip.locator("li")).to_have_text(["the first thing", "a second thing", "a third <b>thing</b>"])
    strip.get_by_role("button", name="fewer").click()
    expect(strip.locator("li")).to_have_count(1)


def test_an_agent_at_its_limit_says_until_when(page: Page, axe: Callable[..., list[str]]) -> None:
    until_ms = 1_900_000_020_000  # 2030-03-17 17:47 UTC

    def limited(route: Any) -> None:
        answer = route.fetch()
        head, found, row = answer.text().partition('"iris":{"name":"iris"')
        assert found, "the page begins without iris"
        row = re.sub(r'"state":"\w+"', '"state":"limited"', row, count=1)
        row = row.replace('"until_ms":null', f'"until_ms":{until_ms}', 1)
        route.fulfill(response=answer, body=head + found + row)

    page.route("**/api/v1/stream*", lambda route: route.abort())
    page.route(re.compile("/(agent/iris/)?$"), limited)
    page.goto("/")
    expect(page.locator("[data-agent=iris] .state")).to_contain_text("rate-limited until ~17 Mar 18:47")
    expect(page.locator(".banner.limit")).to_contain_text("iris until ~17 Mar 18:47")
    picture(page, f"limited {page.viewport_size and page.viewport_size['width']}")
    assert axe(page, ".banner.limit") == []
    page.goto("/agent/iris/")
    expect(page.locator(".id .state")).to_contain_text("rate-limited until ~17 Mar 18:47")
