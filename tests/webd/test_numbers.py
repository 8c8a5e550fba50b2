"""Numbers and search, through webd."""

import pytest

from tests.support.waiting import until
from tests.webd.support.hive import WebHive

pytestmark = pytest.mark.anyio


async def test_the_numbers_of_everybody_and_of_one(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    await hive.agent("atlas")
    browser = await hive.browser()
    await hive.send("iris")
    await iris.turn("done")
    whole = (await browser.get("/api/stats")).json
    assert {row["agent"]: row["turns"] for row in whole["agents"]} == {"atlas": 0, "iris": 1}
    assert whole["disk"]["messages_bytes"] > 0
    assert whole["disk"]["free_bytes"] > 0
    own = (await browser.get("/api/stats?agent=iris&since=1h")).json
    [row] = own["agents"]
    assert (row["agent"], sum(bucket["turns"] for bucket in row["series"])) == ("iris", 1)
    assert row["outcomes"] == {"done": 1}
    since = (await browser.get(f"/api/stats?since={own['at_ms'] - 60_000}")).json
    assert since["since_ms"] >= own["at_ms"] - 3_600_000


async def test_numbers_are_asked_for_with_a_time_and_a_name(hive: WebHive) -> None:
    browser = await hive.browser()
    for query in ("since=yesterday", "since=-1", "since=1y", "agent=IRIS"):
        answer = await browser.get(f"/api/stats?{query}")
        assert (answer.status, answer.json["problem"]) == (400, "malformed"), query
    assert (await browser.get("/api/stats?agent=nobody")).status == 404


async def test_a_message_is_found_by_its_words_however_old(hive: WebHive) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    numbers = [await hive.send("iris", f"the moth number {n} sleeps") for n in range(3)]
    await hive.send("iris", "nothing of the kind")

    async def found(query: str) -> list[int]:
        answer = await browser.get(f"/api/v1/search?{query}")
        assert answer.status == 200, answer
        return [row["id"] for row in answer.json["messages"]]

    async def indexed() -> bool:
        return len(await found("q=moth+sleeps")) == 3

    await until(indexed, what="the index")
    assert await found("q=moth+sleeps") == numbers
    assert await found("q=mot") == numbers
    assert await found("q=%22moth%22+%2A+NEAR%28") == []
    newest = (await browser.get("/api/v1/search?q=moth&limit=2")).json
    assert [row["id"] for row in newest["messages"]] == numbers[1:]
    assert await found(f"q=moth&before={newest['before']}") == numbers[:1]
    for query in ("", "q=", "q=+", f"q={'x' * 201}", "q=x&limit=0"):
        assert (await browser.get(f"/api/v1/search?{query}")).status == 400, query
