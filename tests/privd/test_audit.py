"""The audit log as it is written: a line before and after, whole after a crash, refused where the disk is full."""

import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from privd import audit_files
from privd.audit import Audit, audited
from privd.audit_files import BALLAST_BYTES, BALLAST_NAME, HEAD_NAME, NAME
from privd.policy.audit import About, Begin, End, Note, decode, head_line, head_of
from privd.policy.audit_chain import Chain
from privd.policy.pace import REFUSAL_S, REFUSALS_MAX
from privd.routes import CHANGES_NOTHING, ROUTES
from privd.verify import read_log
from protocol.configuration import ConfirmHealth
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Role, Watch
from runtime.log import logger
from tests.support.dialogue import ROUTES as SMALL
from tests.support.dialogue import Break, Count, Echo, Refuse, Room, new_room

pytestmark = pytest.mark.anyio

OPERATOR = Caller(Role.OPERATOR, 1000)
BROKER = Caller(Role.BROKER, 7)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    found = Audit(tmp_path, logger("test"))
    yield found
    found.close()


def lines(folder: Path) -> list[Begin | End | Note]:
    return [decode(each) for each in (folder / NAME).read_bytes().splitlines()]


def chain(folder: Path) -> Chain:
    return read_log(folder, {})[0]


def faults(folder: Path) -> list[str]:
    return chain(folder).faults


async def deeds(audit: Audit, count: int, op: str = "start_cage") -> None:
    for number in range(count):
        async with audit.effect(op, "iris", number + 1):
            pass


async def test_the_beginning_is_on_the_disk_before_anything_is_done(audit: Audit, tmp_path: Path) -> None:
    async with audit.effect("approve", "iris", 7, by="operator", uid=12, frame="ab" * 32) as said:
        [begin] = lines(tmp_path)
        assert isinstance(begin, Begin)
        assert (begin.seq, begin.by, begin.uid, begin.op) == (1, "operator", 12, "approve")
        assert (begin.agent, begin.number, begin.frame) == ("iris", 7, "ab" * 32)
        said.detail = "red\x1b[31m"
    end = lines(tmp_path)[1]
    assert isinstance(end, End)
    assert (end.seq, end.of, end.verdict, end.detail) == (2, 1, "done", "red\\x1b[31m")
    first, _ = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    assert end.prev == sha256(first).hexdigest()
    assert faults(tmp_path) == []
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Refused(Problem.CONFLICT, "not now"), "conflict"),
        (ZeroDivisionError(), "defect"),
    ],
)
async def test_the_end_says_what_came_of_it(
    audit: Audit, tmp_path: Path, fault: Exception, verdict: str
) -> None:
    with pytest.raises(type(fault)):
        async with audit.effect("deny", "iris"):
            raise fault
    end = lines(tmp_path)[1]
    assert isinstance(end, End)
    assert (end.verdict, end.detail) == (verdict, "not now" if verdict == "conflict" else "")


async def test_what_a_stop_gives_up_has_an_end_too(audit: Audit, tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with audit.effect("stop_cage", "iris"):
            scope.cancel()
            await trio.sleep_forever()
    end = lines(tmp_path)[1]
    assert isinstance(end, End)
    assert end.verdict == "cancelled"


async def test_many_at_once_make_one_chain(audit: Audit, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(deeds, audit, 3)
    assert faults(tmp_path) == []
    assert [line.seq for line in lines(tmp_path)] == list(range(1, 49))


async def test_it_goes_on_where_it_was_left(audit: Audit, tmp_path: Path) -> None:
    await deeds(audit, 2)
    audit.close()
    await audit.started("again")
    assert [line.seq for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    assert faults(tmp_path) == []


@pytest.mark.parametrize("torn", [b"{", b'{"line":"end","seq":', b"\0" * 300, b"\0" * 40 + b"\n"])
async def test_a_torn_line_is_taken_away_and_told(audit: Audit, tmp_path: Path, torn: bytes) -> None:
    await deeds(audit, 1)
    audit.close()
    with (tmp_path / NAME).open("ab") as file:
        file.write(torn)
    await deeds(audit, 1)
    note = lines(tmp_path)[2]
    assert isinstance(note, Note)
    assert note.about is About.REPAIRED
    assert f"{len(torn)} bytes after line 2" in note.detail
    assert faults(tmp_path) == []


async def test_a_torn_first_line_leaves_an_empty_log(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"line":"no')
    await deeds(audit, 1)
    assert isinstance(lines(tmp_path)[0], Note)
    assert faults(tmp_path) == []


async def test_lines_that_went_are_missed_for_good(audit: Audit, tmp_path: Path) -> None:
    await deeds(audit, 3)
    audit.close()
    whole = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / NAME).write_bytes(b"".join(whole[:4]))
    assert faults(tmp_path) == ["the log ends with line 4, but audit.head tells of line 6"]
    await deeds(audit, 1)
    note = lines(tmp_path)[4]
    assert isinstance(note, Note)
    assert (note.seq, note.about) == (7, About.CUT)
    assert any("line 5 to 6 of the audit log is missing" in fault for fault in faults(tmp_path))


async def test_a_last_line_that_was_changed_is_found_though_nothing_follows(
    audit: Audit, tmp_path: Path
) -> None:
    await deeds(audit, 1)
    audit.close()
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes().replace(b'"verdict":"done"', b'"verdict":"busy"'))
    assert faults(tmp_path) == ["line 2 is not the one that audit.head tells of"]
    await deeds(audit, 1)
    assert any("line 2 of the audit log was changed" in fault for fault in faults(tmp_path))


async def test_a_head_that_is_behind_or_gone_is_no_fault(audit: Audit, tmp_path: Path) -> None:
    """A power cut may keep the newest line and lose the head of it."""
    await deeds(audit, 1)
    audit.close()
    first = lines(tmp_path)[0]
    (tmp_path / HEAD_NAME).write_bytes(head_line(head_of(first)))
    await deeds(audit, 1)
    audit.close()
    (tmp_path / HEAD_NAME).unlink()
    await deeds(audit, 1)
    audit.close()
    (tmp_path / HEAD_NAME).write_bytes(b"nonsense")
    await deeds(audit, 1)
    assert faults(tmp_path) == []


async def test_a_damaged_file_is_set_aside_and_never_forgotten(audit: Audit, tmp_path: Path) -> None:
    await deeds(audit, 40)
    audit.close()
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(b"\xff" * len(content))
    await deeds(audit, 1)
    [aside] = tmp_path.glob("audit-damaged-*")
    assert aside.read_bytes() == b"\xff" * len(content)
    told = "\n".join(faults(tmp_path))
    assert "lines before 81 are missing" in told
    assert aside.name in told


async def test_files_follow_each_other_and_the_oldest_goes(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_files, "FILE_BYTES_MAX", 1_000)
    monkeypatch.setattr(audit_files, "FILES_MAX", 3)
    await deeds(audit, 30)
    audit.close()
    await deeds(audit, 2)
    older = sorted(tmp_path.glob("audit-0*.log"))
    assert len(older) == 3
    assert all(path.stat().st_size < 1_000 + 400 for path in (*older, tmp_path / NAME))
    found = chain(tmp_path)
    assert found.faults == []
    assert found.first is not None
    assert found.first.seq > 1
    assert any(note.about is About.DROPPED for note in found.notes)
    older[0].unlink()
    assert any("are missing, and no note says" in fault for fault in faults(tmp_path))


async def test_a_crash_between_two_files_leaves_one_chain(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deeds(audit, 2)
    audit.close()
    (tmp_path / NAME).rename(tmp_path / "audit-000000000004.log")
    await deeds(audit, 1)
    assert faults(tmp_path) == []
    assert lines(tmp_path)[0].seq == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
async def test_a_full_disk_refuses_the_effect_and_owes_the_ends(small_disk: Path) -> None:
    """Only what makes room is done, as long as the ballast lasts."""
    audit = Audit(small_disk, logger("test"))
    await deeds(audit, 1)
    assert (small_disk / BALLAST_NAME).stat().st_size == BALLAST_BYTES
    filling = small_disk / "filling"
    fill(filling)
    done, refused = await as_often_as_it_is_taken(audit, "start_cage", "operator")
    assert refused.problem is Problem.STORAGE_FULL
    assert str(small_disk) in refused.detail
    assert (small_disk / BALLAST_NAME).stat().st_size == BALLAST_BYTES
    while (small_disk / BALLAST_NAME).stat().st_size:  # what is left of the newest page, then the ballast
        await deed(audit, "stop_cage", "operator")
        done += 1
    for op, by in (("start_cage", "operator"), ("stop_cage", "broker"), ("renew", "privd")):
        with pytest.raises(Refused, match="No space left"):
            await deed(audit, op, by)
    await deed(audit, "purge_agent", "operator")
    fill(small_disk / "more")
    more, refused = await as_often_as_it_is_taken(audit, "stop_cage", "operator")
    assert refused.problem is Problem.STORAGE_FULL
    assert faults(small_disk) == []
    filling.unlink()
    await deeds(audit, 1)
    found = chain(small_disk)
    assert found.faults == []
    assert [each for each in found.actions if not each.verdict] == []
    assert len(found.actions) == 1 + done + 1 + more + 1
    assert (small_disk / BALLAST_NAME).stat().st_size == BALLAST_BYTES
    audit.close()


async def deed(audit: Audit, op: str, by: str) -> None:
    async with audit.effect(op, "iris", by=by):
        pass


async def as_often_as_it_is_taken(audit: Audit, op: str, by: str) -> tuple[int, Refused]:
    done = 0
    while True:
        try:
            async with audit.effect(op, "iris", by=by):
                done += 1
        except Refused as refused:
            return done, refused


def fill(path: Path) -> None:
    """Take all that is left of the disk."""
    with path.open("wb", buffering=0) as file:
        for size in (64 * 1024, 4096, 1):
            try:
                while True:
                    file.write(b"\xaa" * size)
            except OSError:
                continue


async def test_a_disk_that_breaks_refuses_too(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deeds(audit, 1)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(Refused, match="Input/output error"):
            await deeds(audit, 1)
    await deeds(audit, 1)
    assert faults(tmp_path) == []
    assert [each.verdict for each in chain(tmp_path).actions] == ["done", "done"]


def test_every_request_but_the_named_ones_is_told(tmp_path: Path) -> None:
    """Watches, and names that say that nothing is changed. Whatever is new is told unless somebody says otherwise."""
    routes = audited(ROUTES, CHANGES_NOTHING, Audit(tmp_path, logger("test")))
    silent = {before.request for before, after in zip(ROUTES, routes, strict=True) if before is after}
    assert silent == CHANGES_NOTHING | {route.request for route in ROUTES if issubclass(route.request, Watch)}
    assert {route.request for route in ROUTES} >= CHANGES_NOTHING
    verbs = ("Hello", "List", "Read", "Show", "Measure", "Watch")
    assert {request for request in silent if not request.__name__.startswith(verbs)} == {ConfirmHealth}
    assert [(route.request, route.callers) for route in routes] == [
        (route.request, route.callers) for route in ROUTES
    ]


async def test_a_request_is_told_with_who_asked_and_the_digest_of_its_frame(
    audit: Audit, tmp_path: Path
) -> None:
    room = new_room()
    await asked(audit, room, Echo("hello"))
    with pytest.raises(Refused):
        await asked(audit, room, Refuse(Problem.LIMIT))
    with pytest.raises(ZeroDivisionError):
        await asked(audit, room, Break())
    found = chain(tmp_path).actions
    assert [(each.op, each.by, each.uid, each.verdict) for each in found] == [
        ("echo", "operator", 1000, "done"),
        ("refuse", "operator", 1000, "limit"),
        ("break", "operator", 1000, "defect"),
    ]
    assert found[0].frame == sha256(b'{"op":"echo","text":"hello"}').hexdigest()
    assert room.heard == ["hello"]


async def asked(audit: Audit, room: Room, request: Echo | Refuse | Break) -> None:
    routes = {route.request: route for route in audited(SMALL, frozenset({Count}), audit)}
    await routes[type(request)].handler(request, OPERATOR, room)


async def test_whoever_is_refused_again_and_again_fills_no_log(audit: Audit, tmp_path: Path) -> None:
    """Nothing is written for what is too much; how much it was stands before what is taken next."""
    now_s = 0.0
    told = audited(SMALL, frozenset({Count}), audit, lambda: now_s)
    routes, room = {route.request: route for route in told}, new_room()

    async def verdicts(request: Echo | Refuse, count: int, caller: Caller = BROKER) -> list[Problem | None]:
        found: list[Problem | None] = []
        for _ in range(count):
            try:
                await routes[type(request)].handler(request, caller, room)
                found.append(None)
            except Refused as refused:
                found.append(refused.problem)
        return found

    wanted = [Problem.CONFLICT] * REFUSALS_MAX + [Problem.LIMIT] * 50
    assert await verdicts(Refuse(Problem.CONFLICT), REFUSALS_MAX + 50) == wanted
    assert len(lines(tmp_path)) == 2 * REFUSALS_MAX
    assert await verdicts(Echo("not heard"), 1) == [Problem.LIMIT]
    assert await verdicts(Echo("of root"), 1, OPERATOR) == [None]
    now_s += REFUSAL_S
    assert await verdicts(Echo("later"), 2) == [None, None]
    assert room.heard == ["of root", "later", "later"]
    note = lines(tmp_path)[2 * REFUSALS_MAX + 2]
    assert isinstance(note, Note)
    assert note.about is About.UNTOLD
    assert note.detail.startswith("51 requests of broker, uid 7,")
    assert len(lines(tmp_path)) == 2 * REFUSALS_MAX + 2 + 1 + 4
    assert faults(tmp_path) == []


KILLED = """
import sys
from pathlib import Path
import trio
from privd import audit_files
from privd.audit import Audit
from runtime.log import logger

audit_files.FILE_BYTES_MAX = 4_000
audit_files.FILES_MAX = 4

async def main(place):
    audit = Audit(place, logger("test"))
    await audit.started("here")
    print("up", flush=True)
    number = 0
    while True:
        number += 1
        async with audit.effect("start_cage", "iris", number):
            print(number, flush=True)

trio.run(main, Path(sys.argv[1]))
"""


def test_killed_at_any_moment_the_chain_holds_and_nothing_was_done_untold(tmp_path: Path) -> None:
    """What was done stands in the log: it was there before."""
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"up\n"
            for _ in range(7):
                writer.stdout.readline()
            writer.kill()
            done = [int(line) for line in writer.stdout.read().splitlines() if line.isdigit()]
        found = chain(tmp_path)
        assert found.faults == []
        told = {each.number for each in found.actions}
        assert set(done[-5:]) <= told
