"""Pages: a shell whose boot block holds what the page starts from."""

import json
import re
from typing import Any

import pytest

from tests.webd.support.browser import Answered
from tests.webd.support.hive import WebHive
from webd.policy.topics import COMMON

pytestmark = pytest.mark.anyio

BOOT = re.compile(rb'<script type="application/json" id="boot">(.*?)</script>', re.DOTALL)


def boot_of(page: Answered) -> Any:
    found = BOOT.search(page.body)
    assert found is not None
    return json.loads(found[1])


async def test_the_swarm_begins_with_everybody_and_the_newest_messages(hive: WebHive) -> None:
    await hive.agent("iris")
    number = await hive.send("iris", "hello <b>there</b> </script><script>alert(1)</script>")
    browser = await hive.browser()
    page = await browser.get("/?q=whatever&thread=%00", accept="text/html")
    assert page.status == 200
    boot = boot_of(page)
    assert boot["page"] == {"kind": "swarm"}
    assert boot["session"]["operator"]
    topics = boot["snapshot"]["topics"]
    assert topics.keys() == COMMON | {"unread"}
    assert topics["hive"]["hive"]["name"] == "test hive"
    assert topics["hive"]["hive"]["daemons"]["privd"] == "up"
    assert topics["agents"]["iris"]["inbox"] == 1
    assert [message["id"] for message in topics["flow"]] == [number]
    assert topics["flow"][0]["body"].endswith("</script><script>alert(1)</script>")


async def test_an_agents_page_begins_with_its_tail(hive: WebHive) -> None:
    iris = await hive.agent("iris")
    await hive.send("iris")
    turn = await iris.turn("first", "second")
    page = await (await hive.browser()).get("/agent/iris/")
    boot = boot_of(page)
    assert boot["page"] == {"kind": "agent", "agent": "iris"}
    tail = boot["snapshot"]["topics"]["tail:iris"]
    assert [row["id"] for row in tail["turns"]] == [turn]
    assert tail["turns"][0]["outcome"] == "done"
    assert [(event["n"], event["kind"], event["text"]) for event in tail["events"]] == [
        (1, "said", "first"),
        (2, "said", "second"),
    ]
    assert tail["more"] is False


async def test_a_journal_page_begins_with_its_newest_lines(hive: WebHive) -> None:
    await hive.agent("iris")
    hive.journal("iris").write_text(
        'plain line\n{"event": "turn ended", "level": "warning", "at": "2026-01-01T00:00:00Z", "turn": 7}\nlast\n'
    )
    browser = await hive.browser()
    page = await browser.get("/agent/iris/journal")
    boot = boot_of(page)
    assert boot["page"] == {"kind": "journal", "agent": "iris"}
    assert [line["text"] for line in boot["snapshot"]["topics"]["journal:iris"][:2]] == [
        "plain line",
        "turn ended turn=7",
    ]
    assert boot["snapshot"]["topics"]["journal:iris"][1]["level"] == "warn"


async def test_addresses_of_agents(hive: WebHive) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    bare = await browser.get("/agent/iris")
    assert (bare.status, bare.headers["location"]) == (308, "/agent/iris/")
    assert (await browser.get("/agent/nobody/", accept="text/html")).status == 404


async def test_an_agent_that_was_destroyed_keeps_its_page_until_it_is_purged(hive: WebHive) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    key = iter(f"{n:022d}" for n in range(9))
    assert (await browser.post("/api/v1/agents/iris/destroy", {"key": next(key)})).status == 200
    page = boot_of(await browser.get("/agent/iris/"))
    assert "iris" not in page["snapshot"]["topics"]["agents"]
    purged = await browser.post("/api/v1/agents/iris/purge", {"key": next(key), "confirm": "iris"})
    assert purged.status == 200, purged
