"""What operators do: it reaches its daemon once, and is answered with a place that the stream passes, or refused."""

from collections.abc import Iterator

import pytest
import trio

from protocol.agent import CancelTurn
from protocol.approvals import Deployment
from protocol.brokerd import ListMessages
from protocol.configuration import ListDeployments
from protocol.privd import ListCages, Power
from tests.support.waiting import until
from tests.webd.support.browser import Answered, Browser
from tests.webd.support.hive import WebHive

pytestmark = pytest.mark.anyio


@pytest.fixture
def keys() -> Iterator[str]:
    return (f"{number:022d}" for number in range(1_000))


async def power_of(hive: WebHive, name: str) -> Power | None:
    cages = await hive.operator("privd").call(ListCages())
    return next((cage.power for cage in cages if cage.agent == name), None)


async def deployed(hive: WebHive, name: str, number: int) -> Deployment:
    """The end of a deployment."""
    privd = hive.operator("privd")

    async def has_ended() -> Deployment | None:
        rows = await privd.call(ListDeployments(agent=name))
        return next((row for row in rows if row.number == number and row.ended_ms is not None), None)

    return await until(has_ended, what=f"the end of deployment {number} of {name}")


def place(cursor: str) -> int:
    return int(cursor.partition("-")[2])


async def acted(browser: Browser, path: str, **said: object) -> Answered:
    answer = await browser.post(f"/api/v1/{path}", said)
    assert answer.status == 200, answer
    assert answer.json["ok"] is True
    return answer


async def test_a_message_is_sent_and_its_place_is_that_of_its_row(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream("flow") as frames:
        await frames.next("snapshot")
        answer = await acted(browser, "send", to="iris", body="hello", key=next(keys))
        told = await frames.next("flow")
    assert told.data["d"]["id"] == answer.json["id"]
    assert place(answer.json["seq"]) >= place(told.id)
    [message] = (await hive.operator("brokerd").call(ListMessages())).messages
    assert (message.sender, message.to, message.body) == ("operator", "iris", "hello")


async def test_the_same_key_sends_once_and_gets_the_same_answer(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser, key = await hive.browser(), next(keys)
    answers: list[Answered] = []

    async def send() -> None:
        answers.append(await acted(browser, "send", to="iris", body="hello", key=key))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(send)
    await hive.stop("webd")
    await hive.start("webd")  # brokerd knows the key still
    await send()
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len((await hive.operator("brokerd").call(ListMessages())).messages) == 1
    other = await acted(browser, "send", to="iris", body="hello", key=next(keys))
    assert other.json["id"] != answers[0].json["id"]


async def test_a_key_is_for_one_thing(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser, key = await hive.browser(), next(keys)
    await acted(browser, "agents/iris/stop", key=key)
    answer = await browser.post("/api/v1/agents/iris/start", {"key": key})
    assert (answer.status, answer.json["problem"]) == (409, "conflict")
    assert "stop iris" in answer.json["detail"]


async def test_an_agent_is_made_started_stopped_restarted_destroyed_and_purged(
    hive: WebHive, keys: Iterator[str]
) -> None:
    browser = await hive.browser()
    async with browser.stream("agents") as frames:
        await frames.next("snapshot")
        await acted(browser, "agents", name="iris", runner="demo", key=next(keys))
        row = (await frames.next("agents")).data
        assert (row["k"], row["d"]["runner"]) == ("iris", "demo")
    await hive.is_well(await hive.harness("iris"))
    await deployed(hive, "iris", 1)
    assert await power_of(hive, "iris") is Power.RUNNING
    await acted(browser, "agents/iris/stop", key=next(keys))
    assert await power_of(hive, "iris") is Power.STOPPED
    await acted(browser, "agents/iris/start", key=next(keys))
    assert await power_of(hive, "iris") is Power.RUNNING
    await acted(browser, "agents/iris/restart", key=next(keys))
    assert await power_of(hive, "iris") is Power.RUNNING
    refused = await browser.post("/api/v1/agents/iris/purge", {"key": next(keys), "confirm": "iris"})
    assert (refused.status, refused.json["problem"]) == (409, "conflict")
    async with browser.stream("agents") as frames:
        assert "iris" in (await frames.next("snapshot")).data["topics"]["agents"]
        answer = await acted(browser, "agents/iris/destroy", key=next(keys))
        while (told := await frames.next("agents")).data["d"] is not None:
            continue
        assert place(answer.json["seq"]) >= place(told.id)
    assert await power_of(hive, "iris") is Power.KEPT
    wrong = await browser.post("/api/v1/agents/iris/purge", {"key": next(keys), "confirm": "atlas"})
    assert wrong.status in (400, 403, 409)
    await acted(browser, "agents/iris/purge", key=next(keys), confirm="iris")
    assert await power_of(hive, "iris") is None


async def test_refusals_carry_their_problem_and_their_reason(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    refused: tuple[tuple[str, dict[str, object], int, str, str], ...] = (
        ("agents", {"name": "Iris"}, 400, "malformed", "lowercase letters"),
        ("agents", {"name": "webd"}, 400, "malformed", "reserved"),
        ("agents", {"name": "iris"}, 409, "conflict", "iris"),
        ("agents/nobody/start", {}, 404, "not_found", "nobody"),
        ("agents/iris/cancel-turn", {}, 409, "conflict", "iris"),
        ("send", {"to": "nobody", "body": "x"}, 404, "not_found", "nobody"),
    )
    for path, said, status, problem, word in refused:
        answer = await browser.post(f"/api/v1/{path}", {"key": next(keys), **said})
        assert (answer.status, answer.json["problem"]) == (status, problem), (path, answer)
        assert word in answer.json["detail"], path


async def test_a_message_to_the_operator_is_read(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    number = await iris.send("operator", "look at this")
    browser = await hive.browser()
    unread = (await browser.get("/api/state")).json["snapshot"]["topics"]["unread"]
    assert [message["id"] for message in unread] == [number]
    async with browser.stream("flow") as frames:
        await frames.next("snapshot")
        answer = await acted(browser, f"messages/{number}/read", key=next(keys))
        told = await frames.next("flow")
    assert told.data["d"]["deliveries"][0]["state"] == "done"
    assert place(answer.json["seq"]) >= place(told.id)
    assert (await browser.get("/api/state")).json["snapshot"]["topics"]["unread"] == []


async def test_many_messages_are_read_at_once(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    numbers = [await iris.send("operator", str(n)) for n in range(5)]
    browser = await hive.browser()
    await acted(browser, "messages/read", messages=numbers, key=next(keys))
    assert (await browser.get("/api/state")).json["snapshot"]["topics"]["unread"] == []
    for messages in ([], [0], ["1"], list(range(1, 102))):
        answer = await browser.post("/api/v1/messages/read", {"messages": messages, "key": next(keys)})
        assert (answer.status, answer.json["problem"]) == (400, "malformed"), messages


async def test_a_running_turn_is_cancelled(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    await hive.send("iris")
    async with iris.commands() as commands:
        turn = await iris.begin()
        await acted(browser, "agents/iris/cancel-turn", key=next(keys))
        with trio.fail_after(60):
            while not isinstance(command := await anext(commands), CancelTurn):
                continue  # its health may have been asked for once more
        assert command == CancelTurn(turn)


async def test_older_rows_page_by_page(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    numbers = [await hive.send("iris", str(n)) for n in range(5)]
    turns = [await iris.turn("a", "b") for _ in numbers]
    browser = await hive.browser()
    newest = (await browser.get("/api/v1/log/flow?limit=2")).json
    assert ([message["id"] for message in newest["messages"]], newest["more"]) == (numbers[3:], True)
    older = (await browser.get(f"/api/v1/log/flow?limit=3&before={numbers[3]}")).json
    assert ([message["id"] for message in older["messages"]], older["more"]) == (numbers[:3], False)
    reply = await hive.send("iris", "again", in_reply_to=numbers[0])
    thread = (await browser.get(f"/api/v1/log/flow?thread={numbers[0]}")).json
    assert [message["id"] for message in thread["messages"]] == [numbers[0], reply]
    tail = (await browser.get("/api/v1/log/tail:iris?limit=5")).json
    assert ([turn["id"] for turn in tail["turns"]], tail["more"]) == (turns[3:], True)
    assert [(event["turn"], event["n"]) for event in tail["events"]] == [
        (turn, n) for turn in turns[3:] for n in (1, 2)
    ]
    last = (await browser.get(f"/api/v1/log/tail:iris?before={turns[3]}&limit=200")).json
    assert ([turn["id"] for turn in last["turns"]], last["more"]) == (turns[:3], False)


async def test_older_journal_lines(hive: WebHive) -> None:
    await hive.agent("iris")
    hive.journal("iris").write_text("".join(f"line {n:04d}\n" for n in range(1_000)))
    browser = await hive.browser()
    newest = (await browser.get("/api/v1/log/journal:iris?limit=10")).json
    assert [line["text"] for line in newest["lines"]] == [f"line {n:04d}" for n in range(990, 1_000)]
    assert newest["more"]
    first = newest["lines"][0]["offset"]
    older = (await browser.get(f"/api/v1/log/journal:iris?limit=10&before={first}")).json
    assert [line["text"] for line in older["lines"]] == [f"line {n:04d}" for n in range(980, 990)]
    begin = (await browser.get("/api/v1/log/journal:iris?before=20")).json
    assert [line["text"] for line in begin["lines"]] == ["line 0000", "line 0001"]
    assert not begin["more"]


async def test_pages_are_asked_for_with_numbers(hive: WebHive) -> None:
    browser = await hive.browser()
    for query in ("limit=0", "limit=201", "limit=x", "before=-1", "before=0", "thread=0"):
        answer = await browser.get(f"/api/v1/log/flow?{query}")
        assert (answer.status, answer.json["problem"]) == (400, "malformed"), query
