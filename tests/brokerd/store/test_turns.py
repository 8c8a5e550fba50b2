"""Turns and what they do to their deliveries: all of it in the transaction that ends them."""

import pytest

from brokerd.policy.settling import CRASHES_MAX
from brokerd.store import agents, deliveries, pulls, turns
from brokerd.store.turns import Beginning, Ended, Ending
from protocol.agent import TurnClosed
from protocol.brokerd import Activity, TurnChanged
from protocol.messages import DeliveryState, Receipt
from protocol.problem import Problem, Refused
from protocol.tools import Recv
from protocol.turns import Outcome, Usage
from runtime.store import Db
from tests.brokerd.store.conftest import Writer
from tests.brokerd.store.drafts import begin, draft, send

TOKEN, OTHER = "a" * 32, "b" * 32


def queued(write: Writer, *recipients: str) -> int:
    """A message to these; the number of its first delivery."""
    (sent,) = send(write, draft("operator", recipients or ("iris",)))
    return deliveries.id_of(sent.message, 0)


def begun(write: Writer) -> tuple[int, int]:
    """A delivery to iris and its turn."""
    delivery = queued(write)
    return delivery, begin(write, "iris", delivery, TOKEN)


def test_a_turn_begins_durably(db: Db, write: Writer) -> None:
    delivery = queued(write)
    write.kinds()
    write.now_ms = 2_000
    turn = begin(write, "iris", delivery, TOKEN)
    assert write.kinds() == ["TurnChanged"]
    assert deliveries.read(db, delivery) == Receipt(
        delivery, delivery >> 7, "iris", DeliveryState.IN_TURN, turn, 1, 2_000
    )
    (shown,) = turns.before(db, "iris", None, 10)
    assert (shown.id, shown.woke_by, shown.message, shown.began_ms) == (
        turn,
        "operator",
        delivery >> 7,
        2_000,
    )
    assert (shown.ended_ms, shown.outcome, shown.usage) == (None, None, None)
    row = agents.read(db, "iris")
    assert (row.activity, row.turn, row.since_ms) == (Activity.THINKING, turn, 2_000)


def test_beginning_again_with_the_same_lease_is_the_same_turn(write: Writer) -> None:
    delivery, turn = begun(write)
    write.kinds()
    assert begin(write, "iris", delivery, TOKEN) == turn
    assert write.kinds() == []


def test_one_turn_at_a_time(write: Writer) -> None:
    delivery, turn = begun(write)
    for other, token in ((queued(write), TOKEN), (delivery, OTHER)):
        with pytest.raises(Refused, match=f"turn {turn} of iris is open") as refused:
            begin(write, "iris", other, token)
        assert refused.value.problem is Problem.CONFLICT


def test_only_ones_own_waiting_delivery_drives_a_turn(write: Writer) -> None:
    with pytest.raises(Refused, match="iris has no delivery 128000"):
        begin(write, "iris", 128_000, TOKEN)
    with pytest.raises(Refused, match="does not wait for iris"):
        begin(write, "iris", queued(write, "atlas"), TOKEN)
    assert turns.read_open(write.db) == []


def test_a_turn_ends_once(db: Db, write: Writer) -> None:
    delivery, turn = begun(write)
    write.kinds()
    write.now_ms = 9_000
    usage = Usage(1, 2, 3, 4, 5)
    ending = Ending(Outcome.DONE, "well", usage, "c-1", 77)
    closed = write(turns.end, "iris", turn, ending)
    assert closed == TurnClosed(done=1, requeued=0, dead=0)
    assert write.kinds() == ["TurnChanged"]
    assert write(turns.end, "iris", turn, Ending(Outcome.CRASHED)) == closed
    assert write.kinds() == []
    (shown,) = turns.before(db, "iris", None, 10)
    assert (shown.outcome, shown.detail, shown.usage, shown.ended_ms) == (Outcome.DONE, "well", usage, 9_000)
    settled = deliveries.read(db, delivery)
    assert (settled.state, settled.turn, settled.attempts) == (DeliveryState.DONE, turn, 1)
    row = agents.read(db, "iris")
    assert (row.activity, row.turn, row.last_turn_ms) == (Activity.ABSENT, None, 9_000)


def test_a_turn_is_the_agents_own(write: Writer) -> None:
    _, turn = begun(write)
    for agent, number in (("atlas", turn), ("iris", turn + 1)):
        with pytest.raises(Refused, match=f"{agent} has no turn {number}") as refused:
            write(turns.end, agent, number, Ending(Outcome.DONE))
        assert refused.value.problem is Problem.NOT_FOUND


def test_what_waits_again_is_in_no_turn_and_comes_first(db: Db, write: Writer) -> None:
    delivery, turn = begun(write)
    queued(write)
    assert write(turns.end, "iris", turn, Ending(Outcome.RATE_LIMITED)) == TurnClosed(
        done=0, requeued=1, dead=0
    )
    (oldest,) = deliveries.queued(db, "iris", 1)
    assert (oldest.id, oldest.turn, oldest.attempts) == (delivery, None, 0)


def test_a_message_that_crashes_every_turn_is_given_up(db: Db, write: Writer) -> None:
    delivery, turn = queued(write), 0
    for attempt in range(1, CRASHES_MAX + 1):
        turn = begin(write, "iris", delivery, TOKEN)
        assert deliveries.read(db, delivery).attempts == attempt
        closed = write(turns.end, "iris", turn, Ending(Outcome.CRASHED))
        assert closed == TurnClosed(0, int(attempt < CRASHES_MAX), int(attempt == CRASHES_MAX))
    dead = deliveries.read(db, delivery)
    assert (dead.state, dead.turn) == (DeliveryState.DEAD, turn)
    assert deliveries.queued(db, "iris", 1) == ()


def recv(turn: int, *, key: str = "c" * 32, limit: int = 5) -> Recv:
    return Recv(turn=turn, key=key, limit=limit)


def test_pulled_messages_belong_to_the_turn(db: Db, write: Writer) -> None:
    _, turn = begun(write)
    more = [queued(write) for _ in range(3)]
    received = write(pulls.pull, "iris", recv(turn, limit=2))
    assert [message.id for message in received.messages] == [delivery >> 7 for delivery in more[:2]]
    assert {message.deliveries for message in received.messages} == {()}
    assert [deliveries.read(db, each).state for each in more] == ["in_turn", "in_turn", "queued"]
    assert write(turns.end, "iris", turn, Ending(Outcome.DONE)) == TurnClosed(done=3, requeued=0, dead=0)


def test_a_repeated_pull_gets_the_same_messages(write: Writer) -> None:
    _, turn = begun(write)
    queued(write)
    first = write(pulls.pull, "iris", recv(turn))
    queued(write)
    write.kinds()
    assert write(pulls.pull, "iris", recv(turn)) == first
    assert write.kinds() == []
    assert len(write(pulls.pull, "iris", recv(turn, key="d" * 32)).messages) == 1
    with pytest.raises(Refused, match="this key was used"):
        write(pulls.pull, "iris", recv(turn, limit=1))


def test_an_empty_pull_may_be_repeated_with_better_luck(write: Writer) -> None:
    _, turn = begun(write)
    assert write(pulls.pull, "iris", recv(turn)).messages == ()
    queued(write)
    assert len(write(pulls.pull, "iris", recv(turn)).messages) == 1


def test_a_pull_needs_a_turn_that_runs(write: Writer) -> None:
    _, turn = begun(write)
    with pytest.raises(Refused, match="atlas has no turn"):
        write(pulls.pull, "atlas", recv(turn))
    write(turns.end, "iris", turn, Ending(Outcome.DONE))
    with pytest.raises(Refused, match=f"turn {turn} ended: done") as refused:
        write(pulls.pull, "iris", recv(turn))
    assert refused.value.problem is Problem.CONFLICT


def test_a_pull_takes_no_more_than_a_reply_holds(write: Writer) -> None:
    _, turn = begun(write)
    send(write, *(draft(body="\x01" * 60_000) for _ in range(3)))  # 360 kB each, as JSON
    assert len(write(pulls.pull, "iris", recv(turn)).messages) == 1


def test_a_new_harness_ends_what_an_earlier_one_left(db: Db, write: Writer) -> None:
    assert write(turns.attach, "iris", "1" * 32).is_new
    delivery, _ = begun(write)
    again = write(turns.attach, "iris", "1" * 32)
    assert (again.is_new, again.requeued) == (False, 0)
    assert turns.open_of(db, "iris") is not None
    took_over = write(turns.attach, "iris", "2" * 32)
    assert (took_over.is_new, took_over.requeued) == (True, 1)
    assert turns.open_of(db, "iris") is None
    assert deliveries.read(db, delivery).state is DeliveryState.QUEUED
    assert turns.before(db, "iris", None, 1)[0].outcome is Outcome.CRASHED
    assert agents.read(db, "iris").activity is Activity.IDLE


def test_a_new_harness_is_not_parked(db: Db, write: Writer) -> None:
    write(turns.attach, "iris", "1" * 32)
    write(agents.change, "iris", parked=Outcome.RATE_LIMITED, until_ms=5, detail="soon")
    assert agents.read(db, "iris").activity is Activity.PARKED
    write(turns.attach, "iris", "1" * 32)
    assert agents.read(db, "iris").activity is Activity.PARKED
    write(turns.attach, "iris", "2" * 32)
    row = agents.read(db, "iris")
    assert (row.activity, row.parked, row.until_ms, row.detail) == (Activity.IDLE, None, None, "")


def test_ending_nothing_is_nothing(write: Writer) -> None:
    write.kinds()
    assert write(turns.end_open, "iris", Ending(Outcome.CRASHED)) == TurnClosed(0, 0, 0)
    assert write.kinds() == []


def test_when_turns_began(db: Db, write: Writer) -> None:
    for began_ms in (1_000, 2_000, 3_000):
        write.now_ms = began_ms
        _, turn = begun(write)
        write(turns.end, "iris", turn, Ending(Outcome.DONE))
    assert turns.began_since(db, "iris", 1_500, 500) == (2_000, 3_000)
    assert turns.began_since(db, "iris", 0, 2) == (2_000, 3_000)
    assert turns.began_since(db, "atlas", 0, 2) == ()


def test_pages_of_turns_lead_back(db: Db, write: Writer) -> None:
    numbers = []
    for _ in range(5):
        _, turn = begun(write)
        write(turns.end, "iris", turn, Ending(Outcome.DONE))
        numbers.append(turn)
    assert [turn.id for turn in turns.before(db, "iris", None, 2)] == [numbers[4], numbers[3]]
    assert [turn.id for turn in turns.before(db, "iris", numbers[3], 9)] == numbers[2::-1]


def test_the_journal_keeps_what_the_turn_did(db: Db, write: Writer) -> None:
    _, turn = begun(write)
    write.told.clear()
    write(turns.end, "iris", turn, Ending(Outcome.DONE, tools={"send": 2, "Bash": 1}, notes_bytes=77))
    row = db.execute("SELECT tool_calls, tools, notes_bytes FROM turns WHERE id = ?", (turn,)).fetchone()
    assert tuple(row) == (3, '{"send":2,"Bash":1}', 77)
    (shown,) = turns.before(db, "iris", None, 10)
    (told,) = [entry.body.turn for entry in write.told if isinstance(entry.body, TurnChanged)]
    assert (shown.tool_calls, told.tool_calls) == (3, 3)


def test_a_turn_without_tools_keeps_none(db: Db, write: Writer) -> None:
    _, turn = begun(write)
    write(turns.end, "iris", turn, Ending(Outcome.DONE))
    row = db.execute("SELECT tool_calls, tools, notes_bytes FROM turns WHERE id = ?", (turn,)).fetchone()
    assert tuple(row) == (0, None, None)


def test_turns_that_begin_together_are_each_answered(write: Writer) -> None:
    iris, atlas, later = queued(write), queued(write, "atlas"), queued(write)
    asked = [
        Beginning("iris", iris, TOKEN),
        Beginning("atlas", atlas, TOKEN),
        Beginning("iris", later, OTHER),
        Beginning("iris", iris, TOKEN),
        Beginning("atlas", iris, TOKEN),
        Beginning("hm1nd", 128_000, TOKEN),
        Beginning("hm1nd", later, TOKEN),
    ]
    first, second, third, again, taken, unknown, foreign = write(turns.begin, asked)
    assert [first, second, again] == [1, 2, 1]
    assert "turn 1 of iris is open" in str(third)
    assert "turn 2 of atlas is open" in str(taken)
    assert "hm1nd has no delivery 128000" in str(unknown)
    assert "does not wait for hm1nd" in str(foreign)
    assert {turn.id: turn.delivery for turn in turns.read_open(write.db)} == {1: iris, 2: atlas}


def test_turns_that_end_together_are_each_answered(db: Db, write: Writer) -> None:
    _, first = begun(write)
    pulled = queued(write)
    write(pulls.pull, "iris", recv(first))
    crashed = queued(write, "atlas")
    second = begin(write, "atlas", crashed, TOKEN)
    over = begin(write, "hm1nd", queued(write, "hm1nd"), TOKEN)
    done = write(turns.end, "hm1nd", over, Ending(Outcome.DONE))
    write.kinds()
    answers = write(
        turns.end_together,
        [
            Ended("iris", first, Ending(Outcome.DONE)),
            Ended("atlas", second, Ending(Outcome.CRASHED)),
            Ended("iris", first, Ending(Outcome.CRASHED)),
            Ended("iris", second, Ending(Outcome.DONE)),
            Ended("hm1nd", over, Ending(Outcome.CRASHED)),
        ],
    )
    assert answers[:3] == [TurnClosed(2, 0, 0), TurnClosed(0, 1, 0), TurnClosed(2, 0, 0)]
    assert "iris has no turn" in str(answers[3])
    assert answers[4] == done
    told = [(entry.deliveries, entry.opened, entry.size) for entry in write.told]
    assert [([receipt.state for receipt in each], opened, size) for each, opened, size in told] == [
        (["done", "done"], -2, -10),
        (["queued"], 0, 0),
    ]
    assert write.kinds() == ["TurnChanged"] * 2
    assert deliveries.read(db, pulled).state is DeliveryState.DONE
    assert deliveries.read(db, crashed).state is DeliveryState.QUEUED
    assert [turns.before(db, name, None, 1)[0].outcome for name in ("iris", "atlas")] == ["done", "crashed"]


def test_a_turn_with_very_many_deliveries_tells_some_of_them_by_themselves(
    write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_DELIVERIES_TOLD_MAX", 2)
    first, turn = begun(write)
    pulled = {queued(write) for _ in range(3)}
    write(pulls.pull, "iris", recv(turn))
    write.told.clear()
    write(turns.end, "iris", turn, Ending(Outcome.DONE))
    assert [(len(entry.deliveries), entry.opened, entry.size) for entry in write.told] == [
        (1, -1, -5),
        (1, -1, -5),
        (2, -2, -10),
    ]
    assert {receipt.id for entry in write.told for receipt in entry.deliveries} == {first, *pulled}
    assert write.kinds() == ["DeliveryChanged"] * 2 + ["TurnChanged"]
