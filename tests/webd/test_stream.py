"""Live streams over real connections: begun, resumed, broken off, and kept true while daemons come and go."""

import random
import shutil
from functools import partial
from pathlib import Path

import pytest
import trio

from brokerd.policy.guards import Guards
from protocol.brokerd import ListMessages
from protocol.messages import DeliveryState
from tests.support.waiting import until
from tests.webd.support.browser import Browser, Frames
from tests.webd.support.hive import WebHive, web_hive
from tests.webd.support.page import Page
from webd.live import flow, journals
from webd.sessions import STREAMS_PER_SESSION_MAX

pytestmark = pytest.mark.anyio


async def follow(page: Page, frames: Frames) -> None:
    async for frame in frames:
        page.take(frame)


async def test_it_begins_with_a_snapshot_and_goes_on_with_what_happens(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream() as frames:
        assert frames.status == 200
        assert frames.headers["content-type"] == "text/event-stream"
        first = await frames.next()
        assert (first.event, first.data["why"]) == ("snapshot", "new")
        assert first.data["topics"].keys() == {"hive", "agents", "flow", "unread"}
        number = await hive.send("iris", "hello")
        told = await frames.next("flow")
        assert (told.data["d"]["id"], told.data["d"]["body"]) == (number, "hello")
        await iris.turn()
        states = []
        while "done" not in states:
            states.append((await frames.next("flow")).data["d"]["deliveries"][0]["state"])
    assert [state for state in states if state != "leased"] == ["in_turn", "done"]  # told when it lasts


async def test_it_goes_on_from_a_cursor_without_a_snapshot(hive: WebHive) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    async with browser.stream() as frames:
        cursor = (await frames.next("snapshot")).id
    numbers = [await hive.send("iris", str(n)) for n in range(3)]
    async with browser.stream(cursor=cursor) as frames:
        told = [(await frames.next("flow")).data["d"]["id"] for _ in numbers]
    assert told == numbers
    state = (await browser.get("/api/state")).json
    async with browser.stream(cursor=cursor, last_event_id=state["cursor"]) as frames:
        later = await hive.send("iris", "later")
        assert (await frames.next()).data["d"]["id"] == later


async def test_a_cursor_of_another_run_gets_a_snapshot_that_says_so(hive: WebHive) -> None:
    browser = await hive.browser()
    async with browser.stream() as frames:
        cursor = (await frames.next("snapshot")).id
        await hive.stop("webd")
        assert (await frames.next("bye")).data == {"reason": "restart"}
    await hive.start("webd")
    async with browser.stream(cursor=cursor) as frames:
        first = await frames.next()
        assert (first.event, first.data["why"]) == ("snapshot", "gap")
        assert first.id.partition("-")[0] != cursor.partition("-")[0]


async def test_topics_that_are_none_are_refused(hive: WebHive) -> None:
    browser = await hive.browser()
    refused = (("calls", 400), ("tail:", 400), ("hive,tail:nobody", 404), ("journal:nobody", 404))
    for topics, status in refused:
        answer = await browser.get(f"/api/v1/stream?topics={topics}")
        assert answer.status == status, topics


async def test_streams_of_one_session_are_bounded(hive: WebHive) -> None:
    browser, other = await hive.browser(), await hive.browser()
    async with trio.open_nursery() as nursery:
        opened: list[Frames] = []

        async def hold() -> None:
            async with browser.stream("hive") as frames:
                await frames.next("snapshot")
                opened.append(frames)
                await trio.sleep_forever()

        for _ in range(STREAMS_PER_SESSION_MAX):
            nursery.start_soon(hold)
        await until(lambda: len(opened) == STREAMS_PER_SESSION_MAX, what="every stream")
        refused = await browser.get("/api/v1/stream")
        assert (refused.status, refused.json["problem"]) == (429, "limit")
        async with other.stream("hive") as frames:
            assert frames.status == 200
        nursery.cancel_scope.cancel()

    async def free() -> bool:
        async with browser.stream("hive") as frames:
            return frames.status == 200

    await until(free, what="a place, once the others left")


async def test_a_tail_follows_its_agent_alone(hive: WebHive) -> None:
    iris, atlas = await hive.agent("iris"), await hive.agent("atlas")
    browser, page = await hive.browser(), Page()
    async with browser.stream("tail:iris") as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        await hive.send("iris")
        await hive.send("atlas")
        turn = await iris.turn("one", "two", "three")
        await atlas.turn("other")
        await until(lambda: page.turns.get(turn, {}).get("outcome") == "done", what="the end of the turn")
        nursery.cancel_scope.cancel()
    assert page.texts(turn) == ["one", "two", "three"]
    assert list(page.turns) == [turn]
    assert page.doubles == []


async def test_a_journal_is_followed_line_by_line_by_many(hive: WebHive) -> None:
    await hive.agent("iris")
    journal = hive.journal("iris")
    journal.write_text("".join(f"old {n}\n" for n in range(400)))
    browser, pages = await hive.browser(), [Page(), Page()]
    async with trio.open_nursery() as nursery:

        async def look(page: Page) -> None:
            async with browser.stream("journal:iris") as frames:
                await follow(page, frames)

        for page in pages:
            nursery.start_soon(look, page)
        for page in pages:
            await until(partial(shows, page, "old 399"), what="the newest old line")
        with journal.open("a") as opened:
            opened.write("".join(f"new {n}\n" for n in range(50)))
        for page in pages:
            await until(partial(shows, page, "new 49"), what="the last line")
        nursery.cancel_scope.cancel()
    for page in pages:
        assert texts(page)[-60:] == [f"old {n}" for n in range(390, 400)] + [f"new {n}" for n in range(50)]
        assert page.doubles == []


def shows(page: Page, text: str) -> bool:
    return text in texts(page)


def texts(page: Page) -> list[str]:
    return [page.lines[offset]["text"] for offset in sorted(page.lines)]


async def test_while_brokerd_is_away_webd_says_so_and_nothing_is_lost_or_doubled(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    browser, page = await hive.browser(), Page()
    async with browser.stream("hive,agents,flow,tail:iris") as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        first = await hive.send("iris", "before")
        turn = await iris.turn("one")
        await until(lambda: page.states().get(first) == ["done"], what="the first turn")
        await hive.stop("brokerd")
        await until(lambda: page.hive["daemons"]["brokerd"] == "down", what="the word that it is away")
        assert (await browser.get("/")).status == 200
        assert (await browser.get("/agent/iris/")).status == 200
        refused = await browser.post("/api/v1/send", {"to": "iris", "body": "x", "key": "B" * 22})
        assert (refused.status, refused.json["problem"]) == (503, "stopping")
        await hive.start("brokerd")
        await until(lambda: page.hive["daemons"]["brokerd"] == "up", what="its return")
        iris = await hive.harness("iris")
        second = await hive.send("iris", "after")
        later = await iris.turn("two", "three")
        await until(lambda: page.states().get(second) == ["done"], what="the second turn")
        nursery.cancel_scope.cancel()
    assert page.snapshots == ["new"]
    assert page.texts(turn) == ["one"]
    assert page.texts(later) == ["two", "three"]
    assert page.doubles == []


async def test_while_privd_is_away_agents_stay_in_sight(hive: WebHive) -> None:
    await hive.agent("iris")
    browser, page = await hive.browser(), Page()
    async with browser.stream() as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        await until(lambda: page.agents.get("iris", {}).get("state") == "idle", what="an idle agent")
        await hive.stop("privd")
        await until(lambda: page.hive["daemons"]["privd"] == "down", what="the word that it is away")
        assert page.agents["iris"]["name"] == "iris"
        await hive.start("privd")
        await until(lambda: page.hive["daemons"]["privd"] == "up", what="its return")
        nursery.cancel_scope.cancel()
    assert page.snapshots == ["new"]


async def test_a_webd_that_starts_first_takes_everything_up_when_the_others_come(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    number = await hive.send("iris", "hello")
    await iris.turn("one")
    await hive.stop("webd", "brokerd", "privd")
    await hive.start("webd")
    browser, page = await hive.browser(), Page()
    async with browser.stream() as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        await until(lambda: bool(page.snapshots), what="a snapshot")
        assert page.flow == {}
        await hive.start("privd", "brokerd")
        await until(lambda: page.states().get(number) == ["done"], what="the message")
        await until(lambda: "iris" in page.agents, what="the agent")
        nursery.cancel_scope.cancel()
    assert page.snapshots[:2] == ["new", "gap"]


async def test_a_feed_that_began_anew_is_taken_up_by_a_snapshot(hive: WebHive, short_folder: Path) -> None:
    iris = await hive.agent("iris")
    await hive.send("iris", "of the old feed")
    await iris.turn("one")
    browser, page = await hive.browser(), Page()
    async with browser.stream("hive,agents,flow,tail:iris") as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        await until(lambda: len(page.turns) == 1, what="the old turn")
        await hive.stop("brokerd")
        shutil.rmtree(short_folder / "broker")
        await hive.start("brokerd")
        await until(lambda: "gap" in page.snapshots, what="a new beginning")
        iris = await hive.harness("iris")
        number = await hive.send("iris", "of the new feed")
        await until(
            lambda: page.flow.get(number, {}).get("body") == "of the new feed", what="the new message"
        )
        nursery.cancel_scope.cancel()
    state = (await browser.get("/api/state?topics=flow,tail:iris")).json["snapshot"]["topics"]
    assert [message["body"] for message in state["flow"]] == ["of the new feed"]
    assert state["tail:iris"]["turns"] == []


async def test_a_tail_opened_while_brokerd_is_away_comes_when_it_is_back(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    await hive.send("iris")
    turn = await iris.turn("one", "two")
    browser, page = await hive.browser(), Page()
    await hive.stop("brokerd")
    async with browser.stream("tail:iris") as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        await until(lambda: page.snapshots == ["new"], what="a snapshot")
        assert page.turns == {}
        await hive.start("brokerd")
        await until(lambda: turn in page.turns, what="the tail")
        nursery.cancel_scope.cancel()
    assert page.snapshots[1] == "gap"
    assert page.texts(turn) == ["one", "two"]


async def test_a_journal_opened_while_privd_is_away_comes_when_it_is_back(hive: WebHive) -> None:
    await hive.agent("iris")
    hive.journal("iris").write_text("one\ntwo\nthree\n")
    browser, page = await hive.browser(), Page()
    await hive.stop("privd")
    async with browser.stream("journal:iris") as frames, trio.open_nursery() as nursery:
        nursery.start_soon(follow, page, frames)
        await hive.start("privd")
        await until(partial(shows, page, "three"), what="the lines")
        await hive.stop("privd")
        await hive.start("privd")
        with hive.journal("iris").open("a") as journal:
            journal.write("four\n")
        await until(partial(shows, page, "four"), what="the line after privd came back")
        nursery.cancel_scope.cancel()
    assert texts(page) == ["one", "two", "three", "four"]
    assert page.doubles == []


async def test_a_journal_that_nobody_looks_at_is_let_go(
    hive: WebHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "LINGER_S", 0.05)
    await hive.agent("iris")
    hive.journal("iris").write_text("one\n")
    browser = await hive.browser()
    for line in ("one", "two"):  # opened again after it was let go
        page = Page()
        async with browser.stream("journal:iris") as frames, trio.open_nursery() as nursery:
            nursery.start_soon(follow, page, frames)
            await until(partial(shows, page, line), what=line)
            nursery.cancel_scope.cancel()

        async def is_let_go() -> bool:
            tasks = {task.name for task in all_tasks()}
            return "journal of iris" not in tasks

        await until(is_let_go, what="the end of the watch")
        with hive.journal("iris").open("a") as journal:
            journal.write("two\n")


def all_tasks() -> list[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    found = [root] if root else []
    for task in found:
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def test_a_change_to_a_message_long_gone_from_memory_is_told_whole(
    hive: WebHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "KEPT_MAX", flow.WINDOW_MESSAGES)
    iris = await hive.agent("iris")
    first = await hive.send("iris", "the first")
    browser = await hive.browser()
    for number in range(flow.WINDOW_MESSAGES + 5):
        await hive.send("iris", str(number))
    async with browser.stream("flow") as frames:
        await frames.next("snapshot")
        await iris.begin()
        told = await frames.next("flow")
    assert (told.data["d"]["id"], told.data["d"]["body"]) == (first, "the first")


@pytest.mark.parametrize("seed", range(3))
async def test_killed_connections_lose_and_double_nothing(hive: WebHive, seed: int) -> None:
    """Traffic all the while; the page's connection dies again and again and goes on from its cursor."""
    chance = random.Random(seed)
    iris = await hive.agent("iris")
    browser, page = await hive.browser(), Page()
    turns: dict[int, list[str]] = {}
    quiet = trio.Event()

    async def work() -> None:
        for number in range(40):
            await trio.sleep(chance.uniform(0, 0.05))  # the pace of the traffic; nothing is waited for
            await hive.send("iris", f"message {number}")
            said = [f"{number}.{place}" for place in range(chance.randrange(1, 12))]
            turns[await iris.turn(*said)] = said
        quiet.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        connections = 0
        while not quiet.is_set():
            await look_for_a_while(browser, page, chance.uniform(0.0, 0.15))
            connections += 1
        assert connections > 5
        nursery.start_soon(look_for_a_while, browser, page, 20)
        last = max(turns)
        await until(lambda: page.turns.get(last, {}).get("outcome") == "done", what="the last turn")
        await until(lambda: set(map(tuple, page.states().values())) == {("done",)}, what="every state")
        nursery.cancel_scope.cancel()
    assert set(page.snapshots[1:]) <= {"new"}, "only a connection that had no cursor yet begins anew"
    assert page.doubles == []
    assert {turn: page.texts(turn) for turn in turns} == turns
    known = await hive.operator("brokerd").call(ListMessages())
    assert sorted(page.flow) == sorted(message.id for message in known.messages)
    assert {receipt.state for message in known.messages for receipt in message.deliveries} == {
        DeliveryState.DONE
    }


async def look_for_a_while(browser: Browser, page: Page, seconds: float) -> None:
    """One connection of a page, broken off after so long, wherever it stands."""
    with trio.move_on_after(seconds):
        async with browser.stream("hive,agents,flow,tail:iris", cursor=page.cursor) as frames:
            await follow(page, frames)


async def test_a_reader_that_falls_far_behind_gets_a_snapshot_instead(short_folder: Path) -> None:
    async with web_hive(short_folder, guards=Guards(turn_event_bytes_max=64 * 1024 * 1024)) as hive:
        iris = await hive.agent("iris")
        browser, page = await hive.browser(), Page()
        async with browser.stream("flow,tail:iris") as frames:
            page.take(await frames.next("snapshot"))
            await hive.send("iris")
            turn = await iris.begin()
            for _ in range(80):
                await iris.says(turn, *["x" * 6_000] * 50)  # far more than the kernel holds for us
            await iris.end(turn)
            await until(lambda: has_heard_of_a_turn(browser), what="the end of the turn, in webd")
            with trio.fail_after(30):
                async for frame in frames:
                    page.take(frame)
                    if page.turns.get(turn, {}).get("outcome"):
                        break
    assert page.snapshots == ["new", "slow"]
    assert len(page.events) >= 2_000


async def has_heard_of_a_turn(browser: Browser) -> bool:
    """Whether webd itself has taken in the feed up to the end of iris's first turn."""
    iris = (await browser.get("/api/state?topics=agents")).json["snapshot"]["topics"]["agents"]["iris"]
    return iris["last_turn_ms"] is not None and iris["turn"] is None
