"""What `up` refuses before it starts anything, and what it says when something does not come up."""

from pathlib import Path
from tempfile import mkdtemp

import pytest

from hivectl.places import Places
from hivectl.up import ground
from hivectl.up.agents import named
from protocol.problem import Refused
from runtime.settings import SettingsFault
from tests.support.hive import READY_S, remove, start_hive


def test_names_of_agents_are_judged_at_once() -> None:
    assert named("iris, atlas,iris,hm1nd") == ("iris", "atlas", "hm1nd")
    for text, said in (
        ("Iris", "'Iris' is not a name"),
        ("manager", "reserved"),
        ("", "empty"),
        ("a,,b", "empty"),
    ):
        with pytest.raises(Refused, match=said):
            named(text)


def test_a_folder_of_other_things_is_no_hive(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path / "run")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SettingsFault, match="holds other things"):
        ground.check_place(places)
    (tmp_path / "hive.toml").touch()
    ground.check_place(places)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsFault, match="is no folder"):
        ground.check_place(Places(tmp_path / "file", tmp_path / "run"))


def test_a_path_leaves_room_for_the_longest_socket() -> None:
    deepest = Path("/" + "x" * (ground.STATE_BYTES_MAX - 1))
    longest = deepest / "run" / "agents" / ("a" * 9) / "broker" / "broker.sock.new"
    assert len(bytes(longest)) <= 107
    ground.check_place(Places(deepest, deepest / "run"))
    with pytest.raises(SettingsFault, match="at most 63 leave room for sockets"):
        ground.check_place(Places(Path(f"{deepest}x"), deepest / "run"))


@pytest.mark.whole
@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ('[model]\nhosts = ["https://x/y"]\n', 1, "egressd did not come up: exit code 78, egressd: "),
        ('[web]\nhost = "192.0.2.1"\nport = 7000\n', 2, "web.host: cannot listen at 192.0.2.1"),
        ('[model]\nkey_file = "/nowhere/key"\n', 1, "/nowhere/key: No such file or directory; see [model]"),
        ('[agents]\nrunner = "claude"\n', 2, "Claude Code is not installed here; to install it: "),
    ],
)
def test_what_cannot_be_ends_with_its_reason(settings: str, code: int, said: str) -> None:
    folder = Path(mkdtemp(prefix="hive-", dir="/tmp"))
    hive = start_hive(folder=folder, settings=settings, environment={"HIVE_CLAUDE": ""})
    try:
        assert hive.process.wait(READY_S) == code
        assert hive.stop() == code
        assert said in "\n".join(hive.lines)
        assert "Traceback" not in "\n".join(hive.lines)
    finally:
        hive.stop()
        remove(folder)
