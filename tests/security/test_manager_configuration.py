"""The manager edits every agent's proposed configuration; the agent reads its own and changes nothing."""

import pytest

from tests.security.inside import run_inside
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

WRITE = r"""
def write(path):
    with open(path, "w") as f:
        f.write("proposed")
    return "written"
print(json.dumps(attempt(lambda: write("/agents/iris/config/proposed"))))
"""
READ = r"""
print(json.dumps(attempt(lambda: open("/agents/iris/config/proposed").read())))
"""


def test_the_manager_writes_and_the_agent_reads(secure_hive: RunningHive) -> None:
    assert run_inside(secure_hive, "iris", WRITE)["errno"] == "EROFS"
    assert run_inside(secure_hive, "hm1nd", WRITE) == {"did": "written"}
    assert run_inside(secure_hive, "iris", READ) == {"did": "proposed"}
