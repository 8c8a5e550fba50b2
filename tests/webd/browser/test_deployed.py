"""What is deployed of an agent, in its row and on its page: generation, sign and pronouns, and a cage that is stale."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from playwright.sync_api import Page, expect

from protocol.approvals import Proposal, ProposalKind
from protocol.configuration import Propose
from protocol.limits import PRONOUNS_CHARS_MAX
from protocol.privd import ListCages
from protocol.rpc import Call
from runtime.client import Client
from tests.support import spawning
from tests.support.hive import RunningHive
from tests.webd.browser.boots import open_with
from tests.webd.browser.conftest import picture, sideways, width
from tests.webd.support.config import commit

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage, pytest.mark.usefixtures("all_read")]

Ask = Callable[[str, Call[Any]], Any]
Axe = Callable[..., list[str]]
NARROW = 961
SIGN_PX_MAX = 70
"""Eight columns and a little."""
WHY = "claude was 2.1.34, is 2.1.40; hyperhive was 5f0c2e91ab04, is b7d11c03e9f2"
SIGN = "<b>x</b>"
"""As long as a sign may be."""
PRONOUNS = "they/them, or <i>she</i> among old folks"
WIDE_SIGN = "\u2a0c" * 8
"""Characters of nearly two columns each, in whatever font has them."""


@pytest.fixture(scope="module")
def generation(hive: RunningHive, ask: Ask) -> Iterator[int]:
    """Iris has a sign and pronouns that look like markup, by this generation; they go again."""
    as_it_was = Path(hive.places.state, "proposed", "agents", "iris", "config", "agent.toml").read_text()
    yield deployed(hive, ask, f"icon = '{SIGN}'\npronouns = '{PRONOUNS}'\n{as_it_was}")
    deployed(hive, ask, as_it_was)


def deployed(hive: RunningHive, ask: Ask, text: str) -> int:
    """What iris's settings now say; the generation that it came to."""
    made = commit(hive.places.state, "iris", lambda _: text)
    proposal: Proposal = ask("privd", Propose("iris", ProposalKind.CONFIG, made))

    async def approved() -> None:
        async with Client(hive.socket("privd")) as privd:
            await spawning.ended(privd, await spawning.approve(privd, proposal))

    trio.run(approved)
    return proposal.number


def test_a_sign_pronouns_and_the_generation_are_shown_as_text(page: Page, generation: int, axe: Axe) -> None:
    page.goto("/")
    row = page.locator("[data-agent=iris]")
    expect(row.locator(".emblem")).to_have_text(SIGN)
    assert page.locator(".emblem *").count() == 0
    picture(page, f"swarm with a sign {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    row.get_by_role("link", name=f"generation {generation}").click()
    expect(page).to_have_url(re.compile(rf"/agent/iris/config\?tag=deployed/{generation}$"))
    expect(page.locator(".viewer .facts")).to_contain_text("came todeployed")
    head = page.locator("header.id")
    expect(head.locator(".emblem")).to_have_text(SIGN)
    expect(head).to_contain_text(PRONOUNS)
    assert page.locator("header.id :is(.named b, i)").count() == 0
    picture(page, f"config with a sign {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0


@pytest.mark.parametrize("path", ["/", "/agent/iris/"])
def test_a_sign_takes_no_more_room_than_is_its_own(page: Page, path: str) -> None:
    def change(topics: dict[str, Any]) -> None:
        topics["agents"]["iris"] |= {"icon": WIDE_SIGN, "pronouns": "w" * PRONOUNS_CHARS_MAX}

    open_with(page, path, change)
    name = page.locator("[data-agent=iris] .who a, header.id h1").bounding_box()
    taken = page.locator("[data-agent=iris] .emblem, header.id .emblem").bounding_box()
    picture(page, f"wide sign {path} {width(page)}")
    assert name is not None
    assert taken is not None
    assert name["x"] + name["width"] <= taken["x"]
    assert taken["width"] <= SIGN_PX_MAX
    assert taken["height"] <= name["height"]
    cut = page.locator(".emblem").last.evaluate("sign => getComputedStyle(sign).overflow")
    assert cut == "hidden", "what stands higher or lower than a line would lie over others"
    assert sideways(page) <= 0


def test_the_page_of_an_agent_leads_to_what_is_deployed(page: Page, ask: Ask, axe: Axe) -> None:
    number = next(cage.generation for cage in ask("privd", ListCages()) if cage.agent == "iris")
    page.goto("/agent/iris/")
    expect(page.locator("header.id .was")).to_have_count(0)
    if width(page) < NARROW:
        page.get_by_role("button", name="facts").click()
    told = page.locator("section[aria-labelledby=h-now] .facts")
    expect(told.get_by_role("link", name=f"generation {number}")).to_be_visible()
    page.locator("header.id").get_by_role("link", name=f"generation {number}").click()
    expect(page).to_have_url(re.compile(rf"/agent/iris/config\?tag=deployed/{number}$"))


def stale(topics: dict[str, Any]) -> None:
    for agent in topics["agents"].values():
        agent["stale"] = WHY


def test_a_stale_cage_says_so_and_why_in_words(page: Page, axe: Axe) -> None:
    open_with(page, "/", stale)
    for name in ("iris", "hm1nd"):
        expect(page.locator(f"[data-agent={name}] .gen .tag")).to_have_text(f"stale: {WHY}")
    told = page.get_by_role("list", name="cages that still run what was before")
    expect(told.get_by_role("listitem")).to_have_text(f"hm1nd, iris still run what was before: {WHY}")
    told.scroll_into_view_if_needed()
    picture(page, f"stale below the swarm {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    open_with(page, "/agent/iris/", stale)
    expect(page.locator("header.id .was")).to_have_text(f"stale its cage still runs what was before: {WHY}")
    picture(page, f"stale agent {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0


def test_a_cage_that_is_as_it_would_be_made_now_says_nothing(desk: Page) -> None:
    desk.goto("/")
    expect(desk.locator("[data-agent=iris] .gen a")).to_be_visible()
    expect(desk.locator(".gen .tag")).to_have_count(0)
    expect(desk.get_by_role("list", name="cages that still run what was before")).to_have_count(0)
