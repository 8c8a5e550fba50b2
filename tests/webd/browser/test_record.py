"""The record of configurations on real pages: tags, commits, differences and files of iris, and what is live where."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.approvals import ProposalKind
from protocol.configuration import Deny, ListProposals, Propose, WithdrawProposal
from protocol.rpc import Call
from tests.support.hive import RunningHive
from tests.webd.browser.conftest import picture, sideways, width
from tests.webd.support.config import commit

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

Axe = Callable[..., list[str]]
Ask = Callable[[str, Call[Any]], Any]
HOSTILE = (
    "You count words.\n<script>alert(1)</script> <img src=x onerror=alert(2)>\n" + "far " * 200 + "right\n"
)


@pytest.fixture(scope="module")
def numbers(hive: RunningHive, ask: Ask) -> Iterator[tuple[int, int]]:
    """A denied proposal of iris and one that waits: their numbers."""
    state = hive.places.state
    denied = ask(
        "privd", _propose(commit(state, "iris", lambda text: f'icon = "ant"\n{text}'), "an <b>ant</b>")
    )
    ask("privd", Deny("iris", denied.number, "bees are fine"))
    waiting = ask("privd", _propose(commit(state, "iris", lambda _: HOSTILE, "role.md"), "a role"))
    yield denied.number, waiting.number
    for row in ask("privd", ListProposals(agent="iris")):
        ask("privd", WithdrawProposal(row.agent, row.number))


def _propose(commit_id: str, why: str) -> Propose:
    return Propose("iris", ProposalKind.CONFIG, commit_id, description=why)


def test_tags_their_documents_and_what_they_change(page: Page, numbers: tuple[int, int], axe: Axe) -> None:
    denied, waiting = numbers
    page.goto("/agent/iris/")
    page.get_by_role("link", name="C0NF1G configuration").click()
    record = page.get_by_role("region", name="record")
    expect(record.locator(f"[data-tag='proposal/{waiting}']")).to_contain_text("a role")
    expect(record.locator(f"[data-tag='denied/{denied}']")).to_contain_text("an <b>ant</b>")
    expect(record.locator("[data-tag='deployed/1']")).to_be_visible()
    picture(page, f"config {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    record.locator(f"[data-tag='denied/{denied}'] a").click()
    expect(page).to_have_url(re.compile(rf"\?tag=denied%2F{denied}$"))
    opened = page.locator(".viewer")
    expect(opened.locator(".facts")).to_contain_text("bees are fine")
    changed = opened.locator("[data-path='agent.toml']")
    expect(changed.locator(".add")).to_have_text('+added: icon = "ant"')
    expect(changed.locator("ins")).to_have_text("+1")
    opened.get_by_text("the whole document").click()
    expect(opened.get_by_label("the tag's document")).to_contain_text('"end": "denied"')
    picture(page, f"config tag {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0


def test_what_is_hostile_in_a_file_is_text_in_full_sight(
    page: Page, numbers: tuple[int, int], axe: Axe
) -> None:
    page.goto(f"/agent/iris/config?tag=proposal/{numbers[1]}")
    opened = page.locator(".viewer")
    expect(opened.locator("[data-path='role.md'] .add")).to_have_count(3)
    assert page.evaluate("document.querySelectorAll('.diff :is(script, img, b)').length") == 0
    beyond = "[...document.querySelectorAll('.diff')].some((box) => box.scrollWidth > box.clientWidth + 1)"
    assert not page.evaluate(beyond), "a long line is broken, so that nothing hides to its right"
    picture(page, f"config hostile {width(page)}")
    opened.get_by_role("link", name="role.md").click()
    expect(page).to_have_url(re.compile("file=role.md$"))
    content = page.get_by_label("content of the file")
    expect(content).to_contain_text("<script>alert(1)</script>")
    assert page.evaluate("document.querySelectorAll('.content *').length") == 0
    picture(page, f"config file {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    page.get_by_role("link", name="close the file").click()
    expect(opened.locator(".facts")).to_be_visible()
    page.go_back()
    expect(content).to_be_visible()


def test_any_two_commits_are_compared(desk: Page, numbers: tuple[int, int]) -> None:
    denied, waiting = numbers
    desk.goto(f"/agent/iris/config?tag=proposal/{waiting}")
    expect(desk.locator(".viewer .difference")).to_contain_text("icon")
    chosen = desk.get_by_label("compared with")
    label = chosen.locator("option", has_text=f"denied/{denied} ").text_content()
    chosen.select_option(label=label)
    expect(desk).to_have_url(re.compile("before=[0-9a-f]{40}$"))
    expect(desk.locator(".viewer h3").last).to_contain_text(re.compile(r"1 file, \+3 −\d+"))
    expect(desk.locator(".viewer [data-path]")).to_have_attribute("data-path", "role.md")
    desk.get_by_label("compared with").select_option("nothing")
    expect(desk.locator(".viewer [data-path]")).to_have_count(2)
    desk.reload()
    expect(desk.locator(".viewer [data-path]")).to_have_count(2)


def test_what_is_live_where_and_since_when(page: Page, numbers: tuple[int, int], axe: Axe) -> None:
    page.goto("/meta")
    live = page.get_by_role("region", name="what is live, and the log")
    expect(live.locator("[data-live=iris]")).to_contain_text(re.compile(r"generation \d+"))
    expect(live.locator("[data-live=hm1nd]")).to_be_visible()
    picture(page, f"meta {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    live.get_by_role("list").get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/meta\?commit=[0-9a-f]{40}$"))
    expect(page.locator(".viewer .difference")).to_contain_text("generation")
    picture(page, f"meta commit {width(page)}")
    assert axe(page) == []
    page.goto("/meta")
    live.locator("[data-live=iris]").get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"/agent/iris/config\?tag=deployed"))
    expect(page.locator(".viewer .facts")).to_contain_text("deployed")


def test_an_agent_that_was_only_proposed_has_a_record(desk: Page, ask: Ask) -> None:
    asked = ask("privd", Propose("lumen", ProposalKind.SPAWN, description="she looks after lamps"))
    try:
        desk.goto(f"/agent/lumen/config?tag=proposal/{asked.number}")
        expect(desk.locator(".id .name")).to_contain_text("proposed · not there yet")
        expect(desk.locator(".viewer .facts")).to_contain_text("she looks after lamps")
        expect(desk.locator(".viewer [data-path='agent.toml']")).to_be_visible()
    finally:
        ask("privd", WithdrawProposal("lumen", asked.number))
    expect(desk.get_by_role("heading", name=f"denied/{asked.number}")).to_be_visible()
    expect(desk.locator(".viewer .facts")).to_contain_text("withdrawn")


@pytest.mark.allow_noise("404")
def test_what_is_not_there_is_said(desk: Page, hive: RunningHive) -> None:
    desk.goto("/agent/iris/config?tag=deployed/999")
    expect(desk.locator(".bar .problem")).to_contain_text("nothing is recorded of deployed/999")
    desk.goto(f"/agent/iris/config?commit={'0' * 40}")
    expect(desk.locator(".viewer .problem")).to_contain_text("there is no commit")
    desk.goto("/agent/nobody/config")
    expect(desk.get_by_text("no agent nobody")).to_be_visible()
