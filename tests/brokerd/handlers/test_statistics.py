"""Statistics and search at a running brokerd: what was done a moment ago counts."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from trio.testing import MockClock

from brokerd.live import behind as live
from protocol.agent import EndTurn
from protocol.brokerd import ListMessages, ReadStatistics, SearchMessages
from protocol.limits import STATISTICS_BUCKETS_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Call
from protocol.statistics import AgentStatistics, Statistics, Traffic
from protocol.turns import Outcome, Usage
from runtime.clock import now_ms
from tests.brokerd.hive import Hive
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def read(hive: Hive, agent: str | None = None, since_ms: int | None = None) -> Statistics:
    return await hive.operator.call(ReadStatistics(since_ms=since_ms, agent=agent))


async def of(hive: Hive, agent: str) -> AgentStatistics:
    return (await read(hive, agent)).agents[0]


async def test_a_turn_counts_when_it_ends(hive: Hive) -> None:
    await hive.attach("iris")
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    assert (await of(hive, "iris")).turns == 0
    await hive.agent("iris").call(
        EndTurn(
            turn,
            Outcome.DONE,
            usage=Usage(1, 2, 3, 4, 5),
            tools={"send": 2, "Bash": 1},
            notes_bytes=512,
        )
    )
    iris = await of(hive, "iris")
    assert (iris.turns, iris.tool_calls_per_turn, iris.outcomes) == (1, 3.0, {Outcome.DONE: 1})
    assert (iris.tools, iris.notes_bytes, iris.usage) == ({"send": 2, "Bash": 1}, 512, Usage(1, 2, 3, 4, 5))
    assert iris.duration_p50_ms == iris.duration_p95_ms
    assert iris.duration_p50_ms is not None
    assert iris.last_turn_ms is not None
    assert len(iris.series) <= STATISTICS_BUCKETS_MAX
    assert sum(bucket.turns for bucket in iris.series) == 1
    assert iris.series[-1].at_ms <= now_ms()


async def test_inboxes_and_messages_count_at_once(hive: Hive) -> None:
    await hive.send("operator", "iris")
    await hive.send("iris", "operator")
    await hive.send("iris", "*")
    await hive.attach("iris")
    _, turn = await hive.begun("iris")
    await hive.end("iris", turn)
    swarm = await read(hive)
    assert [each.agent for each in swarm.agents] == ["atlas", "hm1nd", "iris"]
    assert all(each.series == () for each in swarm.agents)
    iris = swarm.agents[2]
    assert (iris.inbox, iris.inbox_max) == (0, 1)
    assert iris.received == Traffic(operator=1)
    assert iris.sent == Traffic(operator=1, peer=1, manager=1)
    assert (swarm.messages, swarm.messages_kept, swarm.approvals_waiting) == (3, 3, 0)
    assert swarm.since_ms % swarm.bucket_ms == 0
    assert swarm.disk.messages_bytes > 0
    assert swarm.disk.free_bytes > 0


async def test_depths_are_noted_and_outlive_a_restart(unserved: Hive, clock: MockClock) -> None:
    async with unserved.broker():
        await unserved.send("operator", "iris")
        await unserved.send("operator", "iris")
        for _ in range(2):
            await unserved.attach("iris")
            _, turn = await unserved.begun("iris")
            await unserved.end("iris", turn)

        clock.jump(live.NOTE_S)

        async def noted() -> bool:
            with unserved.reader() as db:
                row = db.execute("SELECT max(inbox_max) AS most FROM traffic WHERE agent = 'iris'").fetchone()
            return bool(row["most"] == 2)

        await until(noted, what="the depth of iris's inbox")
    async with unserved.broker():
        iris = await of(unserved, "iris")
        assert (iris.inbox, iris.inbox_max) == (0, 2)


async def test_the_index_follows_and_nobody_sees_where_it_ends(hive: Hive, clock: MockClock) -> None:
    sent = [(await hive.send("operator", "iris", f"number {n} deployed")).message for n in range(5)]

    async def searched(text: str, **more: object) -> list[int]:
        page = await hive.operator.call(SearchMessages(text=text, **more))  # type: ignore[arg-type]  # as named
        return [message.id for message in page.messages]

    async def listed() -> list[int]:
        return [each.id for each in (await hive.operator.call(ListMessages(agent="iris"))).messages]

    before = [await searched("deploy"), await searched("3 depl", agent="iris"), await listed()]
    assert before == [sent[::-1], sent[3:4], sent[::-1]]

    clock.jump(live.LOOK_S)

    async def taken_in() -> bool:
        with hive.reader() as db:
            return bool(db.execute("SELECT head FROM behind").fetchone()["head"] == sent[-1])

    await until(taken_in, what="the index to follow")
    assert [await searched("deploy"), await searched("3 depl", agent="iris"), await listed()] == before
    assert (await of(hive, "iris")).received.operator == 5
    page = await hive.operator.call(SearchMessages(text="number", limit=2))
    assert [message.id for message in page.messages] == sent[:2:-1]
    assert page.messages[0].deliveries
    assert await searched("number", before=page.before, limit=2) == sent[2:0:-1]


async def test_a_lost_index_is_made_again(unserved: Hive) -> None:
    async with unserved.broker():
        sent = (await unserved.send("operator", "iris", "precious")).message
    for file in Path(unserved.settings.state).glob("events.sqlite*"):
        file.unlink()
    async with unserved.broker():

        async def found() -> bool:
            with unserved.reader() as db:
                return bool(db.execute("SELECT count(*) FROM history").fetchone()[0] == 1)

        await until(found, what="the index to be made again")
        page = await unserved.operator.call(SearchMessages(text="prec"))
        assert [message.id for message in page.messages] == [sent]


@pytest.mark.parametrize(
    ("request_", "problem", "words"),
    [
        (SearchMessages(text="!?"), Problem.MALFORMED, "no word"),
        (ReadStatistics(since_ms=2**53 - 1), Problem.MALFORMED, "lies ahead"),
        (ReadStatistics(agent="nobody"), Problem.NOT_FOUND, "nobody"),
    ],
)
async def test_what_cannot_be_answered_is_refused(
    hive: Hive, request_: Call[object], problem: Problem, words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        await hive.operator.call(request_)
    assert refused.value.problem is problem


async def test_an_older_copy_of_the_messages_gets_an_index_of_its_own(
    unserved: Hive, clock: MockClock
) -> None:
    """The next messages get numbers under which the index knows others."""
    async with unserved.broker():
        for n in range(3):
            await unserved.send("operator", "iris", f"lost {n}")
        clock.jump(live.LOOK_S)

        async def taken_in() -> bool:
            with unserved.reader() as db:
                return bool(db.execute("SELECT head FROM behind").fetchone()["head"] == 3)

        await until(taken_in, what="the index to follow")
    with closing(sqlite3.connect(unserved.settings.database)) as db:
        db.executescript(
            "DELETE FROM messages; DELETE FROM deliveries; UPDATE sqlite_sequence SET seq = 0 WHERE name = 'messages';"
        )
    async with unserved.broker():
        sent = [(await unserved.send("operator", "iris", "other")).message for _ in range(4)]
        clock.jump(live.LOOK_S)

        async def made_anew() -> bool:
            with unserved.reader() as db:
                return bool(db.execute("SELECT count(*) FROM words_docsize").fetchone()[0] == len(sent))

        await until(made_anew, what="the index to be made anew")
        page = await unserved.operator.call(SearchMessages(text="other"))
        assert [message.id for message in page.messages] == sent[::-1] == [4, 3, 2, 1]
        assert (await unserved.operator.call(SearchMessages(text="lost"))).messages == ()
        assert (await of(unserved, "iris")).received.operator == 4
