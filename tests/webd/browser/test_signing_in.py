"""Signing in by a link, once; signing out; and a session that ends while the page is open."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from protocol.rpc import Call
from protocol.webd import ListSessions, RevokeSession
from tests.webd.browser.conftest import DESK, PHONE, context, picture

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]


def address(page: Page) -> str:
    """What the address bar says; playwright's own record misses an address that a page replaced."""
    return str(page.evaluate("location.href"))


@pytest.mark.allow_noise("Failed to load resource")
def test_a_link_signs_in_once_and_leaves_no_code_behind(
    stranger: Page, login_link: Callable[[], str], axe: Callable[[Page], list[str]]
) -> None:
    link = login_link()
    stranger.goto(link)
    expect(stranger.locator("#swarm")).to_be_visible()
    assert "code" not in address(stranger)
    stranger.go_back()
    assert "code" not in address(stranger), "the code is not in the history either"
    stranger.context.clear_cookies()
    stranger.goto("about:blank")
    stranger.goto(link)
    expect(stranger.get_by_role("alert")).to_contain_text("refused")
    assert stranger.evaluate("location.hash") == ""
    assert axe(stranger) == []
    picture(stranger, "login refused")


def test_without_a_link_the_page_says_how_to_get_one(
    stranger: Page, axe: Callable[[Page], list[str]]
) -> None:
    stranger.goto("/agent/iris/")
    expect(stranger.locator(".command:visible")).to_have_text("hivectl login")
    assert address(stranger).endswith("/login")
    for width, height in (DESK, PHONE):
        stranger.set_viewport_size({"width": width, "height": height})
        assert axe(stranger) == []
        picture(stranger, f"login {width}")


def test_signing_out_from_the_palette(stranger: Page, login_link: Callable[[], str]) -> None:
    stranger.goto(login_link())
    expect(stranger.locator(".link [role=status]")).to_have_text("live")
    stranger.get_by_role("button", name="jump to").click()
    stranger.keyboard.type("sign out")
    stranger.keyboard.press("Enter")
    expect(stranger.locator(".command:visible")).to_have_text("hivectl login")
    stranger.goto("/")
    assert address(stranger).endswith("/login")


@pytest.mark.allow_noise("401|Failed to load resource")
def test_a_session_that_ends_leaves_the_page_readable_and_the_text_typed(
    chromium: Browser,
    base_url: str,
    session: Any,
    login_link: Callable[[], str],
    ask: Callable[[str, Call[Any]], Any],
) -> None:
    before = {signed_in.id for signed_in in ask("webd", ListSessions())}
    with context(chromium, base_url, DESK) as browsing:
        page = browsing.new_page()
        page.goto(login_link())
        expect(page.locator(".link [role=status]")).to_have_text("live")
        page.locator("#compose").fill("a long thought, half typed")
        (mine,) = {signed_in.id for signed_in in ask("webd", ListSessions())} - before
        ask("webd", RevokeSession(session=mine))
        expect(page.locator(".banner")).to_contain_text("signed out")
        expect(page.locator(".swarm [data-agent=iris]")).to_be_visible()
        expect(page.get_by_role("button", name="send", exact=True)).to_be_disabled()
        picture(page, "signed out")
        browsing.add_cookies(session["cookies"])
        page.goto("/")
        expect(page.locator("#compose")).to_have_value("a long thought, half typed")
