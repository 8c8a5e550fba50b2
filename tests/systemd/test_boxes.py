"""Boxes that systemd makes: as confined, and as plain in what they refuse, as those that privd makes itself."""

import json
import shutil
from typing import Any

import pytest

from protocol.problem import Problem
from tests.privd.box_driver import SANDBOX_USER
from tests.privd.test_boxes import FORBIDDEN, PROBES, TRIES, lay_code, lay_input
from tests.systemd.installed import PYTHON, Installed
from tests.systemd.lab import CHECKOUT

pytestmark = [pytest.mark.systemd, pytest.mark.root, pytest.mark.cage]

SOCKET = "/run/hyperhive/privd/box.sock"
CODE, INPUT = "/opt/boxes-of-a-test/boxes", "/var/lib/hyperhive/shared/of-a-test"
"""Where a unit for boxes can see them."""
ASKED = {
    "tries", "see", "who", "read", "executable memory", "memory", "processor", "clock", "refuse", "defect", "cut short",
    "no reply", "signal", "after all that",
}  # fmt: skip
"""What systemd could make different; the rest is the box's own and asked elsewhere."""
PLACES = {"usr", "in", "code", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}


@pytest.fixture(scope="module")
def found(hive: Installed) -> dict[str, Any]:
    """What every probe found."""
    places = [hive.lab.root / place.removeprefix("/") for place in (CODE, INPUT)]
    places[0].parent.mkdir()
    lay_code(places[0])
    lay_input(places[1])
    probes = hive.lab.root / "opt/probes.json"
    probes.write_text(json.dumps([probe for probe in PROBES if probe["name"] in ASKED]))
    words = f"cd {CHECKOUT} && exec {PYTHON} -m tests.privd.box_driver {CODE} {INPUT} </opt/probes.json"
    done = hive.lab.as_unit("sh", "-c", words, environment={"BOX_SOCKET": SOCKET})
    shutil.rmtree(places[0].parent)
    shutil.rmtree(places[1])
    assert done.returncode == 0, done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return {**answered, "log": done.stderr}


def test_a_box_is_its_user_and_sees_its_input(found: dict[str, Any]) -> None:
    assert found["who"]["frames"] == [str(SANDBOX_USER[0]), str(SANDBOX_USER[1]), "True"]
    seen = found["see"]["frames"]
    assert {"usr", "in", "code"} <= set(seen[: seen.index("|")]) <= PLACES
    assert seen[seen.index("|") + 1 :] == ["file", "link", "up"]
    assert found["read"]["frames"] == ["content"]


def test_a_box_can_do_nothing_but_read(found: dict[str, Any]) -> None:
    answered = dict(zip(TRIES, found["tries"]["frames"], strict=True))
    assert {name: said for name, said in answered.items() if said not in FORBIDDEN[name]} == {}
    assert found["executable memory"]["frames"] == ["EPERM"]


@pytest.mark.parametrize(
    ("name", "problem", "words"),
    [
        ("memory", Problem.LIMIT, "probing needs more than 96 MiB of memory and was given up"),
        ("processor", Problem.LIMIT, "probing took more than 1 s of the processor"),
        ("clock", Problem.LIMIT, "probing took longer than 0.5 s and was given up"),
        ("refuse", Problem.NOT_FOUND, "no such"),
        ("defect", Problem.FAILED, "went wrong (exit code 70)"),
        ("cut short", Problem.FAILED, "went wrong (exit code 0)"),
        ("no reply", Problem.FAILED, "answered with what is no reply"),
        ("signal", Problem.FAILED, "was ended by signal 11"),
    ],
)
def test_how_a_box_ended_is_told_over_its_call(
    found: dict[str, Any], name: str, problem: Problem, words: str
) -> None:
    assert found[name]["problem"] == problem
    assert words in found[name]["detail"]


def test_boxes_leave_nothing_open(found: dict[str, Any]) -> None:
    assert found["after all that"]["frames"] == ["fine"]
    assert found["descriptors"] < 12
    assert "does not end" not in found["log"]
    assert "cannot be made" not in found["log"]
