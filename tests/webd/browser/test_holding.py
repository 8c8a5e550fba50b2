"""What is held back: a thread that went on too long, a paused agent, a dead delivery, an agent at its limit."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.agent import BeginTurn, EndTurn
from protocol.brokerd import ListMessages, RetryDelivery
from protocol.limits import ATTEMPTS_MAX
from protocol.rpc import Call
from protocol.tools import Send
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key
from tests.webd.browser.conftest import picture
from tests.webd.browser.puppets import Puppet, taken

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage, pytest.mark.usefixtures("all_read")]

HOPS_MAX = 40


def state_of(ask: Callable[[str, Call[Any]], Any], message: int) -> str:
    found = ask("brokerd", ListMessages(before=message + 1, limit=1)).messages[0]
    assert found.id == message
    return str(found.deliveries[0].state)


def run_on(ask: Callable[[str, Call[Any]], Any], *round_: Puppet) -> int:
    """Let them write to each other until a message is held: its thread."""
    ask("brokerd", Send(to=round_[0].name, body="begin", key=new_key()))
    sent = [
        round_[hop % len(round_)].passes_on(round_[(hop + 1) % len(round_)].name, f"hop {hop}")
        for hop in range(HOPS_MAX + 1)
    ]
    assert [each.held for each in sent] == [False] * HOPS_MAX + [True]
    return sent[-1].thread


@pytest.mark.parametrize("how", ["release", "close"])
def test_a_thread_that_went_on_too_long(
    page: Page,
    how: str,
    puppets: Callable[[str], Puppet],
    ask: Callable[[str, Call[Any]], Any],
    axe: Callable[..., list[str]],
) -> None:
    own = f"{how[0]}{page.viewport_size and page.viewport_size['width']}"  # rates are by name and outlive a test
    round_ = [puppets(f"{letter}{own}") for letter in "abc"]
    thread = run_on(ask, *round_)
    page.goto("/")
    card = page.locator(".call", has_text=f"thread #{thread}")
    expect(card).to_contain_text("kept from going on")
    expect(card).to_contain_text("1 message held")
    expect(page.locator(f"#m-{thread} [data-delivery]")).to_have_attribute("data-delivery", "held")
    picture(page, f"held {how} {page.viewport_size and page.viewport_size['width']}")
    assert axe(page, "#calls") == []
    if how == "release":
        card.get_by_role("button", name="release").click()
        expect(page.locator(f"#m-{thread} [data-delivery]")).to_have_attribute("data-delivery", "queued")
        round_[(HOPS_MAX + 1) % 3].takes_all(1)
    else:
        card.get_by_role("button", name="close").click()
        page.wait_for_timeout(350)  # a second click within a double click's time does not count
        card.get_by_role("button", name="sure?").click()
        expect(page.locator(f"#m-{thread} [data-delivery]")).to_have_attribute("data-delivery", "dead")
        lost = page.locator(".call", has_text="not delivered").filter(has_text=f"hop {HOPS_MAX}")
        expect(lost).to_be_visible()
        [delivery] = ask("brokerd", ListMessages(before=thread + 1, limit=1)).messages[0].deliveries
        ask("brokerd", RetryDelivery(delivery=delivery.id))
    page.mouse.move(1, 1)
    expect(card).to_have_count(0)


def test_a_paused_agent_keeps_its_queue(page: Page, ask: Callable[[str, Call[Any]], Any]) -> None:
    page.goto("/")
    iris = page.locator("[data-agent=iris]")
    page.get_by_role("button", name="actions for iris").click()
    page.get_by_role("menuitem", name="pause").click()
    expect(iris).to_have_attribute("data-paused", "true")
    expect(iris.locator(".state")).to_contain_text("paused")
    page.keyboard.press("Escape")
    word = new_key()[:8]
    message = ask("brokerd", Send(to="iris", body=f"status paused {word}", key=new_key())).message
    expect(iris.locator(".mail")).to_contain_text("1")
    expect(page.locator(f"#m-{message} [data-delivery]")).to_have_attribute("data-delivery", "queued")
    page.goto("/agent/iris/")
    expect(page.locator(".id .state")).to_contain_text("paused")
    picture(page, f"paused {page.viewport_size and page.viewport_size['width']}")
    assert state_of(ask, message) == "queued"
    page.locator(".id").get_by_role("button", name="resume").click()
    expect(page.locator(".id .state")).not_to_contain_text("paused")
    expect(page.locator(".turn").last).to_contain_text(word)
    expect(page.locator(".turn").last.locator("h2")).not_to_contain_text("running")
    assert state_of(ask, message) == "done"


def test_a_dead_delivery_is_tried_again(
    desk: Page, puppets: Callable[[str], Puppet], ask: Callable[[str, Call[Any]], Any]
) -> None:
    weak = puppets("weak")
    message = ask("brokerd", Send(to="weak", body="too hard for it", key=new_key())).message

    async def fails(client: Client) -> None:
        for _ in range(ATTEMPTS_MAX):
            delivery = await taken(client)
            turn = (await client.call(BeginTurn(delivery.id, delivery.token))).turn
            await client.call(EndTurn(turn, Outcome.TIMEOUT))

    weak.run(fails)
    desk.goto("/")
    card = desk.locator(".call", has_text="too hard for it")
    expect(card).to_contain_text(f"{ATTEMPTS_MAX} tries")
    card.get_by_role("button", name="retry").click()
    expect(desk.locator(f"#m-{message} [data-delivery]")).to_have_attribute("data-delivery", "queued")
    weak.takes_all(1)
    expect(desk.locator(f"#m-{message} [data-delivery]")).to_have_attribute("data-delivery", "done")
    desk.mouse.move(1, 1)
    expect(card).to_have_count(0)


def test_all_letters_are_read_at_once(desk: Page, puppets: Callable[[str], Puppet], posts: list[str]) -> None:
    writer = puppets("writer")
    for n in range(3):
        writer.call(Send(to="operator", body=f"letter {n}", key=new_key()))
    desk.goto("/")
    letters = desk.locator(".call", has_text=re.compile(r"letter \d"))
    expect(letters).to_have_count(3)
    desk.get_by_role("button", name="read all 3").click()
    desk.mouse.move(1, 1)
    expect(letters).to_have_count(0)
    assert posts == ["/api/v1/messages/read"]
