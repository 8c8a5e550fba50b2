"""Questions, parked threads, pauses and dead deliveries, through webd: told live, done once, shown when answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from brokerd.policy.guards import Guards
from protocol.brokerd import ListQuestions
from protocol.limits import ATTEMPTS_MAX
from protocol.tools import Answer, Ask
from protocol.turns import Outcome
from runtime.clock import new_key
from runtime.store import StoreShape, connect
from tests.support.waiting import until
from tests.webd.support.hive import Harness, WebHive, web_hive
from tests.webd.test_actions import acted, place

pytestmark = pytest.mark.anyio


@pytest.fixture
def keys() -> Iterator[str]:
    return (f"{number:022d}" for number in range(1_000))


async def ask(asker: Harness, question: str, **more: object) -> int:
    request = Ask(question=question, key=new_key(), **more)  # type: ignore[arg-type]  # what a test varies
    return (await asker.client.call(request)).id


async def test_a_question_is_told_answered_and_gone_to_its_asker(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream("questions") as frames:
        assert (await frames.next("snapshot")).data["topics"] == {"questions": {}}
        number = await ask(iris, "which?\x1b[31m", options=("this\u202e one", "that"), multi=True)
        told = (await frames.next("questions")).data
        assert (told["k"], told["d"]["state"]) == (str(number), "open")
        assert (told["d"]["text"], told["d"]["options"]) == ("which?", ["this one", "that"])
        said = {"answer": "both", "choices": ["this one", "that"], "key": next(keys)}
        answer = await acted(browser, f"questions/{number}/answer", **said)
        ended = await frames.next("questions")
    assert place(answer.json["seq"]) >= place(ended.id)
    assert (ended.data["d"]["state"], ended.data["d"]["answered_by"]) == ("answered", "operator")
    delivery = await iris.take()
    assert (delivery.message.event, delivery.message.about) == ("answered", number)
    [question] = (await hive.operator("brokerd").call(ListQuestions(open=False))).questions
    assert question.choices == ("this\u202e one", "that")
    await acted(browser, f"questions/{number}/answer", **said)  # the same intent: nothing is done twice
    later = {**said, "answer": "no", "key": next(keys)}
    other = await browser.post(f"/api/v1/questions/{number}/answer", later)
    assert (other.status, other.json["problem"]) == (409, "conflict")


async def test_the_state_has_the_questions_of_everybody(hive: WebHive) -> None:
    iris, atlas = await hive.agent("iris"), await hive.agent("atlas")
    browser = await hive.browser()
    first, second = await ask(iris, "one?", ttl_s=3_600), await ask(iris, "two?", to="atlas")
    async with browser.stream("questions") as frames:
        shown = (await frames.next("snapshot")).data["topics"]["questions"]
        assert [shown[str(number)]["asked_of"] for number in (first, second)] == ["operator", "atlas"]
        assert shown[str(first)]["deadline_ms"] == shown[str(first)]["asked_ms"] + 3_600_000
        await atlas.client.call(Answer(question=second, answer="no"))
        assert (await frames.next("questions")).data["d"]["answered_by"] == "atlas"
    rows = (await browser.get("/api/state")).json["questions"]
    assert {row["id"]: row["state"] for row in rows} == {first: "open", second: "answered"}
    assert "questions" not in (await browser.get("/api/state?topics=hive")).json
    page = (await browser.get("/api/v1/questions?limit=1")).json
    assert [row["id"] for row in page["questions"]] == [second]
    older = (await browser.get(f"/api/v1/questions?before={page['before']}")).json
    assert ([row["id"] for row in older["questions"]], older["broken"]) == ([first], [])


async def test_a_broken_row_is_shown_as_broken_and_hides_no_other(hive: WebHive, short_folder: Path) -> None:
    iris = await hive.agent("iris")
    whole, broken = await ask(iris, "whole?"), await ask(iris, "broken?", options=("a", "b"))
    await hive.stop("webd", "brokerd")
    files = [path for path in (short_folder / "broker").iterdir() if path.suffix == ".sqlite"]
    changed = 0
    for path in files:
        db = connect(StoreShape(path))
        if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'questions'").fetchone():
            changed += db.execute("UPDATE questions SET form = x'7b' WHERE id = ?", (broken,)).rowcount
        db.close()
    assert changed == 1
    await hive.start("brokerd", "webd")
    browser = await hive.browser()

    async def rows() -> dict[int, dict[str, object]]:
        return {row["id"]: row for row in (await browser.get("/api/state")).json["questions"]}

    async def both() -> bool:
        return len(await rows()) == 2

    await until(both, what="both questions")
    found = await rows()
    assert found[whole]["state"] == "open"
    assert found[broken].keys() == {"id", "fault"}
    page = (await browser.get("/api/v1/questions")).json
    assert ([row["id"] for row in page["questions"]], [row["id"] for row in page["broken"]]) == (
        [whole],
        [broken],
    )


async def test_a_model_is_chosen_for_the_turns_that_follow_and_given_up(
    hive: WebHive, keys: Iterator[str]
) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream("agents") as frames:
        before = (await frames.next("snapshot")).data["topics"]["agents"]["iris"]["model"]
        for said, shown in (({"model": "opus"}, "opus"), ({}, before)):
            answer = await acted(browser, "agents/iris/model", key=next(keys), **said)
            told = await frames.next("agents")
            assert (told.data["k"], told.data["d"]["model"]) == ("iris", shown)
            assert place(answer.json["seq"]) >= place(told.id)
    wrong = await browser.post("/api/v1/agents/iris/model", {"key": next(keys), "model": "two words"})
    assert (wrong.status, wrong.json["problem"]) == (400, "malformed")
    nobody = await browser.post("/api/v1/agents/nobody/model", {"key": next(keys), "model": "opus"})
    assert nobody.status == 404


async def test_a_paused_agent_begins_no_turn_until_it_is_resumed(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream("agents") as frames:
        await frames.next("snapshot")
        answer = await acted(browser, "agents/iris/pause", key=next(keys))
        told = await frames.next("agents")
        assert told.data["d"]["paused"] is True
        assert place(answer.json["seq"]) >= place(told.id)
        await hive.send("iris", "later")
        while (told := await frames.next("agents")).data["d"]["inbox"] != 1:
            continue
        taken = trio.Event()

        async def take() -> None:
            await iris.take()
            taken.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not taken.is_set()
            await acted(browser, "agents/iris/resume", key=next(keys))
            with trio.fail_after(60):
                await taken.wait()


async def test_a_dead_delivery_is_queued_again(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    number = await hive.send("iris", "hard")
    for _ in range(ATTEMPTS_MAX):
        turn = await iris.begin()
        await iris.end(turn, Outcome.TIMEOUT)

    async def waiting() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await browser.get("/api/state")).json["snapshot"]["topics"]["unread"]
        return rows

    async def is_dead() -> bool:
        return await waiting() != []

    await until(is_dead, what="the dead delivery")
    [unread] = await waiting()
    [delivery] = unread["deliveries"]
    assert (unread["id"], delivery["state"]) == (number, "dead")
    await acted(browser, f"deliveries/{delivery['id']}/retry", key=next(keys))
    assert await waiting() == []
    assert (await iris.take()).message.id == number
    again = await browser.post(f"/api/v1/deliveries/{delivery['id']}/retry", {"key": next(keys)})
    assert (again.status, again.json["problem"]) == (409, "conflict")


@pytest.mark.parametrize("how", ["release", "close"])
async def test_a_thread_that_went_on_too_long_waits_for_the_operator(
    short_folder: Path, keys: Iterator[str], how: str
) -> None:
    async with web_hive(short_folder, guards=Guards(hops_max=2)) as hive:
        iris, atlas = await hive.agent("iris"), await hive.agent("atlas")
        browser = await hive.browser()
        async with browser.stream("parked,flow") as frames:
            await frames.next("snapshot")
            await hive.send("iris", "begin")
            sent = []
            for one, other in ((iris, "atlas"), (atlas, "iris"), (iris, "atlas")):
                turn = await one.begin()
                sent.append(await one.send(other, "and you?"))
                await one.end(turn)
            held = sent[-1]
            told = (await frames.next("parked")).data
            assert (told["d"]["thread"], told["d"]["held"]) == (int(told["k"]), 1)
            assert set(told["d"]["agents"]) == {"iris", "atlas"}
            shown = (await browser.get("/api/state?topics=flow,parked")).json["snapshot"]["topics"]
            states = {row["id"]: row["deliveries"][0]["state"] for row in shown["flow"]}
            assert (states[held], list(shown["parked"])) == ("held", [told["k"]])
            await acted(browser, f"threads/{told['k']}/{how}", key=next(keys))
            assert (await frames.next("parked")).data == {"k": told["k"], "d": None}
        after = (await browser.get("/api/v1/log/flow")).json["messages"]
        states = {row["id"]: row["deliveries"][0]["state"] for row in after}
        if how == "release":
            assert (await atlas.take()).message.id == held
        else:
            assert states[held] == "dead"
        nothing = await browser.post("/api/v1/threads/999999/release", {"key": next(keys)})
        assert (nothing.status, nothing.json["problem"]) == (404, "not_found")
