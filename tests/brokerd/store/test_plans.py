"""How sqlite finds the rows: never by reading a whole table that grows."""

import re
from types import ModuleType

import pytest

from brokerd.store import behind, history, retention, rows, search, statistics, traffic
from runtime.store import Db

GROWING = "messages|deliveries|turns|turn_events|keys|history|traffic|m|d|e|t|h|s"
MODULES = (behind, history, retention, search, statistics, traffic)
WHOLE = {"FORGET_ALL"}
"""They mean the whole table."""
FRAGMENTS = {
    "COUNTED": statistics.COUNTED + "SELECT * FROM counted",
    "REMOVE_KEYS_HEAD": rows.values(retention.REMOVE_KEYS_HEAD, 20, 2) + retention.REMOVE_KEYS_TAIL,
}


def statements(module: ModuleType) -> dict[str, str]:
    found = {
        name: FRAGMENTS.get(name, value)
        for name, value in vars(module).items()
        if isinstance(value, str) and re.match(r"(SELECT|WITH|INSERT|UPDATE|DELETE) ", value)
    }
    return {name: value for name, value in found.items() if name not in WHOLE}


def plan(db: Db, statement: str) -> list[str]:
    given: object
    if re.search(r":[a-z]", statement):
        given = dict.fromkeys(re.findall(r":([a-z_]+)", statement), 1)
    else:
        numbered = [int(number) for number in re.findall(r"\?(\d)", statement)]
        given = [1] * max([*numbered, 0 if numbered else statement.count("?")])
    return [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", given)]


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module in MODULES for name in statements(module)],
    ids=lambda value: value if isinstance(value, str) else value.__name__.rpartition(".")[2],
)
def test_no_table_that_grows_is_read_from_end_to_end(db: Db, module: ModuleType, name: str) -> None:
    steps = plan(db, statements(module)[name])
    for step in steps:
        assert not re.fullmatch(rf"SCAN ({GROWING})", step), (name, steps)
        if step.startswith("SEARCH keys"):
            assert "key=? AND sender=?" in step or "(key,sender)>" in step, step
        if step.startswith("SEARCH history"):
            assert "agent=? AND message" in step, step
        if step.startswith(("SEARCH traffic", "SEARCH t USING PRIMARY KEY (step_ms")):
            assert "agent" in step, step
