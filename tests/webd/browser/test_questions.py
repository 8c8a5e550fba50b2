"""M1ND H4S QU3STI0NS: a question is a form, answered once; what is typed survives; what is broken is seen."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.brokerd import ListQuestions
from protocol.questions import QuestionState
from protocol.rpc import Call
from protocol.tools import Answer, Ask
from runtime.clock import new_key
from tests.webd.browser.conftest import picture
from tests.webd.browser.puppets import Puppet

pytestmark = [
    pytest.mark.browser,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.usefixtures("all_read"),
]


def width(page: Page) -> int:
    assert page.viewport_size
    return page.viewport_size["width"]


def test_the_demo_agent_asks_and_a_form_answers(page: Page, axe: Callable[..., list[str]]) -> None:
    page.goto("/")
    page.locator("#compose").fill(f"question which way, {width(page)}? [left | right | straight on]")
    page.get_by_label("recipient").select_option("iris")
    page.locator("#compose").press("Enter")
    form = page.locator("form.question", has_text=f"which way, {width(page)}?")
    expect(form).to_be_visible()
    expect(page).to_have_title("(1) SW4RM · hyperhive")
    answer = form.get_by_role("button", name="answer")
    expect(answer).to_be_disabled()
    form.get_by_text("straight on").click()
    form.get_by_role("textbox").fill("but slowly")
    picture(page, f"question {width(page)}")
    assert axe(page, "#questions") == []
    page.reload()
    expect(form.get_by_label("straight on")).to_be_checked()
    expect(form.get_by_role("textbox")).to_have_value("but slowly")
    answer.click()
    expect(form).to_have_count(0)
    line = page.locator(".asked.answered", has_text=f"which way, {width(page)}?")
    expect(line.locator(".result")).to_have_text("◆ operator: straight on · but slowly")
    expect(page.locator("[data-agent=iris] .doing")).to_contain_text("straight on")
    expect(page).to_have_title("SW4RM · hyperhive")


def test_any_of_several_and_an_answer_in_words(
    desk: Page, puppets: Callable[[str], Puppet], posts: list[str], ask: Callable[[str, Call[Any]], Any]
) -> None:
    asker = puppets("asker")
    several = asker.call(
        Ask(question="which of them?", options=("a", "b", "c"), multi=True, key=new_key())
    ).id
    words = asker.call(Ask(question="what do you call it?", ttl_s=3_600, key=new_key())).id
    desk.goto("/")
    form = desk.locator(f"#q-{several}")
    for option in ("c", "b", "a", "b"):
        form.get_by_label(option, exact=True).click()
    form.get_by_role("button", name="answer").click()
    expect(form).to_have_count(0)
    form = desk.locator(f"#q-{words}")
    expect(form.locator("header")).to_contain_text("left")
    field = form.get_by_role("textbox")
    field.fill("a hive")
    field.press("Shift+Enter")
    field.type("of agents")
    field.press("Enter")
    desk.keyboard.press("Enter")
    expect(form).to_have_count(0)
    assert posts == [f"/api/v1/questions/{several}/answer", f"/api/v1/questions/{words}/answer"]
    found = {row.id: row for row in ask("brokerd", ListQuestions(open=False)).questions}
    assert found[several].choices == ("a", "c")
    assert found[words].answer == "a hive\nof agents"


def test_what_agents_ask_each_other_is_shown(desk: Page, puppets: Callable[[str], Puppet]) -> None:
    asker, other = puppets("asker"), puppets("other")
    number = asker.call(Ask(question="shall i?", to="other", options=("yes", "no"), key=new_key())).id
    desk.goto("/")
    line = desk.locator(f"[data-question='{number}']")
    expect(line).to_contain_text("yes / no")
    expect(desk.locator(f"#q-{number}")).to_have_count(0)
    expect(desk.locator("#questions .head")).to_contain_text("none pending")
    other.call(Answer(question=number, choices=("no",), answer="not yet"))
    expect(line.locator(".result")).to_have_text("◆ other: no · not yet")


def test_one_that_is_answered_elsewhere_goes_and_typed_text_is_told_why(
    desk: Page, puppets: Callable[[str], Puppet], ask: Callable[[str, Call[Any]], Any]
) -> None:
    asker = puppets("asker")
    numbers = [asker.call(Ask(question=f"number {n}?", key=new_key())).id for n in range(2)]
    desk.goto("/")
    for number in numbers:
        desk.locator(f"#q-{number}").get_by_role("textbox").fill("half a thought")
    ask("brokerd", Answer(question=numbers[0], answer="done already"))
    expect(desk.locator(f"#q-{numbers[0]}")).to_have_count(0)
    expect(desk.locator(f"[data-question='{numbers[0]}'] .result")).to_contain_text("done already")
    expect(desk.locator(f"#q-{numbers[1]}").get_by_role("textbox")).to_have_value("half a thought")
    desk.get_by_role("button", name="earlier questions").click()
    expect(desk.get_by_label("answered lately")).to_contain_text("number 0?")
    assert ask("brokerd", ListQuestions()).questions[0].state is QuestionState.OPEN


@pytest.mark.allow_noise("could not be drawn|is not iterable|undefined")
def test_a_row_that_cannot_be_drawn_says_so_and_hides_no_other(
    desk: Page, puppets: Callable[[str], Puppet]
) -> None:
    asker = puppets("asker")
    numbers = [asker.call(Ask(question=f"drawn {n}?", key=new_key())).id for n in range(2)]

    def spoil(route: Any) -> None:
        answer = route.fetch()
        spoiled = answer.text().replace(f'"id":{numbers[0]},"asker":"asker"', f'"id":{numbers[0]},"askerr":1')
        route.fulfill(response=answer, body=spoiled.replace('"text":"drawn 0?"', '"text":null'))

    desk.route("**/", spoil)
    desk.goto("/")
    expect(desk.locator(".undrawn", has_text=f"question {numbers[0]}")).to_contain_text("could not be drawn")
    expect(desk.locator(f"#q-{numbers[1]}")).to_be_visible()
