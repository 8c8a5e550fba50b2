"""`hivectl doctor` makes a box to find out whether this machine can."""

import json
import subprocess
import sys
from typing import Any

import pytest

from privd.box_trial import MEND

pytestmark = [pytest.mark.root, pytest.mark.cage]


def boxes_where(*confined: str) -> dict[str, Any]:
    """What is found by a root that was confined so."""
    command = [*confined, sys.executable, "-I", "-m", "privd", "--probe"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = json.loads(done.stdout)
    (boxes,) = (each for each in found["findings"] if each["subject"] == "boxes")
    return dict(boxes)


def test_a_box_on_trial_works_here() -> None:
    boxes = boxes_where()
    assert (boxes["good"], boxes["mend"]) == (True, "")


def test_root_who_may_mount_nothing_is_told_that_nothing_can_be_approved() -> None:
    """Cages are made by bubblewrap there, so only this tells."""
    boxes = boxes_where("setpriv", "--bounding-set=-sys_admin")
    assert (boxes["good"], boxes["mend"]) == (False, MEND)
    assert "a box on trial" in boxes["what"]
