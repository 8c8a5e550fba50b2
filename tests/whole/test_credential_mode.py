"""The main job with the real Claude Code CLI in cages that hold no key: egressd adds it to each request on the way out.

The Messages API is scripted, speaks TLS with a certificate that egressd is told to trust, and listens on this machine's
loopback, which no cage can reach. Then everything that is in a cage is searched for the key while the CLI runs there.
"""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from protocol.brokerd import ListMessages, ReadTail
from protocol.messages import DeliveryState, Message
from protocol.tools import Send
from protocol.turns import Outcome, ToolCalled
from runtime.client import Client
from runtime.clock import new_key
from tests.security.inside import leader, run_inside
from tests.security.peers import Question, ask_all
from tests.security.population import users
from tests.support.certificates import make_certificate
from tests.support.hive import RunningHive, hive
from tests.support.scripted_api import ScriptedApi
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[2] / ".hive/claude/claude"
ADDRESS = "127.0.0.2"
KEY = f"sk-ant-scripted-{secrets.token_hex(12)}"
PLACEHOLDER = "held-by-egressd"
"""What the CLI takes for its key."""
CONVERSATION_MS = 120_000
PIECE_S = 1.0
"""How long the scripted model thinks over each piece of an answer, so that a CLI can be looked at while it runs."""
NOT_LOOKED_INTO: Final = frozenset({"proc", "sys", "dev", "usr", "opt", "bin", "lib", "lib64", "sbin"})
"""The machine's own programs, read-only, and what the kernel makes up."""
CHUNK_BYTES: Final = 4 * 1024 * 1024
PAGE: Final = os.sysconf("SC_PAGESIZE")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    pytest.mark.cage,
    pytest.mark.cli,
    pytest.mark.root,
    pytest.mark.skipif(not PROGRAM.exists(), reason="no Claude Code CLI: run ./hive env claude"),
]

SETTINGS = """
[model]
credential = "egress"
base_url = {base_url}
allow_private = [{host}]
ca_file = {ca_file}
key_file = {key_file}
"""
PROBE = r"""
def connect(family, address):
    with socket.socket(family) as s:
        s.settimeout(3)
        s.connect(address)

def ask(path, text):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(path)
        s.sendall(text.encode())
        answer = b""
        while data := s.recv(65536):
            answer += data
        return answer.decode()

address, port = sys.argv[1], int(sys.argv[2])
model = "/run/hive/egress/model.sock"
print(json.dumps({
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "api": attempt(lambda: connect(socket.AF_INET, (address, port))),
    "tunnel": ask("/run/hive/egress/egress.sock", f"CONNECT {address}:{port} HTTP/1.1\r\n\r\n"),
    "files": ask(model, "GET /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "models": ask(model, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: mine\r\nConnection: close\r\n\r\n"),
    "credentials": sorted(os.listdir("/agents/iris/claude")),
}))
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedApi, str]]:
    """The scripted API and the hive.toml that leads to it."""
    folder = tmp_path_factory.mktemp("model")
    certificate = make_certificate(folder, ADDRESS)
    key_file = folder / "key"
    key_file.write_text(f"{KEY}\n")
    key_file.chmod(0o600)
    with ScriptedApi(address=ADDRESS, certificate=certificate.certificate, key=certificate.key) as running:
        yield (
            running,
            SETTINGS.format(
                base_url=json.dumps(running.url("colleague", host=ADDRESS, delay=PIECE_S)),
                host=json.dumps(f"{ADDRESS}:{running.port}"),
                ca_file=json.dumps(str(certificate.authority)),
                key_file=json.dumps(str(key_file)),
            ),
        )


@pytest.fixture(scope="module")
def keyless_hive(api: tuple[ScriptedApi, str]) -> Iterator[RunningHive]:
    program = {"HIVE_CLAUDE": str(PROGRAM.resolve())}
    with hive("--runner", "claude", "--agents", "iris", settings=api[1], environment=program) as running:
        yield running


async def test_a_conversation_without_a_key_in_any_cage(
    keyless_hive: RunningHive, api: tuple[ScriptedApi, str]
) -> None:
    """And while the CLI runs for iris, the key is nowhere in her cage."""
    async with Client(keyless_hive.socket("brokerd")) as brokerd:
        sent = await brokerd.call(Send(to="hm1nd", body="tell iris hello", key=new_key()))
        cli = await until(
            lambda: running_cli(keyless_hive, "iris"), what="iris's CLI", deadline_ms=CONVERSATION_MS
        )
        await trio.to_thread.run_sync(search_cage, keyless_hive, "iris", cli)

        found = await answered(brokerd, sent.message)
        routes = [(message.sender, message.to) for message in found]
        assert routes == [("operator", "hm1nd"), ("hm1nd", "iris"), ("iris", "hm1nd"), ("hm1nd", "operator")]
        for agent in ("hm1nd", "iris"):
            tail = await brokerd.call(ReadTail(agent=agent))
            assert {item.turn.outcome for item in tail.turns} == {Outcome.DONE}
            assert any(isinstance(event, ToolCalled) for item in tail.turns for event in item.events)
    assert api[0].turns
    for request in api[0].requests:
        assert request.headers.get("x-api-key") == KEY
        assert "authorization" not in request.headers
        assert PLACEHOLDER not in json.dumps(request.headers)


async def answered(brokerd: Client, asked: int) -> tuple[Message, ...]:
    """Every message, once the operator's was answered and all deliveries are done."""

    async def look() -> tuple[Message, ...] | None:
        page = await brokerd.call(ListMessages())
        found = tuple(reversed(page.messages))
        came = any(m.to == "operator" and m.in_reply_to == asked for m in found)
        done = all(
            receipt.state is DeliveryState.DONE
            for message in found
            for receipt in message.deliveries
            if receipt.recipient != "operator"
        )
        return found if came and done else None

    return await until(look, what="the answer to the operator", deadline_ms=CONVERSATION_MS)


def test_the_cage_has_no_way_but_egressds_sockets(
    keyless_hive: RunningHive, api: tuple[ScriptedApi, str]
) -> None:
    seen = run_inside(keyless_hive, "iris", PROBE, ADDRESS, str(api[0].port))
    assert seen["interfaces"] == ["lo"]
    assert seen["routes"] == []
    assert "refused" in seen["api"]
    assert seen["tunnel"].startswith("HTTP/1.1 403"), (
        "an agent without a key needs no tunnel to the model API"
    )
    assert seen["files"].startswith("HTTP/1.1 403")
    assert '"permission_error"' in seen["files"]
    assert seen["models"].startswith("HTTP/1.1 200")
    assert "api_key" not in seen["credentials"]


def test_nobody_but_the_cage_asks_at_its_model_socket(keyless_hive: RunningHive) -> None:
    """Everybody else of the machine is closed without a byte: a model socket is as good as the key."""
    path = keyless_hive.places.run / "agents" / "iris" / "egress" / "model.sock"
    said = b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    people = users(keyless_hive)
    assert len(people) == 12
    for who, user in people.items():
        heard = ask_all(user, {"model": Question(path, said)})["model"]
        if who in {"iris init", "iris agent", "iris harness"}:
            assert heard.said.startswith(b"HTTP/1.1 403 "), (who, heard)
        else:
            assert heard.is_silence, (who, heard)


def test_only_egressds_copy_holds_the_key(keyless_hive: RunningHive) -> None:
    """Of all files of the hive; and of all processes but the one that the test runs in."""
    places = keyless_hive.places
    holders = {
        path
        for path in places.state.rglob("*")
        if path.is_file() and not path.is_symlink() and KEY.encode() in path.read_bytes()
    }
    copy = places.state / "egress" / "default.key"
    assert holders == {copy}
    folder = copy.parent.stat()
    assert (copy.stat().st_mode & 0o777, folder.st_mode & 0o777, folder.st_uid) == (0o400, 0o710, 0)
    status = Path(f"/proc/{keyless_hive.daemon_pid('egressd')}/status").read_text()
    assert f"\nUid:\t{copy.stat().st_uid}\t" in status
    for pid in processes():
        assert KEY.encode() not in told_at_start(pid), pid


async def test_egressd_may_die_and_comes_back_with_the_key(keyless_hive: RunningHive) -> None:
    async with Client(keyless_hive.socket("brokerd")) as brokerd:
        keyless_hive.kill_daemon("egressd")
        sent = await brokerd.call(Send(to="iris", body="are you there?", key=new_key()))
        found = await answered(brokerd, sent.message)
    assert found[-1].body == "I heard: are you there?"


# ------------------------------------------------------------------------------------------------------- searching


def processes() -> Iterator[int]:
    own = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != own:
            yield int(entry.name)


def told_at_start(pid: int) -> bytes:
    """A process's arguments and environment; nothing when it has ended."""
    found = b""
    for name in ("cmdline", "environ"):
        try:
            found += Path(f"/proc/{pid}/{name}").read_bytes() + b"\0"
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def caged(hive: RunningHive, agent: str) -> dict[int, bytes]:
    """The processes of one cage by their pid outside, with what they were told at their start."""
    own = Path(f"/proc/{leader(hive, agent)}/ns/pid").readlink()
    found = {}
    for pid in processes():
        try:
            if Path(f"/proc/{pid}/ns/pid").readlink() == own:
                found[pid] = told_at_start(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def running_cli(hive: RunningHive, agent: str) -> int | None:
    """The pid of the CLI once it holds the placeholder that its helper gave it, so that it has asked for its key."""
    for pid, told in caged(hive, agent).items():
        if told.startswith(b"/opt/hive/claude/claude\0") and b"ANTHROPIC_UNIX_SOCKET=/run/hive/" in told:
            return pid
    return None


def search_cage(hive: RunningHive, agent: str, cli: int) -> None:
    key = KEY.encode()
    inhabitants = caged(hive, agent)
    assert cli in inhabitants, "the CLI ended before it was looked at"
    assert len(inhabitants) >= 4, "init, harness, spawner, CLI"
    looked = []
    for pid, told in inhabitants.items():
        assert key not in told, told[:200]
        if remembers(pid, key) is None:
            continue
        looked.append(pid)
        assert not remembers(pid, key), f"process {pid} of {agent}'s cage holds the key"
    assert cli in looked
    assert remembers(cli, b"ANTHROPIC_UNIX_SOCKET"), "the search of memory finds what is there"
    files = 0
    for path in cage_files(Path(f"/proc/{leader(hive, agent)}/root")):
        files += 1
        assert key not in path.read_bytes(), path
    assert files > 20


def cage_files(root: Path) -> Iterator[Path]:
    """Every regular file in a cage, as root finds it from outside."""
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in NOT_LOOKED_INTO]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def remembers(pid: int, what: bytes) -> bool | None:
    """Whether the bytes are in a process's writable memory, its stack and heaps; None when it has ended.

    Pages that were never touched hold nothing, and a JavaScript engine sets terabytes of them aside.
    """
    try:
        spans = [
            line.split()[0] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if " rw" in line
        ]
        with (
            Path(f"/proc/{pid}/mem").open("rb", 0) as memory,
            Path(f"/proc/{pid}/pagemap").open("rb", 0) as pages,
        ):
            return any(
                what in chunk for span in spans for chunk in touched(span, memory.fileno(), pages.fileno())
            )
    except (FileNotFoundError, ProcessLookupError):
        return None


def touched(span: str, memory: int, pages: int) -> Iterator[bytes]:
    """The pages of a span that are in memory or in swap, by chunks that overlap by a key's length."""
    first, last = (int(each, 16) // PAGE for each in span.split("-"))
    step = CHUNK_BYTES // PAGE
    before = b""
    for at in range(first, last, step):
        entries = os.pread(pages, 8 * min(step, last - at), 8 * at)
        try:
            chunk = os.pread(memory, min(step, last - at) * PAGE, at * PAGE) if any(entries[7::8]) else b""
        except OSError:  # freed in the meantime
            chunk = b""
        yield before + chunk
        before = chunk[-len(KEY) :]
