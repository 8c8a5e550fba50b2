"""What is printed for people cannot steer their terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hivectl import tables
from protocol.brokerd import MessagePage
from protocol.messages import DeliveryState, Message, Receipt
from protocol.privd import Cage, Power
from protocol.settings import AgentSettings
from protocol.tools import Sent


@given(st.text())
def test_nothing_unprintable_reaches_the_terminal(text: str) -> None:
    shown = tables.printable(text)
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in shown)


def test_escape_sequences_and_bidi_are_shown_as_escapes() -> None:
    assert tables.printable("\x1b]52;c;eA==\x07") == "\\x1b]52;c;eA==\\x07"
    assert tables.printable("a\u202eb") == "a\\u202eb"
    assert tables.printable("one\ntwo") == "one two"


def test_columns_align() -> None:
    assert tables.table(("A", "B"), [("long", "x"), ("s", "y")]).splitlines() == [
        "A     B",
        "long  x",
        "s     y",
    ]


def test_ages_have_one_unit() -> None:
    assert [tables.age(0, ms) for ms in (0, 59_000, 60_000, 3_600_000, 86_400_000)] == [
        "0s",
        "59s",
        "1m",
        "1h",
        "1d",
    ]


def test_a_broadcast_shows_where_each_delivery_stands() -> None:
    receipts = tuple(
        Receipt(number, 7, name, DeliveryState.QUEUED, None, 0, 0)
        for number, name in enumerate(("atlas", "iris"), 1)
    )
    page = MessagePage((Message(7, 7, None, "operator", "*", True, "hi\x1b", 0, receipts),), before=7)
    older, line = tables.messages(page).splitlines()
    assert older == "(older: --before 7)"
    assert line.endswith("operator → *  hi\\x1b  [atlas queued, iris queued]")


def test_what_is_dead_says_how_to_bring_it_back() -> None:
    receipt = Receipt(897, 7, "atlas", DeliveryState.DEAD, 3, 3, 0)
    page = MessagePage((Message(7, 7, None, "iris", "atlas", False, "hi", 0, (receipt,)),), before=None)
    assert tables.messages(page).endswith("iris → atlas  hi  [dead (retry 897)]")


def test_a_message_that_is_held_says_what_it_waits_for() -> None:
    assert tables.sent(Sent(7, 5, ("atlas",), 1)) == "message 7 is stored for atlas"
    held = tables.sent(Sent(7, 5, ("atlas",), 1, held=True))
    assert held == "message 7 is stored for atlas, held in thread 5 until it is released"


def test_a_cage_shows_its_generation_and_that_it_is_stale() -> None:
    row = Cage("iris", Power.RUNNING, 1, "nspawn", 1, 2, AgentSettings("iris"), degraded=("no quotas",))
    fresh, old = (
        tables.cages([each]).splitlines()[1] for each in (row, replace(row, generation=7, stale="x"))
    )
    assert fresh.split()[3] == "–"
    assert fresh.endswith("no quotas")
    assert old.split()[3] == "7"
    assert old.endswith("stale: x")
