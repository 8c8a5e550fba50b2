"""An agent's own threads among everybody's messages, without an index that every send would pay for."""

from msgspec.structs import replace

from brokerd.store import threads
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import draft, send


def test_no_step_of_the_search_reads_a_table_from_its_beginning(db: Db) -> None:
    values = (1, 1, "iris", "system", 10, "manager")
    plan = [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {threads.MINE}", values)]
    assert not any(step.startswith("SCAN") and step != "SCAN CONSTANT ROW" for step in plan), plan


def test_a_thread_whose_first_message_is_gone_is_not_begun_by_anybody(db: Db, write: Writer) -> None:
    (first,) = send(write, draft("iris", ("atlas",)))
    (second,) = send(write, draft("atlas", ("iris",), in_reply_to=first.message))
    send(write, draft("iris", ("atlas",), in_reply_to=second.message))
    assert len(threads.open_threads(db, "iris", None, write.now_ms)) == 1
    db.execute("DELETE FROM messages WHERE id = ?", (first.message,))
    assert threads.open_threads(db, "iris", None, write.now_ms) == ()
    assert [each.waits_for for each in threads.open_threads(db, "atlas", None, write.now_ms)] == ["atlas"]


def test_what_somebody_else_got_as_the_manager_is_not_mine(db: Db, write: Writer) -> None:
    send(write, replace(draft("iris", ("hm1nd",)), to="manager"))
    assert len(threads.open_threads(db, "hm1nd", "hm1nd", write.now_ms)) == 1
    assert threads.open_threads(db, "atlas", "atlas", write.now_ms) == ()
