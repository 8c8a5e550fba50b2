"""The record of configurations through webd: tags, log, differences and files of an agent, and what is live where."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from privd.git import meta
from privd.git.applied import Applied
from privd.git.meta import Live
from privd.policy.objects_made import commit_of, tree_of
from privd.policy.record import Asked, Begun, Deployed, Mark, encode, tag_name
from protocol.approvals import CapabilityChange, DeploymentKind, ProposalKind
from tests.webd.support.hive import WebHive
from webd.policy.text import plain

pytestmark = [pytest.mark.anyio, pytest.mark.cage]

FIRST = {"agent.toml": b'model = "opus"\nicon = "bee"\n', "role.md": b"You count words.\n"}
SECOND = {
    "agent.toml": b'model = "haiku"\nicon = "bee"\n',
    "role.md": b"You count words.\n",
    "bin/look": b"<script>alert(1)</script> \xe2\x80\xaeevil\n",
}
ASKED = Asked(
    kind=ProposalKind.CONFIG,
    commit="",
    tree="",
    base=None,
    by="manager",
    description="a <b>cheaper</b> model \x1b[31m\u202enow",
    proposed_ms=2_000,
    expires_ms=9_000_000,
    capabilities=(CapabilityChange("model", "opus", "haiku", notable=True),),
)


def recorded(hive: WebHive, agent: str = "iris") -> tuple[str, str]:
    """Two generations of an agent and a proposal that waits, as privd writes them; the two commits of main."""
    applied = Applied(hive.folder / "state" / "applied" / f"{agent}.git")
    applied.make()
    commits: list[str] = []
    for number, files in enumerate((FIRST, SECOND), start=1):
        objects = tree_of(files)
        commit = commit_of(objects[-1].id, tuple(commits[-1:]), f"Deploy {agent} {number}", 1_000 * number)
        applied.put((*objects, commit))
        applied.move_main(commit.id)
        commits.append(commit.id)
        begun = Begun(DeploymentKind.CONFIG, commit.id, objects[-1].id, None, 1_000 * number)
        done = Deployed(1_500 * number, begun, "0" * 64, asked=ASKED)
        applied.tag(tag_name(Mark.DEPLOYED, number), commit.id, encode(done), number)
    waiting = replace(ASKED, commit=commits[0], base=commits[1])
    applied.tag(tag_name(Mark.PROPOSAL, 3), commits[0], encode(waiting), 3)
    return commits[0], commits[1]


async def test_an_agents_record_is_shown_with_what_its_tags_say(hive: WebHive) -> None:
    first, second = recorded(hive)
    told = (await (await hive.browser()).get("/api/agent-config/iris")).json
    assert told["main"] == second
    assert [(ref["name"], ref["commit"]) for ref in told["refs"]] == [
        ("main", second),
        ("proposal/3", first),
        ("deployed/2", second),
        ("deployed/1", first),
    ]
    assert told["refs"][0]["document"] is None
    document = told["refs"][1]["document"]
    assert (document["by"], document["base"]) == ("manager", second)
    assert document["description"] == "a <b>cheaper</b> model now"
    assert document["capabilities"][0]["after"] == "haiku"
    assert [(entry["commit"], entry["at_ms"], entry["tags"]) for entry in told["log"]] == [
        (second, 2_000_000, ["deployed/2"]),
        (first, 1_000_000, ["deployed/1", "proposal/3"]),
    ]


async def test_tags_of_older_numbers_are_led_to(hive: WebHive) -> None:
    first, second = recorded(hive)
    browser = await hive.browser()
    older = (await browser.get("/api/v1/agents/iris/config/refs?before=3")).json
    assert [(ref["name"], ref["commit"]) for ref in older] == [("deployed/2", second), ("deployed/1", first)]
    assert older[0]["document"]["asked"]["by"] == "manager"
    assert (await browser.get("/api/v1/agents/iris/config/refs?before=1")).json == []
    assert (await browser.get("/api/v1/agents/iris/config/refs?before=0")).status == 400


async def test_log_difference_and_files_of_commits(hive: WebHive) -> None:
    first, second = recorded(hive)
    browser = await hive.browser()
    config = "/api/v1/agents/iris/config"
    assert [each["commit"] for each in (await browser.get(f"{config}/log?commit={first}")).json] == [first]
    assert [each["commit"] for each in (await browser.get(f"{config}/log?limit=1")).json] == [second]
    changed = (await browser.get(f"{config}/diff?commit={second}&before={first}")).json
    assert [(each["path"], each["before_bytes"], each["after_bytes"]) for each in changed] == [
        ("agent.toml", 28, 29),
        ("bin/look", None, len(SECOND["bin/look"])),
    ]
    assert [(line["kind"], line["text"]) for line in changed[0]["lines"]] == [
        ("-", 'model = "opus"'),
        ("+", 'model = "haiku"'),
        (" ", 'icon = "bee"'),
    ]
    assert changed[1]["lines"][0]["text"] == "<script>alert(1)</script> evil"
    held = (await browser.get(f"{config}/files?commit={first}")).json
    assert held == [{"path": "agent.toml", "bytes": 28}, {"path": "role.md", "bytes": 17}]
    page = (await browser.get(f"{config}/file?commit={second}&path=bin/look")).json
    assert page == {
        "path": "bin/look",
        "bytes": len(SECOND["bin/look"]),
        "text": plain(SECOND["bin/look"].decode()),
    }


async def test_the_meta_repository_says_what_is_live_where(hive: WebHive) -> None:
    folder = hive.folder / "state" / "meta"
    live = {"iris": Live(1, "a" * 40, "b" * 40, 1_000)}
    meta.write(folder, live, "iris is at 1", 1_000)
    live |= {"otto": Live(4, "c" * 40, "d" * 40, 2_000)}
    meta.write(folder, live, "otto is at 4 \x1b[1m<i>", 2_000)
    browser = await hive.browser()
    told = (await browser.get("/api/v1/meta")).json
    assert told["live"] == [
        {"agent": "iris", "generation": 1, "commit": "a" * 40, "tree": "b" * 40, "at_ms": 1_000},
        {"agent": "otto", "generation": 4, "commit": "c" * 40, "tree": "d" * 40, "at_ms": 2_000},
    ]
    assert [entry["subject"] for entry in told["log"]] == ["otto is at 4 <i>", "iris is at 1"]
    older, newer = told["log"][1]["commit"], told["log"][0]["commit"]
    changed = (await browser.get(f"/api/v1/meta/diff?commit={newer}&before={older}")).json
    assert [each["path"] for each in changed] == ["agents/otto.json"]
    file = (await browser.get(f"/api/v1/meta/file?commit={older}&path=agents/iris.json")).json
    assert '"generation": 1' in file["text"]
    assert [each["commit"] for each in (await browser.get("/api/v1/meta/log")).json] == [newer, older]
    assert len((await browser.get(f"/api/v1/meta/files?commit={newer}")).json) == 2


async def test_where_nothing_was_deployed_nothing_is_shown(hive: WebHive) -> None:
    told = (await (await hive.browser()).get("/api/v1/meta")).json
    assert told == {"main": None, "refs": [], "log": [], "live": []}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/agent-config/nobody", 404),
        ("/api/agent-config/IRIS", 404),
        ("/agent/nobody/config", 404),
        ("/api/v1/agents/iris/config/diff", 400),
        ("/api/v1/agents/iris/config/diff?commit=main", 400),
        (f"/api/v1/agents/iris/config/diff?commit={'0' * 40}", 404),
        (f"/api/v1/agents/iris/config/log?commit={'0' * 40}", 404),
        ("/api/v1/agents/iris/config/log?limit=0", 400),
        ("/api/v1/agents/iris/config/log?limit=201", 400),
        ("/api/v1/agents/iris/config/files?commit=HEAD", 400),
        ("/api/v1/agents/iris/config/file?path=agent.toml", 400),
        (f"/api/v1/meta/file?commit={'0' * 40}&path=x", 404),
    ],
)
async def test_what_is_not_there_is_refused(hive: WebHive, path: str, status: int) -> None:
    recorded(hive)
    answer = await (await hive.browser()).get(path)
    assert answer.status == status, answer


async def test_a_path_leads_nowhere_but_into_the_commit(hive: WebHive) -> None:
    first, _ = recorded(hive)
    browser = await hive.browser()
    for path in ("..%2F..%2Fmeta%2Fconfig", "%2Fetc%2Fpasswd", "none", "", "bin", ".git%2Fconfig"):
        answer = await browser.get(f"/api/v1/agents/iris/config/file?commit={first}&path={path}")
        assert answer.status == 404, (path, answer)
    two = recorded(hive, "otto")[1]
    assert (await browser.get(f"/api/v1/agents/iris/config/file?commit={two}&path=x")).status == 404


async def test_pages_and_who_may_see_them(hive: WebHive) -> None:
    recorded(hive)
    browser, stranger = await hive.browser(), hive.stranger()
    for path in ("/agent/iris/config", "/meta", "/enrol"):
        page = await browser.get(path, accept="text/html")
        assert page.status == 200, path
        permissions = page.headers["permissions-policy"]
        assert "publickey-credentials-get=(self), " in permissions + ", "
        assert "publickey-credentials-create=(self), " in permissions + ", "
        assert (await stranger.get(path, accept="text/html")).status == 303
    for path in ("/api/agent-config/iris", "/api/v1/meta", "/api/v1/approvers", "/api/v1/meta/log"):
        assert (await stranger.get(path)).status == 401


async def test_an_agent_that_was_only_proposed_has_a_page(hive: WebHive) -> None:
    recorded(hive, "lumen")
    answer = await (await hive.browser()).get("/agent/lumen/config", accept="text/html")
    assert answer.status == 200


def test_the_page_of_types_and_the_answers_agree() -> None:
    """What the browser's side is typed by names every field of what is sent."""
    types = Path(__file__).parents[2] / "webd" / "static" / "types" / "configuration.d.ts"
    text = types.read_text(encoding="utf-8")
    for mark in Mark:
        assert f'"{mark}"' in text
