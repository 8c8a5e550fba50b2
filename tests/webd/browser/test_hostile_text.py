"""Whatever somebody writes stays text: no dialog, no foreign request, no element made of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, Request, expect

from protocol.rpc import Call
from protocol.tools import Send
from runtime.clock import new_key
from tests.webd.browser.conftest import sideways

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

TEXTS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    "</script><script>alert(3)</script>",
    "<!--<script>",
    "]]><svg onload=alert(4)>",
    "javascript:alert(5)",
    "`<b>${alert(6)}</b>`",
    "&lt;b&gt; &amp;amp;",
    "{{7*7}} {% raw %}",
    "\u202eevil\u202c \u2028 \u0085",
    "a" * 3_000,
    "<style>*{display:none}</style>",
    "<base href=//evil.example>",
    "<a href='https://evil.example'>click</a>",
]


@pytest.fixture(scope="module")
def written(ask: Callable[[str, Call[Any]], Any]) -> list[int]:
    return [ask("brokerd", Send(to="iris", body=text, key=new_key())).message for text in TEXTS]


@pytest.mark.parametrize("path", ["/#matrix", "/agent/iris/"])
def test_text_stays_text(page: Page, base_url: str, written: list[int], path: str) -> None:
    dialogs: list[str] = []
    foreign: list[str] = []

    def refuse(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    def note(asked: Request) -> None:
        if not asked.url.startswith((base_url, "data:")):
            foreign.append(asked.url)

    page.on("dialog", refuse)
    page.on("request", note)
    page.goto(path)
    expect(page.locator("body")).to_contain_text(TEXTS[0])
    expect(page.locator("body")).to_contain_text(TEXTS[1])
    inside = page.locator(
        ".said :is(img, script, style, base, svg:not(.i)), .body :is(img, script, style, base)"
    )
    expect(inside).to_have_count(0)
    assert page.locator("a[href*=evil]").count() == 0
    assert sideways(page) <= 0, "a long word widens the page"
    assert dialogs == []
    assert foreign == []


def test_the_boot_block_survives_a_closing_tag(desk: Page, written: list[int]) -> None:
    desk.goto("/")
    block = json.loads(desk.locator("#boot").text_content() or "")
    bodies = {message["id"]: message["body"] for message in block["snapshot"]["topics"]["flow"]}
    assert bodies[written[2]] == TEXTS[2]


def test_there_is_no_way_to_make_markup_of_text() -> None:
    """The modules never name a sink: the policy would stop it, and nobody should meet that in use."""
    static = Path(__file__).parents[3] / "webd" / "static"
    sinks = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "dangerously",
    )
    ours = [path for path in static.rglob("*.js") if "vendor" not in path.parts]
    assert len(ours) > 30
    found = [
        f"{path.name}: {sink}" for path in ours for sink in sinks if sink in path.read_text(encoding="utf-8")
    ]
    assert found == []
