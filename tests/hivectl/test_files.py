"""Files and kept state at the command line: tables of a page, and nothing that a terminal obeys."""

from pathlib import Path

import pytest

from hivectl.__main__ import parser
from hivectl.arguments import build_request
from hivectl.files import files, kept_states, much, shown_safely
from protocol.privd import Cage, ListState, Power, StateEntry, StateKind, StatePage, StateSize
from protocol.settings import AgentRole, AgentSettings, Runner
from runtime.clock import now_ms

SETTINGS = AgentSettings(name="lumen", role=AgentRole.AGENT, runner=Runner.DEMO, model="m")


def kept(name: str) -> Cage:
    since = now_ms() - 9 * 24 * 3600 * 1000
    return Cage(name, Power.KEPT, since, "nspawn", 1, 2, SETTINGS)


def test_a_folder_is_a_table() -> None:
    page = StatePage(
        (
            StateEntry("notes", StateKind.FOLDER, 4096, 0),
            StateEntry("a\\x1b[2J.md", StateKind.FILE, 812, 86_400_000),
            StateEntry("big", StateKind.FILE, 3 << 30, 86_400_000),
            StateEntry("way", StateKind.LINK, 5, 0),
            StateEntry("pipe", StateKind.OTHER, 0, 0),
        ),
        "pipe",
    )
    lines = files(page).splitlines()
    assert lines[0].split() == ["SIZE", "CHANGED", "NAME"]
    assert lines[1].endswith("notes/")
    assert lines[2].startswith("812 B ")
    assert lines[2].endswith("a\\x1b[2J.md")
    assert lines[3].startswith("3.0 GiB")
    assert lines[4].endswith("way (a link, not followed)")
    assert lines[5].endswith("pipe (no file)")
    assert lines[6] == "(more: --after 'pipe')"
    assert files(StatePage((), None)) == "nothing there"


def test_names_that_privd_did_not_make_plain_stay_without_power() -> None:
    said = files(StatePage((StateEntry("a\x1b[2J\u202e", StateKind.FILE, 1, 0),), "\x07"))
    assert not {"\x1b", "\u202e", "\x07"} & set(said)


def test_kept_state_says_what_can_be_done_with_it() -> None:
    said = kept_states(
        [
            (kept("lumen"), StateSize(43_000_000, 112, complete=True)),
            (kept("b"), StateSize(900, 1, complete=False)),
        ]
    )
    lines = said.splitlines()
    assert lines[1].split() == ["lumen", "9d", "demo", "41", "MiB", "in", "112", "files"]
    assert lines[2].endswith("more than 900 B in 1 file")
    assert "brings one back" in lines[3]
    assert "nothing is kept" in kept_states([])
    assert much(StateSize(0, 0, complete=True)) == "0 B in 0 files"


def test_a_terminal_is_given_nothing_to_obey(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write = shown_safely()
    for data in (b"a\tb\n\x1b[2J\xc3", b"\xa4 \xff \xe2\x80\xae\r\n\xc3", b""):
        write(data)
    assert capfdbinary.readouterr().out == "a\tb\n\\x1b[2Jä \\xff \\u202e \n\\xc3".encode()


@pytest.mark.parametrize(
    ("words", "path", "after"), [(["iris"], "", ""), (["iris", "a/b", "--after", "c"], "a/b", "c")]
)
def test_a_folder_is_named_by_place(words: list[str], path: str, after: str, tmp_path: Path) -> None:
    values = parser().parse_args(["--dir", str(tmp_path), "files", *words])
    assert build_request(ListState, values, {}) == ListState("iris", path, after)
