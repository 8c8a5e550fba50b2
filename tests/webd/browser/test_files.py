"""An agent's files and what destroyed agents left, on real pages of a real hive; every page is kept as a picture."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.hive import RunningHive
from tests.webd.browser.conftest import picture, sideways, width

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage]

NOTES = """# Plan

1. read what hm1nd wrote
2. count the words, again
   - mind the gap between "wörd" and "word"

<script>alert(document.domain)</script> <img src=x onerror=alert(1)> \x1b[31mred\x1b[0m \u202egnp.exe
"""
Axe = Callable[..., list[str]]


@pytest.fixture
def state(hive: RunningHive) -> Iterator[Path]:
    """The state folder of iris, filled as an agent might; emptied of it afterwards."""
    folder = hive.places.state / "agents" / "iris" / "state"
    owner = folder.stat()
    made = folder / "browsed"
    (made / "drafts" / "deeper" / "still").mkdir(parents=True)
    (made / "plan.md").write_text(NOTES)
    (made / "words.bin").write_bytes(bytes(range(256)) * 40)
    (made / "empty.txt").touch()
    (made / "long.log").write_text("".join(f"{number:06d} the quick brown fox\n" for number in range(12_000)))
    (made / "shadow").symlink_to("/etc/shadow")
    (made / "a\nname\u202e with <b>power").write_text("harmless")
    (made / ("long-" * 40 + "name.txt")).write_text("x")
    os.mkfifo(made / "pipe")
    for path in (made, *made.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    yield made
    shutil.rmtree(made)


def test_a_folder_and_a_file_of_it(page: Page, state: Path, axe: Axe) -> None:
    page.goto("/agent/iris/")
    page.get_by_role("link", name="F1L3S files").click()
    listing = page.get_by_role("region", name="folder")
    listing.get_by_role("link", name="browsed/").click()
    expect(page).to_have_url(re.compile(r"\?in=browsed$"))
    expect(listing.get_by_role("link", name="plan.md")).to_be_visible()
    expect(listing.locator("tbody tr")).to_have_count(9)
    expect(listing.get_by_text("a\\x0aname\\xe2\\x80\\xae with <b>power")).to_be_visible()
    expect(listing.locator("tr[data-name=shadow] a")).to_have_count(0)
    expect(listing.locator("tr[data-name=pipe] a")).to_have_count(0)
    expect(page.locator(".files .bar")).to_contain_text(re.compile(r"all of it: .+ in \d+ files"))
    picture(page, f"files folder {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    listing.get_by_role("link", name="plan.md").click()
    content = page.get_by_label("content of the file")
    expect(content).to_contain_text(
        "<script>alert(document.domain)</script> <img src=x onerror=alert(1)> red gnp.exe"
    )
    assert page.evaluate("document.querySelectorAll('.content *').length") == 0, (
        "a file is text, never markup"
    )
    picture(page, f"files file {width(page)}")
    assert axe(page) == []
    assert sideways(page) <= 0
    page.go_back()
    expect(content).to_have_count(0)
    expect(listing).to_be_visible()


@pytest.mark.allow_noise("409")
def test_what_is_no_text_is_not_shown(desk: Page, state: Path, axe: Axe) -> None:
    desk.goto("/agent/iris/state?in=browsed&file=browsed%2Fwords.bin")
    expect(desk.get_by_text("not text.")).to_be_visible()
    picture(desk, "files binary 1440")
    assert axe(desk) == []
    desk.goto("/agent/iris/state?in=browsed&file=browsed%2Fempty.txt")
    expect(desk.get_by_text("an empty file.")).to_be_visible()
    for path, says in (
        ("shadow", "links are not followed"),
        ("pipe", "is a pipe"),
        ("..%2F..%2Fclaude", "out of the state"),
    ):
        desk.goto(f"/agent/iris/state?file=browsed%2F{path}", wait_until="commit")
        expect(desk.locator(".viewer .problem")).to_contain_text(says)


def test_a_long_file_is_read_on(desk: Page, state: Path) -> None:
    desk.goto("/agent/iris/state?file=browsed%2Flong.log")
    content = desk.get_by_label("content of the file")
    expect(content).to_contain_text("000000 the quick")
    expect(content).not_to_contain_text("011999")
    desk.get_by_role("button", name="read on").click()
    expect(content).to_contain_text("011999 the quick")
    expect(desk.get_by_role("button", name="read on")).to_have_count(0)


def test_a_file_is_downloaded_and_never_opened(desk: Page, state: Path, tmp_path: Path) -> None:
    desk.goto("/agent/iris/state?file=browsed%2Fwords.bin")
    with desk.expect_download() as downloading:
        desk.get_by_role("link", name="download").click()
    done = downloading.value
    assert done.suggested_filename == "words.bin"
    done.save_as(tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == bytes(range(256)) * 40


def never_sideways(page: Page) -> None:
    """The pane in the strip and the form in a row are wide: no window is too narrow for them."""
    before = page.viewport_size
    assert before is not None
    for wide in (320, 360, 600, 768, 960, 961, 1180, 1300, 1920):
        page.set_viewport_size({"width": wide, "height": 800})
        assert sideways(page) <= 0, f"too wide at {wide} px"
        over = page.evaluate(
            "[...document.querySelectorAll('.strip > *')].some((e) => e.scrollWidth > e.clientWidth + 1)"
        )
        assert not over, f"the strip is too full at {wide} px"
        if wide == 961:
            picture(page, "kept state 961")
    page.set_viewport_size(before)


@pytest.fixture
def left(hive: RunningHive) -> Iterator[list[str]]:
    """Two destroyed agents, and what they left."""
    names = ["lumen", "bitburner"]
    for name in names:
        hive.hivectl("spawn", name)
        folder = hive.places.state / "agents" / name / "state"
        (folder / "notes.md").write_text("what I learned\n" * 4000)
        hive.hivectl("destroy", name, "--yes")
    yield names
    for cage in hive.hivectl("cages"):
        if cage["agent"] in names:
            hive.hivectl("destroy", cage["agent"], "--yes")
            hive.hivectl("purge", cage["agent"], "--yes")


def test_kept_state_is_shown_purged_and_brought_back(
    page: Page, hive: RunningHive, left: list[str], axe: Axe
) -> None:
    page.goto("/#kept")
    pane = page.locator("#kept")
    row = pane.locator("li[data-kept=lumen]")
    expect(row).to_contain_text(re.compile(r"\d+ KiB in 1 file"))
    row.get_by_role("button", name="purge… lumen").click()
    sure = page.get_by_role("form", name="purge lumen")
    purge = sure.get_by_role("button", name="purge")
    expect(purge).to_be_disabled()
    sure.get_by_role("textbox").fill("lume")
    expect(purge).to_be_disabled()
    pane.scroll_into_view_if_needed()
    picture(page, f"kept state {width(page)}")
    assert axe(page, "#kept") == []  # the rest of a page that is scrolled lies half below the strip
    assert sideways(page) <= 0
    never_sideways(page)
    sure.get_by_role("textbox").fill("lumen")
    purge.click()
    expect(row).to_have_count(0)
    assert not (hive.places.state / "agents" / "lumen").exists()

    pane.locator("li[data-kept=bitburner]").get_by_role("link", name="files of bitburner").click()
    page.get_by_role("link", name="notes.md").click()
    expect(page.get_by_label("content of the file")).to_contain_text("what I learned")
    picture(page, f"kept files {width(page)}")
    assert axe(page) == []
    page.get_by_role("button", name="bring back").click()
    expect(page.locator(".id .state")).to_contain_text(re.compile("idle|starting"))
    assert (hive.places.state / "agents" / "bitburner" / "state" / "notes.md").exists()
    page.goto("/")
    expect(page.locator("[data-agent=bitburner]")).to_be_visible()
    expect(page.locator("#kept")).to_have_count(0)
