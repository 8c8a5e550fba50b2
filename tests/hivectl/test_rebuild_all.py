"""Which cages are rebuilt, in which order, and what is said of those that did not come up."""

import pytest

from hivectl.rebuild_all import in_order, is_up, told
from protocol.names import MANAGER_NAME
from protocol.privd import Power
from tests.brokerd.hive import cage


@pytest.mark.parametrize("power", list(Power))
def test_what_was_stopped_on_purpose_stays_stopped(power: Power) -> None:
    assert is_up(cage("iris", power)) == (
        power in {Power.STARTING, Power.RUNNING, Power.CRASHED, Power.FAILED}
    )


def test_the_manager_comes_first() -> None:
    everybody = [cage("atlas"), cage(MANAGER_NAME), cage("iris")]
    assert in_order(everybody) == ([MANAGER_NAME], ["atlas", "iris"])
    assert in_order([cage("iris")]) == ([], ["iris"])


def test_what_failed_is_said_on_a_line_of_its_own() -> None:
    assert told([cage("iris")], {"atlas": "no\x1b[2J luck"}).splitlines() == [
        "iris: running",
        "atlas: not rebuilt: no\\x1b[2J luck",
    ]
    assert told([], {}) == "no cage runs"
