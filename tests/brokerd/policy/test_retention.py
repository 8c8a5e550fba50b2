"""How long things are kept."""

import msgspec
import pytest

from brokerd.policy.retention import DAY_MS, Retention, before


def test_a_day_is_a_day() -> None:
    assert before(90 * DAY_MS, 90) == 0
    assert before(91 * DAY_MS + 5, 90) == DAY_MS + 5


@pytest.mark.parametrize("days", [0, -1, 3_651])
@pytest.mark.parametrize("name", Retention.__struct_fields__)
def test_nothing_is_kept_for_no_time_or_for_ever(name: str, days: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert({name: days}, Retention)
