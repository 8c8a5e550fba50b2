"""What holds agents back from outside: a model account at its limit, a way out that is refused, a cage's own limits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.agent import BeginTurn, EndTurn
from protocol.brokerd import ListAccounts, ListEgress, ResumeAccount
from protocol.limited import EgressRefusal
from protocol.rpc import Call
from protocol.tools import Remind, Send
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key, now_ms
from tests.support.hive import RunningHive
from tests.webd.browser.boots import open_with
from tests.webd.browser.conftest import picture
from tests.webd.browser.puppets import Puppet, taken

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage, pytest.mark.usefixtures("all_read")]

Ask = Callable[[str, Call[Any]], Any]
HOUR_MS = 3_600_000
AWAY = "about:blank"
"""A page that is still open would ask for what the puppet leaves, which is gone at once."""
TURNED_MS = 60_000
CONNECT = (
    'bash -c \'exec 3<>/dev/tcp/127.0.0.1/3128; printf "CONNECT {host}:443 HTTP/1.1\\r\\n\\r\\n" >&3; '
    "head -n 1 <&3; exit 1'"
)


def width(page: Page) -> int:
    return page.viewport_size["width"] if page.viewport_size else 0


@pytest.fixture
def limited(puppets: Callable[[str], Puppet], ask: Ask) -> Iterator[None]:
    """A turn of somebody met the limit of the account that everybody here shares."""
    somebody = puppets("spender")
    ask("brokerd", Send(to="spender", body="spend", key=new_key()))

    async def meet(client: Client) -> None:
        delivery = await taken(client)
        turn = (await client.call(BeginTurn(delivery.id, delivery.token))).turn
        await client.call(
            EndTurn(
                turn, Outcome.RATE_LIMITED, "the account's tokens are used up", until_ms=now_ms() + HOUR_MS
            )
        )

    somebody.run(meet)
    try:
        yield
    finally:
        if any(account.limited_until_ms for account in ask("brokerd", ListAccounts())):
            ask("brokerd", ResumeAccount("default"))
        while any(account.held for account in ask("brokerd", ListAccounts())):
            continue


def test_an_account_at_its_limit_holds_everybody_until_it_is_resumed(
    page: Page, limited: None, posts: list[str], axe: Callable[..., list[str]]
) -> None:
    page.goto("/")
    banner = page.locator(".banner.account")
    expect(banner).to_contain_text("◼ rate-limited")
    expect(banner).to_contain_text("account default until ~")
    expect(banner.get_by_role("link")).to_have_text(["hm1nd", "iris", "spender"])
    row = page.locator("[data-agent=iris]")
    expect(row).to_have_attribute("data-state", "limited")
    expect(row.locator(".doing")).to_contain_text("account default is limited")
    picture(page, f"an account at its limit {width(page)}")
    assert axe(page) == []
    page.goto("/agent/iris/")
    expect(page.locator(".id .detail")).to_contain_text("account default is limited")
    picture(page, f"an agent that its account holds {width(page)}")
    assert axe(page) == []
    page.get_by_role("button", name="resume account default").click()
    expect(banner).to_contain_text("● going on")
    expect(banner).to_have_count(0, timeout=TURNED_MS)
    assert posts == ["/api/v1/accounts/default/resume"]
    page.goto("/")
    expect(page.locator("[data-agent=iris]")).to_have_attribute("data-state", "idle")
    page.goto(AWAY)


def test_one_agent_goes_on_in_spite_of_the_limit(desk: Page, limited: None, ask: Ask) -> None:
    desk.goto("/")
    row = desk.locator("[data-agent=iris]")
    row.get_by_role("button", name="actions for iris").click()
    desk.get_by_role("menuitem", name="try again").click()
    expect(row).to_have_attribute("data-state", "idle")
    expect(desk.locator(".banner.account").get_by_role("link")).to_have_text(["hm1nd", "spender"])
    (account,) = ask("brokerd", ListAccounts())
    assert "iris" not in account.held
    desk.goto(AWAY)


def turned_away(ask: Ask, host: str) -> None:
    """A program in the cage of iris tries to get out, where its settings do not let it."""
    command = CONNECT.format(host=host)
    ask("brokerd", Remind(text="out", key=new_key(), in_s=1, agent="iris", only_if=command))


def test_a_refused_way_out_is_shown_where_one_looks(
    page: Page, ask: Ask, hive: RunningHive, axe: Callable[..., list[str]]
) -> None:
    host = f"w{width(page)}.example.org"
    page.goto("/agent/iris/")
    turned_away(ask, host)
    pane = page.locator("section[aria-labelledby=h-wayout]")
    if width(page) < 1000:
        page.get_by_role("button", name="facts").click()
    expect(pane.locator(".turned li").first).to_contain_text(f"{host}:443", timeout=TURNED_MS)
    expect(pane).to_contain_text("not in its settings")
    expect(pane).to_contain_text("it may reach the model API")
    limits = page.locator("section[aria-labelledby=h-limits]")
    expect(limits).to_contain_text("memory4.0 GiB")
    pane.scroll_into_view_if_needed()
    picture(page, f"a refused way out {width(page)}")
    assert axe(page) == []
    page.goto("/")
    expect(page.locator(".heldback")).to_contain_text("iris was turned away")
    expect(page.locator(".heldback")).to_contain_text(f"{host}:443")
    picture(page, f"held back below the swarm {width(page)}")
    assert axe(page) == []
    (row, *_) = ask("brokerd", ListEgress(agent="iris")).refusals
    assert isinstance(row, EgressRefusal)
    said = hive.hivectl_raw("egress", "iris").stdout
    assert f"{host}:443" in said
    assert "its settings do not name it" in said


def with_more(page: Page, path: str) -> None:
    """The page as it would begin if egressd had seen the account, and a cage had met its limits."""
    now = now_ms()

    def change(topics: dict[str, Any]) -> None:
        windows: list[dict[str, object]] = [
            {
                "name": "requests",
                "limit": 4000,
                "remaining": 3871,
                "used_permille": None,
                "resets_ms": now + 60_000,
            },
            {
                "name": "5h",
                "limit": None,
                "remaining": None,
                "used_permille": 712,
                "resets_ms": now + 2 * HOUR_MS,
            },
        ]
        account: dict[str, object] = {
            "name": "default",
            "seen_ms": now,
            "windows": windows,
            "limited_since_ms": None,
            "limited_until_ms": None,
            "said_by": "",
            "detail": "",
            "held": [],
        }
        hit = {
            "agent": "iris",
            "resource": "memory",
            "times": 3,
            "first_ms": now - 500_000,
            "at_ms": now - 125_000,
            "detail": "the kernel ended a process: all together may have 4096 MiB (memory_mib_max)",
        }
        limited = {**account, "name": "night", "limited_since_ms": now, "limited_until_ms": now + HOUR_MS}
        limited |= {
            "held": ["iris"],
            "windows": [{**windows[1], "used_permille": 1000}],
            "said_by": "egressd",
        }
        topics["accounts"] = {"default": account, "night": limited}
        topics["limits"] = {"iris memory": hit}

    open_with(page, path, change)


def test_windows_of_accounts_and_limits_of_cages_are_told_in_words(
    page: Page, axe: Callable[..., list[str]]
) -> None:
    with_more(page, "/")
    told = page.locator(".heldback")
    expect(told).to_contain_text("iris ran out of memory, 3 times by now, 2m ago")
    expect(told).to_contain_text("account default requests: 3 871 of 4 000, anew ")
    expect(told).to_contain_text("5h: 71 % used, anew ")
    expect(page.locator(".banner.account")).to_contain_text("5h: 100 % used")
    picture(page, f"windows of accounts {width(page)}")
    assert axe(page) == []
    with_more(page, "/agent/iris/")
    if width(page) < 1000:
        page.get_by_role("button", name="facts").click()
    limits = page.locator("section[aria-labelledby=h-limits]")
    expect(limits).to_contain_text("met 3 times, 2m ago")
    limits.scroll_into_view_if_needed()
    picture(page, f"limits of a cage {width(page)}")
    assert axe(page) == []
