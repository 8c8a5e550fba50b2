"""The feed's numbers: without a hole, never given twice, and a new epoch when something may be missing."""

import msgspec
import pytest

from brokerd.store import feed
from brokerd.store.feed import FeedLog, FeedPlace
from protocol.brokerd import AgentGone
from protocol.limits import FEED_BACKLOG_ROWS_MAX
from protocol.problem import Refused
from runtime.store import Db
from tests.brokerd.store.conftest import Writer


def say(db: Db, log: FeedLog, *names: str) -> int:
    for name in names:
        log.append(name, AgentGone(name))
    return log.entries[-1].seq


def stored(db: Db, since: int) -> list[int]:
    return [entry.seq for entry in feed.read_after(db, since)]


def place(db: Db) -> FeedPlace:
    return feed.open_feed(db, "boot")


def test_numbers_go_up_by_one_over_jobs(db: Db, write: Writer) -> None:
    start = feed.last_seq(db)
    assert write(say, "a", "b") == start + 2
    assert write(say, "c") == start + 3
    assert stored(db, start) == [start + 1, start + 2, start + 3]
    assert feed.durable_head(db).head == start + 3


def test_the_numbers_of_a_job_that_failed_are_given_again(db: Db, write: Writer) -> None:
    def fail(db: Db, log: FeedLog) -> None:
        say(db, log, "never")
        log.flush(durable=True)
        raise ZeroDivisionError

    start = feed.last_seq(db)
    with pytest.raises(ZeroDivisionError):
        write(fail)
    assert write(say, "a") == start + 1


def test_a_relaxed_job_does_not_touch_the_durable_file(db: Db, write: Writer) -> None:
    head = feed.durable_head(db).head
    log = FeedLog(db, 1)
    say(db, log, "a")
    log.flush(durable=False)
    assert feed.last_seq(db) == head + 1
    assert feed.durable_head(db).head == head


def test_an_ordinary_restart_keeps_the_epoch(db: Db, write: Writer) -> None:
    before = place(db)
    write(say, "a")
    after = place(db)
    assert after == FeedPlace(before.epoch, before.head + 1)


def test_a_feed_that_lost_its_end_begins_a_new_epoch_and_gives_no_number_twice(db: Db, write: Writer) -> None:
    before = place(db)
    last = write(say, "a", "b")
    db.execute("DELETE FROM feed WHERE seq = ?", (last,))
    db.execute("UPDATE main.sqlite_sequence SET seq = ? WHERE name = 'feed'", (last - 1,))
    after = place(db)
    assert after.epoch != before.epoch
    assert after.head == last
    assert write(say, "c") == last + 1


def killed_between_the_files(db: Db, *jobs: tuple[bool, str]) -> None:
    """A commit of these jobs (durable or not, and what they say) that reached events.sqlite alone."""
    head = feed.durable_head(db).head
    for durable, name in jobs:
        log = FeedLog(db, 1)
        say(db, log, name)
        log.flush(durable=durable)
    db.execute(feed.SET_HEAD, (head,))


@pytest.mark.parametrize(
    ("jobs", "left"),
    [
        ([(True, "a"), (True, "b")], []),
        ([(False, "x")], ["x"]),
        ([(False, "x"), (True, "a"), (False, "y"), (True, "b"), (False, "z")], ["x", "y", "z"]),
    ],
)
def test_what_was_told_without_its_cause_is_taken_back(
    db: Db, write: Writer, jobs: list[tuple[bool, str]], left: list[str]
) -> None:
    last = write(say, "before")
    before = place(db)
    killed_between_the_files(db, *jobs)
    after = place(db)
    assert after == FeedPlace(before.epoch, last + len(left))
    entries = feed.read_after(db, last)
    assert [entry.seq for entry in entries] == list(range(last + 1, last + 1 + len(left)))
    assert [msgspec.json.decode(entry.encoded)["name"] for entry in entries] == left
    assert write(say, "next") == last + len(left) + 1


def test_another_boot_begins_a_new_epoch(db: Db, write: Writer) -> None:
    before = place(db)
    last = write(say, "a")
    after = feed.open_feed(db, "another boot")
    assert after.epoch != before.epoch
    assert after.head == last
    assert stored(db, 0) == []


def check(db: Db, epoch: str, since: int) -> str:
    """The refusal of a place, or nothing."""
    try:
        feed.check_place(db, epoch, since)
    except Refused as refused:
        return f"{refused.problem}: {refused.detail}"
    return ""


def test_from_where_the_feed_can_be_followed(db: Db, write: Writer) -> None:
    epoch = place(db).epoch
    last = write(say, "a", "b", "c")
    assert [check(db, epoch, since) for since in range(last + 1)] == [""] * (last + 1)
    assert "ends at" in check(db, epoch, last + 1)
    assert "began anew" in check(db, "0" * 32, last)


def test_a_place_whose_next_entry_is_gone_is_refused(db: Db, write: Writer) -> None:
    epoch = place(db).epoch
    last = write(say, "a", "b", "c")
    assert feed.forget_before(db, last, 1_000) > 0
    assert check(db, epoch, last - 1) == ""
    assert "too far back" in check(db, epoch, last - 2)


def test_an_emptied_feed_is_followed_from_its_end_only(db: Db, write: Writer) -> None:
    last = write(say, "a")
    epoch = feed.open_feed(db, "another boot").epoch
    assert check(db, epoch, last) == ""
    assert "too far back" in check(db, epoch, last - 1)


def test_a_place_further_back_than_the_backlog_is_refused(db: Db, write: Writer) -> None:
    epoch = place(db).epoch
    last = write(say, *["a"] * (FEED_BACKLOG_ROWS_MAX + 1))
    assert check(db, epoch, last - FEED_BACKLOG_ROWS_MAX) == ""
    refusal = (
        f"not_found: {last - FEED_BACKLOG_ROWS_MAX - 1} is too far back: take a snapshot and watch from there"
    )
    assert check(db, epoch, last - FEED_BACKLOG_ROWS_MAX - 1) == refusal


def test_a_backlog_is_read_in_pages_without_a_hole(db: Db, write: Writer) -> None:
    last = write(say, *["a"] * (2 * feed.PAGE_ROWS_MAX + 10))
    read: list[int] = []
    while page := stored(db, read[-1] if read else 0):
        assert len(page) <= feed.PAGE_ROWS_MAX
        read += page
    assert read == list(range(read[0], last + 1))


def test_large_entries_make_short_pages(db: Db, write: Writer) -> None:
    write(say, *["x" * 300_000] * 8)
    assert 3 <= len(feed.read_after(db, feed.last_seq(db) - 8)) <= 5


def test_an_entry_that_cannot_be_read_says_so_and_hides_no_other(db: Db, write: Writer) -> None:
    last = write(say, "a", "b", "c")
    db.execute("UPDATE feed SET body = ? WHERE seq = ?", (b'{"kind":"unheard"}', last - 1))
    entries = feed.read_after(db, last - 3)
    assert [entry.seq for entry in entries] == [last - 2, last - 1, last]
    assert ["unheard" in entry.fault for entry in entries] == [False, True, False]


def test_forgetting_goes_in_steps(db: Db, write: Writer) -> None:
    last = write(say, *["a"] * 10)
    first = stored(db, 0)[0]
    assert feed.forget_before(db, last, 4) == 4
    assert stored(db, 0)[0] == first + 4


def test_what_is_stored_is_what_was_told(db: Db, write: Writer) -> None:
    write(say, "iris")
    (entry,) = feed.read_after(db, feed.last_seq(db) - 1)
    assert msgspec.json.decode(entry.encoded) == {"kind": "agent_gone", "name": "iris"}
    assert entry.encoded == write.told[-1].encoded
