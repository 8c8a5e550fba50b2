"""Proposals and deployments at the dashboard's port: what a page is told, and what the operator decides there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.approvals import NOT_WHOLE, Deployment, DeploymentState, FileDiff, ProposalKind
from protocol.configuration import (
    Approve,
    EnrolApprover,
    ListDeployments,
    ListProposals,
    Propose,
    RevokeApprover,
)
from protocol.limits import DIFF_LINES_MAX
from protocol.privd import ListCages, Power
from tests.support.approvers import SshSigner
from tests.support.waiting import until
from tests.webd.support.browser import Answered, Browser
from tests.webd.support.config import commit
from tests.webd.support.hive import WebHive
from webd.live.world import CLICK_NOTICE

pytestmark = pytest.mark.anyio

EGRESS = 'egress.hosts = ["example.org"]\n'
EVIL = "\x1b[31m<img src=x onerror=alert(1)>\u202e"


@pytest.fixture
def keys() -> Iterator[str]:
    return (f"{number:022d}" for number in range(1_000))


async def acted(browser: Browser, path: str, **said: object) -> Answered:
    answer = await browser.post(f"/api/v1/{path}", said)
    assert answer.status == 200, answer
    return answer


async def in_turn(browser: Browser, path: str, keys: Iterator[str], **said: object) -> Answered:
    """The answer, once the deployment before has left nothing to do: it does so shortly after its end is seen."""

    async def answer() -> Answered | None:
        found = await browser.post(f"/api/v1/{path}", {**said, "key": next(keys)})
        return None if found.status == 409 and "wait for its end" in found.json["detail"] else found

    return await until(answer, what=f"an answer of {path}")


async def topic(browser: Browser, name: str) -> Any:
    return (await browser.get(f"/api/state?topics={name}")).json["snapshot"]["topics"][name]


async def row_of(browser: Browser, key: str) -> Any:
    """A proposal's row, once the dashboard has heard of it."""

    async def row() -> Any:
        return (await topic(browser, "proposals")).get(key)

    return await until(row, what=f"the row of {key}")


async def page_of(browser: Browser, agent: str, number: int) -> Any:
    answer = await browser.get(f"/api/v1/agents/{agent}/proposals/{number}")
    assert answer.status == 200, answer
    return answer.json


async def proposed(hive: WebHive, agent: str, text: str, description: str = "") -> int:
    """A proposal to begin an agent's agent.toml with another line."""
    made = commit(hive.folder / "state", agent, lambda file: text + file)
    asked = Propose(agent, ProposalKind.CONFIG, made, description=description)
    return (await hive.operator("privd").call(asked)).number


async def ended(hive: WebHive, agent: str, number: int) -> Deployment:
    async def row() -> Deployment | None:
        rows = await hive.operator("privd").call(ListDeployments(agent=agent))
        return next((each for each in rows if each.number == number and each.ended_ms), None)

    return await until(row, what=f"the end of deployment {number} of {agent}")


async def test_an_agent_is_spawned_by_its_name_and_the_page_follows(
    hive: WebHive, keys: Iterator[str]
) -> None:
    browser = await hive.browser()
    async with browser.stream("proposals,deployments,builds,agents") as frames:
        await frames.next("snapshot")
        answer = await acted(
            browser, "agents", name="iris", template="reviewer", runner="demo", key=next(keys)
        )
        assert (answer.json["id"], answer.json.get("waits")) == (1, None)
        told = await frames.next("proposals")
        assert (told.data["k"], told.data["d"]["kind"], told.data["d"]["by"]) == (
            "iris/1",
            "spawn",
            "operator",
        )
        assert (await frames.next("deployments")).data["k"] == "iris/1"
        assert "building spawn of iris" in (await frames.next("builds")).data["d"]["lines"][0]["text"]
    await hive.is_well(await hive.harness("iris"))
    assert (await ended(hive, "iris", 1)).state is DeploymentState.DEPLOYED
    log = (await browser.get("/api/v1/agents/iris/deployments/1/log")).json
    assert (log["lines"][-1]["text"], log["before"]) == ("deployed: generation 1", None)
    rows = (await browser.get("/api/v1/deployments?agent=iris")).json["deployments"]
    assert [(row["number"], row["state"]) for row in rows] == [(1, "deployed")]
    [cage] = await hive.operator("privd").call(ListCages())
    assert (cage.power, cage.settings.runner) == (Power.RUNNING, "demo")


async def test_what_cannot_be_shown_whole_cannot_be_approved(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    number = await proposed(hive, "iris", "#\n" * (DIFF_LINES_MAX + 1))
    page = await page_of(browser, "iris", number)
    assert [file["cut"] for file in page["diff"]] == [True]
    assert (page["document"], page["digest"], page["code"]) == ("", "", "")
    path = f"/api/v1/agents/iris/proposals/{number}/approve"
    for digest, problem in (("", "malformed"), ("0" * 64, "conflict")):
        answer = await browser.post(path, {"key": next(keys), "digest": digest})
        assert answer.json["problem"] == problem, answer
    assert (await row_of(browser, f"iris/{number}"))["state"] == "open"


async def test_a_name_alone_spawns_nothing_that_cannot_be_shown_whole(
    hive: WebHive, keys: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destroyed agent comes back to what it left, which may have grown step by step."""

    async def half(*_: object) -> tuple[FileDiff, ...]:
        await trio.lowlevel.checkpoint()
        return (FileDiff("agent.toml", None, 9, (), cut=True),)

    monkeypatch.setattr("privd.proposals.difference", half)
    browser = await hive.browser()
    answer = await browser.post("/api/v1/agents", {"name": "iris", "runner": "demo", "key": next(keys)})
    assert answer.json["problem"] == "limit", answer
    assert NOT_WHOLE in answer.json["detail"]
    assert await topic(browser, "deployments") == {}


async def test_a_proposal_is_shown_and_what_was_shown_is_approved_once(
    hive: WebHive, keys: Iterator[str]
) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    number = await proposed(hive, "iris", EGRESS, description=EVIL)
    row = await row_of(browser, f"iris/{number}")
    assert (row["state"], row["description"]) == ("open", "<img src=x onerror=alert(1)>")
    page = await page_of(browser, "iris", number)
    [change] = page["proposal"]["capabilities"]
    assert (change["subject"], change["notable"]) == ("connects to example.org", True)
    [file] = page["diff"]
    assert ("+", EGRESS.strip()) in [(line["kind"], line["text"]) for line in file["lines"]]
    assert page["approvers"] == []
    path = f"agents/iris/proposals/{number}/approve"
    wrong = await browser.post(f"/api/v1/{path}", {"key": next(keys), "digest": "0" * 64})
    assert (wrong.status, wrong.json["problem"]) == (409, "conflict")
    answer = await acted(browser, path, digest=page["digest"], key=next(keys))
    assert (answer.json["id"], answer.json.get("waits")) == (number, None)
    assert (await row_of(browser, f"iris/{number}"))["state"] != "open"
    again = await browser.post(f"/api/v1/{path}", {"key": next(keys), "digest": page["digest"]})
    assert (again.status, again.json["problem"]) == (409, "conflict")
    await hive.is_well(iris)
    assert (await ended(hive, "iris", number)).state is DeploymentState.DEPLOYED


async def test_what_was_shown_over_another_base_is_refused(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    first = await proposed(hive, "iris", EGRESS)
    second = await proposed(hive, "iris", 'icon = "moth"\n')
    before = await page_of(browser, "iris", second)
    shown = await page_of(browser, "iris", first)
    await acted(browser, f"agents/iris/proposals/{first}/approve", digest=shown["digest"], key=next(keys))
    await hive.is_well(iris)
    await ended(hive, "iris", first)
    path = f"agents/iris/proposals/{second}/approve"
    refused = await in_turn(browser, path, keys, digest=before["digest"])
    assert (refused.status, refused.json["problem"]) == (409, "conflict")
    assert "has changed since it was shown" in refused.json["detail"]
    after = await page_of(browser, "iris", second)
    assert after["current_base"] != before["current_base"]


async def test_a_proposal_is_denied_with_a_reason_or_taken_back(hive: WebHive, keys: Iterator[str]) -> None:
    await hive.agent("iris")
    browser = await hive.browser()
    first = await proposed(hive, "iris", 'icon = "moth"\n')
    second = await proposed(hive, "iris", 'pronouns = "she/her"\n')
    await row_of(browser, f"iris/{second}")
    async with browser.stream("proposals") as frames:
        assert len((await frames.next("snapshot")).data["topics"]["proposals"]) == 3
        await acted(browser, f"agents/iris/proposals/{first}/deny", reason="no moths", key=next(keys))
        told = (await frames.next("proposals")).data["d"]
        assert (told["number"], told["state"], told["reason"]) == (first, "denied", "no moths")
        await acted(browser, f"agents/iris/proposals/{second}/withdraw", key=next(keys))
        told = (await frames.next("proposals")).data["d"]
        assert (told["number"], told["state"]) == (second, "withdrawn")
    answer = await browser.post(f"/api/v1/agents/iris/proposals/{first}/deny", {"key": next(keys)})
    assert (answer.status, answer.json["problem"]) == (409, "conflict")
    assert await hive.operator("privd").call(ListProposals()) == ()
    rows = (await browser.get("/api/v1/proposals?ended=1&agent=iris")).json["proposals"]
    assert [(row["number"], row["state"]) for row in rows][:2] == [(second, "withdrawn"), (first, "denied")]


async def test_an_older_generation_is_deployed_again(hive: WebHive, keys: Iterator[str]) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    number = await proposed(hive, "iris", EGRESS)
    page = await page_of(browser, "iris", number)
    await acted(browser, f"agents/iris/proposals/{number}/approve", digest=page["digest"], key=next(keys))
    await hive.is_well(iris)
    await ended(hive, "iris", number)
    assert (await topic(browser, "agents"))["iris"]["egress_hosts"] == ["example.org"]
    answer = await in_turn(browser, "agents/iris/roll-back", keys, generation=1)
    back = answer.json["id"]
    await hive.is_well(iris)
    row = await ended(hive, "iris", back)
    assert (row.state, row.kind, row.of) == ("deployed", "rollback", 1)
    assert (await topic(browser, "agents"))["iris"]["egress_hosts"] == []
    refused = await in_turn(browser, "agents/iris/roll-back", keys, generation=99)
    assert (refused.status, refused.json["problem"]) == (404, "not_found")
    late = await browser.post(f"/api/v1/agents/iris/deployments/{back}/cancel", {"key": next(keys)})
    assert (late.status, late.json["problem"]) == (409, "conflict")


async def test_a_configuration_whose_harness_is_not_well_is_returned_and_says_why(
    hive: WebHive, keys: Iterator[str]
) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    number = await proposed(hive, "iris", EGRESS)
    page = await page_of(browser, "iris", number)
    await acted(browser, f"agents/iris/proposals/{number}/approve", digest=page["digest"], key=next(keys))
    await hive.is_well(iris, fault=f"no login{EVIL}")
    assert (await ended(hive, "iris", number)).state is DeploymentState.RETURNED

    async def row() -> Any:
        shown = (await topic(browser, "deployments"))[f"iris/{number}"]
        return shown if shown["state"] == "returned" else None

    assert "no login<img" in (await until(row, what="the end on the dashboard"))["detail"]


async def test_what_privd_does_while_webd_is_away_is_known_when_it_is_back(
    hive: WebHive, keys: Iterator[str]
) -> None:
    iris = await hive.agent("iris")
    browser = await hive.browser()
    number = await proposed(hive, "iris", EGRESS)
    page = await page_of(browser, "iris", number)
    await acted(browser, f"agents/iris/proposals/{number}/approve", digest=page["digest"], key=next(keys))
    await hive.stop("webd")
    await hive.start("webd")

    async def lines() -> list[str]:
        build = (await topic(browser, "builds")).get(f"iris/{number}", {"lines": []})
        return [line["text"] for line in build["lines"]]

    read = await until(lines, what="the log that nobody followed")
    assert read[0].startswith("building config of iris")
    await hive.is_well(iris)
    await ended(hive, "iris", number)

    async def state() -> bool:
        row = (await topic(browser, "deployments"))[f"iris/{number}"]
        return bool(row["state"] == "deployed")

    await until(state, what="the end on the dashboard")


async def test_a_draft_is_a_row_of_its_own(hive: WebHive, keys: Iterator[str]) -> None:
    browser = await hive.browser()
    privd = hive.operator("privd")
    number = (await privd.call(Propose("iris", ProposalKind.INIT, template="reviewer"))).number
    page = await page_of(browser, "iris", number)
    await acted(browser, f"agents/iris/proposals/{number}/approve", digest=page["digest"], key=next(keys))
    await ended(hive, "iris", number)

    async def draft() -> Any:
        return (await topic(browser, "drafts")).get("iris")

    assert (await until(draft, what="the draft"))["name"] == "iris"
    assert await topic(browser, "agents") == await topic(browser, "kept") == {}


async def test_where_keys_decide_a_typed_name_waits_for_one(
    hive: WebHive, keys: Iterator[str], tmp_path: Path
) -> None:
    browser, privd = await hive.browser(), hive.operator("privd")

    async def click() -> bool:
        return bool((await topic(browser, "hive"))["hive"]["click"])

    assert await click()
    signer = SshSigner(tmp_path)
    await privd.call(EnrolApprover("anna", signer.key))

    async def no_click() -> bool:
        return not await click()

    await until(no_click, what="that a click is not enough any more")
    assert CLICK_NOTICE not in (await topic(browser, "hive"))["hive"]["notices"]
    answer = await acted(browser, "agents", name="iris", runner="demo", key=next(keys))
    assert (answer.json["id"], answer.json["waits"]) == (1, True)
    assert (await row_of(browser, "iris/1"))["state"] == "open"
    assert await topic(browser, "deployments") == {}
    page = await page_of(browser, "iris", 1)
    assert [key["name"] for key in page["approvers"]] == ["anna"]
    path = "/api/v1/agents/iris/proposals/1/approve"
    refused = await browser.post(path, {"key": next(keys), "digest": page["digest"]})
    assert (refused.status, refused.json["problem"]) == (403, "denied")
    await privd.call(Approve("iris", 1, page["digest"], signer.sign(page["document"])))
    await hive.is_well(await hive.harness("iris"))
    assert (await ended(hive, "iris", 1)).state is DeploymentState.DEPLOYED
    await privd.call(RevokeApprover("anna"))
    answer = await acted(browser, "agents", name="atlas", key=next(keys))
    assert answer.json["waits"]
    assert not await click()


async def test_what_makes_no_sense_is_refused_with_its_reason(hive: WebHive, keys: Iterator[str]) -> None:
    browser = await hive.browser()
    refused: tuple[tuple[str, dict[str, object], int, str, str], ...] = (
        ("agents", {"name": "Iris"}, 400, "malformed", "lowercase letters"),
        ("agents", {"name": "webd"}, 400, "malformed", "reserved"),
        ("agents", {"name": "iris", "template": "poet"}, 404, "not_found", "poet"),
        ("agents/iris/proposals/1/deny", {}, 404, "not_found", "iris"),
        ("agents/iris/proposals/1/approve", {"digest": "x"}, 400, "malformed", "digest"),
        ("agents/iris/deployments/1/cancel", {}, 404, "not_found", "iris"),
        ("agents/iris/roll-back", {"generation": 0}, 400, "malformed", "generation"),
    )
    for path, said, status, problem, word in refused:
        answer = await browser.post(f"/api/v1/{path}", {"key": next(keys), **said})
        assert (answer.status, answer.json["problem"]) == (status, problem), (path, answer)
        assert word in answer.json["detail"], path
    for path in ("agents/iris/proposals/0", "agents/iris/proposals/x", "agents/iris/deployments/01/log"):
        assert (await browser.get(f"/api/v1/{path}")).status == 404, path
