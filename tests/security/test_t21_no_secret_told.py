"""T21: the model key, login codes and session tokens are where they belong after a run, and nowhere else.

The key was planted in the hive's settings before it started (conftest); here the hive works, and then everything that
it wrote and everything that runs is searched.
"""

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from protocol.brokerd import ListMessages
from protocol.tools import Send
from runtime.client import Client
from runtime.clock import new_key
from tests.security.browser import Visitor
from tests.security.conftest import PLANTED_KEY
from tests.security.inside import print_inside
from tests.support.hive import RunningHive
from tests.support.waiting import until

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]


@pytest.fixture(scope="module")
def worked(secure_hive: RunningHive) -> Visitor:
    """A run: two agents spoke, an operator signed in and acted, a cage was started again."""

    async def speak() -> None:
        async with Client(secure_hive.socket("brokerd")) as brokerd:
            sent = await brokerd.call(Send(to="hm1nd", body="tell iris hello", key=new_key()))

            async def answered() -> bool:
                page = await brokerd.call(ListMessages())
                return any(each.in_reply_to == sent.message for each in page.messages)

            await until(answered, what="the answer to the operator")

    visitor = Visitor(secure_hive)
    trio.run(speak)
    assert visitor.act("/api/v1/send", to="iris", body="help")[0] == 200
    secure_hive.hivectl("restart", "iris")
    return visitor


@pytest.fixture(scope="module")
def secrets(worked: Visitor) -> dict[str, bytes]:
    return {
        "model key": PLANTED_KEY.encode(),
        "login code": worked.code.encode(),
        "session": worked.token.encode(),
    }


def files(hive: RunningHive) -> Iterator[Path]:
    for folder in (hive.places.state, hive.places.run):
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def spellings(secret: bytes) -> tuple[bytes, ...]:
    return (
        secret,
        base64.b64encode(secret).rstrip(b"="),
        secret.hex().encode(),
        secret.decode().encode("utf-16-le"),
    )


def holds(path: Path, secret: bytes) -> bool:
    content = path.read_bytes()
    return any(each in content for each in spellings(secret))


def test_t21_no_file_of_the_hive_holds_one(secure_hive: RunningHive, secrets: dict[str, bytes]) -> None:
    """Logs, journals, databases with their logs, settings, records, what a cage sees of its configuration."""
    agents = secure_hive.places.state / "agents"
    allowed = {agents / name / "claude" / "api_key" for name in ("hm1nd", "iris")}
    found = {
        (path, name) for path in files(secure_hive) for name, secret in secrets.items() if holds(path, secret)
    }
    assert found == {(path, "model key") for path in allowed}
    assert sum(1 for _ in files(secure_hive)) > 20


def test_t21_the_key_is_its_agents_own(secure_hive: RunningHive, secrets: dict[str, bytes]) -> None:
    for name in ("hm1nd", "iris"):
        key = secure_hive.places.state / "agents" / name / "claude" / "api_key"
        owner = next(cage["agent_uid"] for cage in secure_hive.hivectl("cages") if cage["agent"] == name)
        assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (owner, 0o400)
        assert key.read_bytes() == secrets["model key"]


def test_t21_no_command_line_and_no_environment_holds_one(secrets: dict[str, bytes]) -> None:
    """Of any process of the machine; pytest's own is where the secrets are known."""
    looked = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            try:
                content = (entry / name).read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            looked += 1
            for what, secret in secrets.items():
                assert not any(each in content for each in spellings(secret)), (entry, name, what)
    assert looked > 20


def test_t21_what_up_printed_holds_only_its_own_link(
    secure_hive: RunningHive, secrets: dict[str, bytes]
) -> None:
    said = "\n".join(secure_hive.lines).encode()
    assert not any(secret in said for secret in secrets.values())
    assert said.count(b"#code=") == 1


def test_t21_the_daemons_memory_of_the_key_is_roots_alone(
    secure_hive: RunningHive, secrets: dict[str, bytes]
) -> None:
    """Only privd ever read it; nobody else's memory may hold it."""
    for daemon in ("brokerd", "webd", "egressd"):
        assert secrets["model key"] not in memory(secure_hive.daemon_pid(daemon)), daemon


def memory(pid: int) -> bytes:
    """Everything that a process may write to."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw") and "[v" not in line:
                first, last = (int(each, 16) for each in span.split("-"))
                try:
                    mem.seek(first)
                    found.append(mem.read(last - first))
                except (OSError, ValueError):
                    continue
    return b"".join(found)


def test_t21_the_memory_test_can_find_something(secure_hive: RunningHive) -> None:
    assert b"sign_in" in memory(secure_hive.daemon_pid("webd"))


def test_t21_an_agent_does_not_find_anothers_key(secure_hive: RunningHive, secrets: dict[str, bytes]) -> None:
    """From inside iris's cage: hers alone, by every path that she can read."""
    script = """
import os, sys
key = sys.stdin.read().encode()
for place, folders, files in os.walk("/"):
    if place in ("/proc", "/sys", "/usr", "/opt", "/dev"):
        folders.clear()
        continue
    for name in files:
        try:
            with open(os.path.join(place, name), "rb") as f:
                if key in f.read(1 << 20):
                    print(os.path.join(place, name))
        except OSError:
            pass
"""
    found = print_inside(secure_hive, "iris", script, stdin=PLANTED_KEY)
    assert found.split() == ["/agents/iris/claude/api_key"]


def test_t21_the_checkout_holds_no_key() -> None:
    """A key in a test's text is planted; anything else that looks like one is a leak."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["git", "grep", "-nIE", r"sk-ant-(api|oat)[0-9]{2}-[A-Za-z0-9_-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    hits = [line for line in done.stdout.splitlines() if not line.startswith("tests/security/test_t21")]
    assert hits == []
