"""The words of the hive's own messages fit into a message, whatever a journal holds."""

from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.bodies import check_body
from brokerd.policy.notices import NOTICE_BYTES_MAX, crash_notice


def test_a_crash_tells_who_how_and_the_last_lines() -> None:
    notice = crash_notice("iris", "ended with status 1", ["first", "last"])
    assert notice == "container_crash: iris ended with status 1\nlast lines of its journal:\nfirst\nlast"


def test_without_a_journal_it_is_one_line() -> None:
    assert (
        crash_notice("iris", "was killed by signal 9", ()) == "container_crash: iris was killed by signal 9"
    )


def test_the_end_of_a_long_journal_is_what_stays() -> None:
    notice = crash_notice("iris", "ended", [f"{number} {'x' * 90}" for number in range(1_000)])
    assert len(notice.encode()) <= NOTICE_BYTES_MAX + 100
    assert notice.splitlines()[2] == "…"
    assert notice.splitlines()[-1].startswith("999 ")


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]))),
)
def test_whatever_a_journal_holds_it_is_a_message(how: str, journal: list[str]) -> None:
    check_body(crash_notice("iris", how, journal))
