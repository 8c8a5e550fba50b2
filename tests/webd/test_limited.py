"""Accounts and refusals of the way out, through webd: told live, paged, and what the operator does about a limit."""

from collections.abc import Iterator

import pytest

from protocol.agent import EndTurn
from protocol.egressd import EgressRefused, Refusal
from protocol.turns import Outcome
from runtime.clock import now_ms
from tests.brokerd.hive import Egressd
from tests.support.waiting import until
from tests.webd.support.hive import WebHive
from tests.webd.test_actions import acted

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


@pytest.fixture
def keys() -> Iterator[str]:
    return (f"{number:022d}" for number in range(1_000))


async def test_a_limited_account_is_told_live_and_resumed(hive: WebHive, keys: Iterator[str]) -> None:
    iris, _ = await hive.agent("iris"), await hive.agent("atlas")
    browser = await hive.browser()
    await hive.send("iris")
    async with browser.stream("accounts") as frames:
        assert (await frames.next("snapshot")).data["topics"] == {"accounts": {}}
        until_ms = now_ms() + HOUR_MS
        turn = await iris.begin()
        await iris.client.call(EndTurn(turn, Outcome.RATE_LIMITED, "used\x1b[31m up", until_ms=until_ms))
        told = (await frames.next("accounts")).data
        assert (told["k"], told["d"]["limited_until_ms"], told["d"]["detail"]) == (
            "default",
            until_ms,
            "used up",
        )
        assert sorted(told["d"]["held"]) == ["atlas", "iris"]
        await acted(browser, "accounts/default/resume", key=next(keys))
        assert (await frames.next("accounts")).data["d"]["limited_until_ms"] is None
    again = await browser.post("/api/v1/accounts/default/resume", {"key": next(keys)})
    assert (again.status, again.json["problem"]) == (409, "conflict")
    assert (await browser.post("/api/v1/accounts/Default!/resume", {"key": next(keys)})).status == 404


async def test_refusals_are_told_live_and_lead_back_to_the_first(hive: WebHive) -> None:
    await hive.agent("iris")
    browser, egressd = await hive.browser(), Egressd(hive.folder)
    async with egressd.serving(), browser.stream("refusals") as frames:
        assert (await frames.next("snapshot")).data["topics"] == {"refusals": {}}
        for number in range(5):
            refused = EgressRefused("iris", now_ms(), Refusal.NOT_ALLOWED, f"h{number}.org\x07", 443, 1)
            egressd.events.publish(refused)
        told = [(await frames.next("refusals")).data for _ in range(5)]
        assert [row["d"]["host"] for row in told] == [f"h{number}.org" for number in range(5)]
    found: list[str] = []
    before = ""
    while True:
        page = (await browser.get(f"/api/v1/egress?agent=iris&limit=2{before}")).json
        found += [row["host"] for row in page["refusals"]]
        if page["before"] is None:
            break
        before = f"&before={page['before']}"
    assert found == [f"h{number}.org" for number in reversed(range(5))]
    assert (await browser.get("/api/v1/egress?agent=atlas")).json == {"refusals": [], "before": None}
    assert (await browser.get("/api/v1/egress?agent=Atlas!")).status == 400


async def test_brokerd_without_egressd_says_so_among_the_notices(
    hive: WebHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerd.live.egress.AWAY_S", 0.0)
    monkeypatch.setattr("webd.live.upstream.GREET_EVERY_S", 0.05)
    await hive.stop("webd")
    await hive.start("webd")
    browser = await hive.browser()

    async def said() -> bool:
        state = (await browser.get("/api/state?topics=hive")).json
        notices = state["snapshot"]["topics"]["hive"]["hive"]["notices"]
        return any("brokerd has not heard egressd for a while" in notice for notice in notices)

    await until(said, what="the notice")
