"""Shells: the boot block is data whatever is in it, and templates are given everything they ask for."""

import json
import re

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webd.render.shells import Shells

SHELLS = Shells("/static/0123456789ab", "a <hive>")
BOOT = re.compile(r'<script type="application/json" id="boot">(.*?)</script>', re.DOTALL)


def boot_of(text: str) -> object:
    page = SHELLS.app("iris", {"text": text}).body
    assert isinstance(page, bytes)
    found = BOOT.search(page.decode())
    assert found is not None
    assert "<" not in found[1]
    assert not re.search("[\u2028\u2029]", found[1])
    return json.loads(found[1])["text"]


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "\u2028\u2029",
        "{{ 7*7 }}",
        "{% raw %}",
        "\\u003c",
        '"',
    ],
)
def test_nothing_in_the_boot_block_ends_its_element(text: str) -> None:
    assert boot_of(text) == text


@given(st.text())
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert boot_of(text) == text


def test_other_pages_escape_what_they_show() -> None:
    for answer in (SHELLS.login(signed_in=False), SHELLS.lost(404, "<script>")):
        assert isinstance(answer.body, bytes)
        assert b"<hive>" not in answer.body
        assert b"<script>" not in answer.body
    assert SHELLS.lost(404, "x").status == 404


def test_pages_name_their_files_under_the_prefix() -> None:
    page = SHELLS.login(signed_in=True).body
    assert isinstance(page, bytes)
    links = re.findall(rb'(?:src|href)="(/static[^"]+)"', page)
    assert links
    assert all(link.startswith(b"/static/0123456789ab/") for link in links)


def test_a_template_that_asks_for_more_is_a_defect(tmp_path: "object") -> None:
    environment = Shells("/static", "hive")._environment
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ nothing_like_this }}").render()
