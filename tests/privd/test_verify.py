"""The offline check over a real hive's files: what is whole passes, and whatever is changed afterwards is found.

Real repositories, tags and boxes; requests go through the routes as they are served, so that the log tells of them.
"""

import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path

import msgspec
import pytest
import trio

from privd.audit_files import NAME
from privd.git.applied import Applied
from privd.policy.audit_chain import Action
from privd.policy.pace import REFUSALS_MAX
from privd.policy.proposals import DAY_MS
from privd.policy.record import Approved, Deployed, Mark, decode, encode, tag_name
from privd.verify import Report, listed, noted, verify
from protocol.approvals import ProposalKind
from protocol.configuration import Deny, RollBack
from protocol.privd import DestroyCage, PurgeAgent, StopCage
from protocol.problem import Refused
from protocol.settings import AgentSettings
from runtime.clock import now_ms
from tests.support.configuring import Desk, desk, ground, toml

pytestmark = [pytest.mark.root, pytest.mark.cage]

AGENT = "iris"


async def change(at: Desk, model: str, fault: str = "") -> None:
    commit = at.commit(AGENT, toml(at.host, AGENT, model=model))
    await at.healthy(await at.approve(await at.propose(AGENT, commit=commit)), fault)


async def life(at: Desk) -> None:
    """Spawned, changed, returned, denied, rolled back; and one that was spawned and purged."""
    await at.spawned(AGENT)
    await change(at, "opus")
    await change(at, "haiku", fault="not well")
    denied = await at.propose(AGENT, commit=at.commit(AGENT, toml(at.host, AGENT, model="sonnet")))
    await at.ask(Deny(AGENT, denied.number, "not now"))
    await at.healthy(await at.ask(RollBack(AGENT, 1)))
    with pytest.raises(Refused):
        await at.ask(StopCage("nobody"))


@pytest.fixture(scope="module")
def lived() -> Iterator[Path]:
    """The files of a hive that has been through all that; its privd is gone."""
    with ground() as place:

        async def live() -> None:
            async with desk(place) as at:
                await life(at)

        trio.run(live)
        yield place


@pytest.fixture
def place(lived: Path, tmp_path: Path) -> Path:
    """A copy of them, to be changed."""
    shutil.copytree(lived, tmp_path / "hive", symlinks=True)
    return tmp_path / "hive"


def told(place: Path) -> str:
    return "\n".join(verify(place, None).faults)


def test_a_hive_as_its_privd_left_it_is_whole(lived: Path) -> None:
    report = verify(lived, None)
    assert report.faults == ()
    assert report.notices == ()
    assert (report.agents, report.generations, report.proofs) == (1, 3, {"click": 3})
    assert verify(lived, noted(report.head)).faults == ()


def test_what_was_done_can_be_read(lived: Path) -> None:
    rows = listed(lived, 1_000, "")
    asked = [(each.op, each.by, each.number, each.verdict) for each in rows if each.by != "privd"]
    assert asked == [
        ("propose", "broker", 1, "done"),
        ("approve", "operator", 1, "done"),
        ("propose", "broker", 2, "done"),
        ("approve", "operator", 2, "done"),
        ("propose", "broker", 3, "done"),
        ("approve", "operator", 3, "done"),
        ("propose", "broker", 4, "done"),
        ("deny", "operator", 4, "done"),
        ("roll_back", "operator", 5, "done"),
        ("stop_cage", "operator", None, "not_found"),
    ]
    steps = [each.op for each in rows if each.number == 3 and each.by == "privd"]
    assert steps == ["deploy_building", "deploy_switching", "deploy_checking", "deploy_returning"]
    [returned] = [each for each in rows if each.op == "deploy_returning"]
    assert returned.detail == "not well"
    assert listed(lived, 1, "")[0].op == "stop_cage"
    assert listed(lived, 10, "nova") == []


def test_a_line_less(place: Path) -> None:
    lines = (place / NAME).read_bytes().splitlines(keepends=True)
    (place / NAME).write_bytes(b"".join(lines[:5] + lines[6:]))
    assert "line 6 of the audit log is missing" in told(place)


def test_a_log_that_was_written_anew_is_told_by_a_head_that_was_noted(place: Path) -> None:
    before = noted(verify(place, None).head)
    for path in place.glob("audit*"):
        path.unlink()

    async def anew() -> None:
        async with desk(place):
            pass

    trio.run(anew)
    report = verify(place, None)
    assert report.faults == ()
    assert "3 generations were made before the log begins" in report.notices
    assert any("the head that was noted" in fault for fault in verify(place, before).faults)


def test_a_log_that_is_gone(place: Path) -> None:
    for path in place.glob("audit*"):
        path.unlink()
    assert "the log is empty, but iris has generation 1" in told(place)


def applied(place: Path) -> Path:
    return place / "applied" / f"{AGENT}.git"


def forge(place: Path, number: int, change: Callable[[Deployed], Deployed], *, name: str = "") -> None:
    """Make the tag of a generation anew, with another document, as somebody who is root could."""
    ref = applied(place) / "refs" / "tags" / tag_name(Mark.DEPLOYED, number)
    tag = Applied(applied(place)).tags()[tag_name(Mark.DEPLOYED, number)]
    _, found = decode(tag_name(Mark.DEPLOYED, number), tag.document)
    assert isinstance(found, Deployed)
    changed = change(found)
    target = name or tag_name(Mark.DEPLOYED, number)
    head = f"object {changed.begun.commit}\ntype commit\ntag {target}\ntagger privd <privd@localhost> 1 +0000\n\n"
    content = head.encode() + encode(changed)
    whole = b"tag %d\0" % len(content) + content
    identity = sha1(whole, usedforsecurity=False).hexdigest()
    path = applied(place) / "objects" / identity[:2] / identity[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(whole))
    ref.write_text(f"{identity}\n")


def with_document(found: Deployed, **changes: object) -> Deployed:
    """The same, approved for something else."""
    approved = found.approved
    assert approved is not None
    [word] = approved.words
    document = json.loads(word.document) | changes
    changed = msgspec.structs.replace(word, document=json.dumps(document, separators=(",", ":")))
    return msgspec.structs.replace(found, approved=Approved(approved.at_ms, (changed,)))


FORGED: dict[str, tuple[Callable[[Deployed], Deployed], str]] = {
    "approved by nobody": (
        lambda found: msgspec.structs.replace(found, approved=None),
        "generation 2 was approved by nobody",
    ),
    "no words": (
        lambda found: msgspec.structs.replace(found, approved=Approved(1, ())),
        "was given by nobody",
    ),
    "another commit": (lambda found: with_document(found, commit="a" * 40), "was given for something else"),
    "another agent": (lambda found: with_document(found, agent="nova"), "was given for something else"),
    "another base": (lambda found: with_document(found, base="a" * 40), "deployed over something else"),
    "too late": (lambda found: with_document(found, until_ms=1), "outside the document's time"),
    "another tree": (
        lambda found: msgspec.structs.replace(
            found, begun=msgspec.structs.replace(found.begun, tree="a" * 40)
        ),
        "does not hold the tree",
    ),
    "another log": (lambda found: msgspec.structs.replace(found, log="0" * 64), "its log is not the one"),
    "a rollback": (
        lambda found: msgspec.structs.replace(
            found, begun=msgspec.structs.replace(found.begun, of=1), approved=None, asked=None
        ),
        "was to be generation 1 again",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_generation_whose_tag_was_made_anew(place: Path, what: str) -> None:
    change, words = FORGED[what]
    forge(place, 2, change)
    assert words in told(place)


def test_a_key_that_nobody_enrolled_and_a_click_where_keys_decide(place: Path) -> None:
    row = {
        "name": "anna",
        "key": {"kind": "ssh", "line": "ssh-ed25519 AAAA"},
        "fingerprint": "SHA256:x",
        "enrolled_ms": 1,
    }
    (place / "approvers.json").write_text(json.dumps([row]))
    assert "a click is not enough" in told(place)
    (place / "approvers.json").write_text("{")
    assert "approvers.json" in told(place)


def test_a_tag_under_another_name(place: Path) -> None:
    tags = applied(place) / "refs" / "tags" / "deployed"
    shutil.copyfile(tags / "2", tags / "9")
    assert "the tag deployed/9 is deployed/2 under another name" in told(place)


def test_a_generation_that_is_gone(place: Path) -> None:
    (applied(place) / "refs" / "tags" / "deployed" / "2").unlink()
    found = told(place)
    assert "made generation 2 of iris, which is not in the record" in found
    assert "main does not hold" in found


def test_an_object_that_was_damaged(place: Path) -> None:
    commit = Applied(applied(place)).main()
    assert commit is not None
    path = applied(place) / "objects" / commit[:2] / commit[2:]
    path.chmod(0o600)
    path.write_bytes(zlib.compress(b"commit 1\0x"))
    assert "damaged" in told(place)


def test_a_branch_that_was_moved(place: Path) -> None:
    tag = Applied(applied(place)).tags()["deployed/1"]
    (applied(place) / "refs" / "heads" / "main").write_text(f"{tag.commit}\n")
    assert "main does not hold generation 5 where it belongs" in told(place)


def test_a_meta_repository_that_tells_of_something_else(place: Path) -> None:
    meta = Applied(place / "meta")
    main = meta.main()
    assert main is not None
    parents = [line for line in meta_commit(meta, main).splitlines() if line.startswith("parent ")]
    (place / "meta" / "refs" / "heads" / "main").write_text(parents[0].removeprefix("parent ") + "\n")
    assert "meta says that generation 2 of iris is live, its record says 5" in told(place)


def meta_commit(meta: Applied, commit: str) -> str:
    from privd.policy.objects import Kind  # noqa: PLC0415 - of the one test

    return meta.read(Kind.COMMIT, commit).decode()


def run(place: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-m", "hivectl", "--dir", str(place), "audit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_as_people_ask_for_it(place: Path) -> None:
    whole = run(place, "verify")
    assert (whole.returncode, whole.stderr) == (0, ""), whole
    assert "the record is whole" in whole.stdout
    assert "approved: 3 by click" in whole.stdout
    head = whole.stdout.split("head ")[1].split(": ")[0]
    assert run(place, "verify", "--head", head).returncode == 0
    assert "is no head" in run(place, "verify", "--head", "7").stderr
    shown = run(place).stdout
    assert shown.splitlines()[0].split()[:3] == ["LINE", "AGO", "BY"]
    assert "roll_back" in shown
    rows = msgspec.json.decode(
        run(place, "--json", "--limit", "3", "--agent", AGENT).stdout, type=list[Action]
    )
    assert [each.op for each in rows] == ["deploy_switching", "deploy_checking", "deploy_sealing"]
    lines = (place / NAME).read_bytes().splitlines(keepends=True)
    (place / NAME).write_bytes(b"".join(lines[:5] + lines[6:]))
    broken = run(place, "verify")
    assert broken.returncode == 1
    assert "✗ line 6 of the audit log is missing" in broken.stdout
    report = msgspec.json.decode(run(place, "verify", "--json").stdout, type=Report)
    assert report.faults
    nowhere = run(place.parent / "nowhere", "verify")
    assert (nowhere.returncode, "no hive is in this folder" in nowhere.stderr) == (1, True)
    assert not (place.parent / "nowhere").exists()


def test_what_nobody_decided_in_time_is_told_as_privds_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def live() -> None:
        async with desk(place) as at:
            await at.propose("nova", ProposalKind.SPAWN)
            monkeypatch.setattr("privd.proposals.now_ms", lambda: now_ms() + 8 * DAY_MS)
            await at.host.proposals.expire()

    trio.run(live)
    expired = listed(place, 1, "nova")[0]
    assert (expired.op, expired.by, expired.number, expired.verdict) == ("expire", "privd", 1, "done")
    assert told(place) == ""


def test_an_agent_that_is_older_than_its_record_is_taken_up_and_told(place: Path) -> None:
    async def live() -> None:
        async with desk(place) as at:
            await at.host.make(AgentSettings(name="otto"))
            await at.host.adopt("otto")

    trio.run(live)
    report = verify(place, None)
    assert report.faults == ()
    assert report.notices == ("otto: generation 1 was taken up as it was, with no approval",)
    assert [each.op for each in listed(place, 9, "otto")] == ["take_up"]


def test_one_that_was_spawned_anew_after_a_purge_has_two_chains(place: Path) -> None:
    """Whatever is missing or moved in either of them is told."""

    async def live() -> None:
        async with desk(place) as at:
            await at.ask(DestroyCage(AGENT))
            await at.ask(PurgeAgent(AGENT, AGENT))
            await at.spawned(AGENT)

    trio.run(live)
    assert told(place) == ""
    tags, main = applied(place) / "refs" / "tags" / "deployed", applied(place) / "refs" / "heads" / "main"
    older, newest = sorted(tags.iterdir(), key=lambda each: int(each.name))[-2:]
    kept, at = newest.read_bytes(), main.read_bytes()
    newest.unlink()  # privd ended before it wrote the tag
    (applied(place) / "step.json").write_text("{}")
    assert "main" not in told(place)
    (applied(place) / "step.json").unlink()
    newest.write_bytes(kept)
    main.write_text(f"{Applied(applied(place)).tags()[f'deployed/{older.name}'].commit}\n")
    assert f"main does not hold generation {newest.name} where it belongs" in told(place)
    main.write_bytes(at)
    (tags / "2").unlink()
    assert "main does not hold generation 1 where it belongs" in told(place)


def test_somebody_who_asked_too_often_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def live() -> None:
        async with desk(place) as at:
            for _ in range(2 * REFUSALS_MAX):
                with pytest.raises(Refused):
                    await at.ask(StopCage("nobody"))
            monkeypatch.setattr("privd.policy.pace.REFUSAL_S", 0.001)
            await trio.sleep(0.01)  # more than one refusal of that pace
            with pytest.raises(Refused, match="no agent nobody"):
                await at.ask(StopCage("nobody"))

    trio.run(live)
    report = verify(place, None)
    assert report.faults == ()
    assert any("a caller asked too often" in notice for notice in report.notices)


def test_what_was_purged_is_no_fault(place: Path) -> None:
    async def live() -> None:
        async with desk(place) as at:
            await at.spawned("nova")
            await at.ask(DestroyCage("nova"))
            await at.ask(PurgeAgent("nova", "nova"))
            at.host.close()

    trio.run(live)
    assert told(place) == ""
