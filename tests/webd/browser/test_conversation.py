"""The main job in the browser: write to the manager, watch both turns, read the answer, find it all again."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.webd.browser.conftest import picture

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

# Notes every word that a message's delivery mark has shown, by the message's id.
RECORD = """
window.__progress = {};
new MutationObserver(() => {
  for (const mark of document.querySelectorAll("[data-message] [data-delivery]")) {
    const id = mark.closest("[data-message]").dataset.message;
    const seen = (window.__progress[id] ??= []);
    if (seen.at(-1) !== mark.dataset.delivery) seen.push(mark.dataset.delivery);
  }
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
"""
STEPS = [re.compile(step) for step in (r"queued", r"leased", r"in turn \d+", r"done")]


def send(page: Page, to: str, body: str) -> str:
    """Write from the flow; the id of the message that appears."""
    page.get_by_label("recipient").select_option(to)
    page.locator("#compose").fill(body)
    page.locator("#compose").press("Enter")
    sent = page.locator(".msg").filter(has=page.locator(".chip.op")).filter(has_text=body).first
    expect(sent).to_be_visible()
    expect(page.locator("#compose")).to_have_value("")
    return sent.get_attribute("data-message") or ""


@pytest.mark.usefixtures("all_read")
def test_tell_iris_hello(page: Page) -> None:
    page.add_init_script(RECORD)
    page.goto("/#matrix")
    word = f"hello {page.viewport_size and page.viewport_size['width']}"
    message = send(page, "hm1nd", f"tell iris {word}")
    expect(page.locator(f"#m-{message} [data-delivery]")).to_have_attribute("data-delivery", "done")
    steps = page.evaluate(f"window.__progress['{message}']")
    known = [next(i for i, step in enumerate(STEPS) if step.fullmatch(word)) for word in steps]
    assert known == sorted(set(known)), f"the states went backwards: {steps}"
    assert known[-1] == len(STEPS) - 1

    answer = page.locator(".rail .call", has_text="iris answers").filter(has_text=word).first
    expect(answer).to_be_visible()
    picture(page, f"answered {page.viewport_size and page.viewport_size['width']}")
    thread = page.locator(f"#m-{message} .when").get_attribute("href") or ""

    page.reload()
    expect(page.locator(f"#m-{message} [data-delivery]")).to_have_attribute("data-delivery", "done")
    expect(answer).to_be_visible()
    answer.get_by_role("button", name="read").click()
    page.mouse.move(1, 1)
    expect(answer).to_have_count(0)

    page.goto(thread)
    rows = page.locator(".flow.whole .msg")
    expect(rows.first).to_contain_text(f"tell iris {word}")
    expect(rows.last).to_contain_text("iris answers")
    picture(page, f"thread {page.viewport_size and page.viewport_size['width']}")


def test_the_turn_appears_live_on_the_agents_page(desk: Page) -> None:
    desk.goto("/agent/iris/")
    desk.locator("#compose").fill("count to 6")
    desk.locator("#compose").press("Enter")
    turn = desk.locator(".turn").last
    expect(desk.locator(".id .state")).to_contain_text("thinking")
    expect(turn.locator("h2")).to_contain_text("running")
    expect(turn.locator(".ev.in")).to_contain_text("count to 6")
    expect(turn.locator(".ev.say").last).to_contain_text("6")
    expect(desk.locator(".id .state")).to_contain_text("idle")
    expect(turn.locator("h2")).not_to_contain_text("running")
    tool = turn.locator(".ev.tool", has_text="send")
    tool.locator("summary").click()
    expect(tool.locator(".out").first).to_contain_text("operator")
    picture(desk, "a turn, with a tool opened")
    numbers = [
        int(n or 0) for n in turn.locator(".ev").evaluate_all("all => all.map((one) => one.dataset.n)")
    ]
    assert numbers == sorted(set(numbers))


def test_arrow_up_brings_back_the_last_prompt(desk: Page) -> None:
    desk.goto("/agent/iris/")
    field = desk.locator("#compose")
    for body in ("status first", "status second"):
        field.fill(body)
        field.press("Enter")
        expect(field).to_have_value("")
    field.press("ArrowUp")
    expect(field).to_have_value("status second")
    field.press("ArrowUp")
    expect(field).to_have_value("status first")
    field.press("ArrowDown")
    field.press("ArrowDown")
    expect(field).to_have_value("")


def test_an_enter_held_too_long_sends_once(desk: Page, posts: list[str]) -> None:
    desk.goto("/#matrix")
    desk.get_by_label("recipient").select_option("iris")
    desk.locator("#compose").fill("status once")
    for _ in range(3):
        desk.locator("#compose").press("Enter")
    expect(desk.locator("#compose")).to_have_value("")
    assert posts == ["/api/v1/send"]


@pytest.mark.usefixtures("all_read")
def test_a_reply_joins_the_thread(desk: Page) -> None:
    desk.goto("/#matrix")
    message = send(desk, "iris", "help")
    answer = desk.locator(".rail .call", has_text="I understand:")
    expect(answer).to_be_visible()
    answer.get_by_role("button", name="reply").click()
    field = answer.get_by_label("reply to iris")
    field.fill("thank you")
    desk.reload()  # what was typed survives
    expect(field).to_have_value("thank you")
    field.press("Enter")
    desk.mouse.move(1, 1)
    expect(answer).to_have_count(0)
    desk.goto(f"/?thread={message}#matrix")
    expect(desk.locator(".flow.whole .msg").nth(2)).to_contain_text("thank you")


def test_the_filter_has_an_address_and_finds(desk: Page) -> None:
    desk.goto("/#matrix")
    send(desk, "iris", "status looking for moths")
    desk.keyboard.press("Escape")
    desk.locator("h1").press("/")
    desk.keyboard.type("from:operator moths")
    expect(desk.locator(".msg")).to_have_count(1)
    expect(desk.locator(".msg mark").first).to_have_text("moths")
    assert "q=from%3Aoperator+moths" in desk.url
    desk.reload()
    expect(desk.locator(".msg")).to_have_count(1)
    desk.locator("#filter").press("Escape")
    expect(desk.locator(".msg").nth(1)).to_be_visible()


def test_a_model_is_chosen_where_one_writes_to_an_agent(desk: Page, posts: list[str]) -> None:
    desk.goto("/agent/iris/")
    field, facts = desk.locator("#compose"), desk.locator("aside.side dl").first
    expect(facts).to_contain_text("demo")
    field.fill("/model opus")
    field.press("Enter")
    expect(facts).to_contain_text("demo · opus")
    expect(field).to_have_value("")
    desk.goto("/")
    desk.goto("/agent/iris/")  # it is brokerd's, not the page's
    expect(facts).to_contain_text("demo · opus")
    field.fill("/model")
    field.press("Enter")
    expect(facts).not_to_contain_text("opus")
    assert posts == ["/api/v1/agents/iris/model"] * 2
