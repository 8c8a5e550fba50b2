"""T2 against the real daemons: whatever one client does, the next one is served, and the same process answers it.

Each attack is made by a peer that the socket admits: a stranger does not even get to say anything (T1).
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect as shape

from brokerd.routes import AGENT_ROUTES, OPERATOR_ROUTES
from privd.routes import ROUTES as PRIVD_ROUTES
from protocol.limits import (
    AGENT_CONNECTIONS_MAX,
    BROKER_FRAME_BYTES_MAX,
    CONNECTIONS_PER_UID_MAX,
    EGRESS_CONNECTIONS_MAX,
    FIRST_FRAME_S,
    FRAME_BODY_S,
    FRAME_BYTES_MAX,
    INTEGER_MAX,
)
from protocol.rpc import Request, Role, Route, Watch
from tests.security.inside import leader, run_inside
from tests.security.peers import HELLO, Asking, Heard, Question, User, ask_all
from tests.security.population import away, cages
from tests.security.population import users as users_of
from tests.support.hive import RunningHive
from tests.support.shapes import example
from webd.routes import ROUTES as WEBD_ROUTES

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

SERVED_WITHIN_S = 3.0
"""Of a second client while the first attacks; the promise is twice the usual, which a busy machine cannot show."""
GROWTH_BYTES_MAX = 96 << 20
SLACK_S = 4.0
MORE = 20
BYSTANDER = "edgar"
"""An agent whose cage does not run: its socket is there, and nobody else speaks at it."""
SOCKETS: dict[str, tuple[str, str, str]] = {
    "privd/operator": ("privd", "root", "privd/operator.sock"),
    "privd/swarm": ("privd", "broker", "privd/swarm.sock"),
    "privd/egress": ("privd", "egress", "privd/egress.sock"),
    "brokerd/operator": ("brokerd", "root", "brokerd/operator.sock"),
    "webd/operator": ("webd", "root", "webd/operator.sock"),
    "egressd/operator": ("egressd", "root", "egressd/operator.sock"),
    "an agent's broker": ("brokerd", f"{BYSTANDER} harness", f"agents/{BYSTANDER}/broker/broker.sock"),
}
"""The daemon, a peer it admits, and where."""
LARGEST = BROKER_FRAME_BYTES_MAX
BAD = {
    "nothing": b"\n",
    "no JSON": b"hello\n",
    "half of JSON": b'{"op":"hello"\n',
    "a list": b"[]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "no operation": b"{}\n",
    "an unknown operation": b'{"op":"become_root"}\n',
    "an operation that is no text": b'{"op":7}\n',
    "an unknown field": b'{"op":"hello","sudo":true}\n',
    "a key of another type": b'{1:"hello"}\n',
    "not UTF-8": b'{"op":"hello\xff\xfe"}\n',
    "overlong UTF-8": b'{"op":"\xc0\xaehello"}\n',
    "half a surrogate": b'{"op":"hello\\ud800"}\n',
    "NUL inside": b'{"op":"hello\\u0000"}\n',
    "NUL bytes": b"\0" * 100 + b"\n",
    "a byte order mark": b'\xef\xbb\xbf{"op":"hello"}\n',
    "deep lists": b"[" * 60_000 + b"\n",
    "deep objects": b'{"op":' * 9_000 + b"\n",
    "a deep value": b'{"op":"hello","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
    "an endless number": b'{"op":' + b"9" * 60_000 + b"}\n",
    "an endless exponent": b'{"op":1e99999999}\n',
    "too long, with an end": b'{"op":"' + b"x" * LARGEST + b'"}\n',
    "too long, without an end": b'{"op":"' + b"x" * (LARGEST + FRAME_BYTES_MAX),
    "megabytes": b"x" * (8 << 20),
    "a web request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a TLS greeting": bytes.fromhex("16030100c8010000c40303") + b"\0" * 50 + b"\n",
    "two requests at once": HELLO + HELLO,
    "a request behind a bad one": b"{}\n" + HELLO,
}
AT_ROOTS = {
    "a key twice": b'{"op":"hello","op":"hello"}\n',
    "a space": b'{"op": "hello"}\n',
    "a carriage return": b'{"op":"hello"}\r\n',
    "an escape that need not be": b'{"op":"h\\u0065llo"}\n',
    "another order": b'{"agent":"iris","op":"start_cage"}\n',
    "a default left out": b'{"op":"stop_cage","agent":"iris"}\n',
}
"""What privd refuses beside: bytes that are not exactly what our own encoder writes."""


@pytest.fixture(scope="module")
def hive(secure_hive: RunningHive) -> Iterator[RunningHive]:
    secure_hive.hivectl("spawn", BYSTANDER)
    secure_hive.hivectl("stop", BYSTANDER)
    yield secure_hive
    away(secure_hive, BYSTANDER)


@pytest.fixture(scope="module")
def everybody(hive: RunningHive) -> dict[str, User]:
    return users_of(hive)


@pytest.fixture(autouse=True)
def alive(hive: RunningHive) -> Iterator[None]:
    """The daemons are the same processes afterwards, not much larger, and none of them met a defect."""
    names = ("privd", "brokerd", "webd", "egressd")
    before = {name: hive.daemon_pid(name) for name in names}
    sizes = {name: resident_bytes(pid) for name, pid in before.items()}
    defects = {name: count_defects(hive, name) for name in names}
    yield
    assert {name: hive.daemon_pid(name) for name in names} == before
    assert {name: count_defects(hive, name) for name in names} == defects
    for name, pid in before.items():
        assert resident_bytes(pid) - sizes[name] < GROWTH_BYTES_MAX, name


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count_defects(hive: RunningHive, daemon: str) -> int:
    return (hive.places.logs / f"{daemon}.log").read_text().count("defect")


def greeted_within_s(hive: RunningHive, everybody: dict[str, User], socket: str) -> float:
    _, who, path = SOCKETS[socket]
    heard = ask_all(everybody[who], {"hello": Question(hive.places.run / path)})["hello"]
    assert heard.answer["ok"]["daemon"], heard
    return heard.took_s


@pytest.mark.parametrize("socket", SOCKETS)
def test_t2_bad_frames_are_refused(hive: RunningHive, everybody: dict[str, User], socket: str) -> None:
    daemon, who, path = SOCKETS[socket]
    said = BAD | (AT_ROOTS if daemon == "privd" else {})
    place = hive.places.run / path
    for part in batches(list(said), AGENT_CONNECTIONS_MAX // 2):
        heard = ask_all(everybody[who], {name: Question(place, said[name]) for name in part})
        for name in part:
            answer = heard[name].said.splitlines()
            assert answer, (name, heard[name])
            assert json.loads(answer[0])["problem"] == "malformed", (name, answer[0][:300])
            assert len(answer) == 1, (name, "something was done behind the refusal")
            assert all(32 <= byte < 127 for byte in answer[0]), name
            assert len(answer[0]) < 1_000, name
    assert greeted_within_s(hive, everybody, socket) < SERVED_WITHIN_S


def batches(names: list[str], size: int) -> list[list[str]]:
    return [names[at : at + size] for at in range(0, len(names), size)]


def test_t2_slow_and_silent_clients_are_given_up_everywhere(
    hive: RunningHive, everybody: dict[str, User]
) -> None:
    """Silence, half a frame, a byte short of one, and a flood of them at the way out of a cage: all at once."""
    way_out = hive.places.run / "agents" / "iris" / "egress" / "egress.sock"
    half = Question(way_out, b"CONNECT a", finish=False, patience_s=20)
    flood = Asking(everybody["iris agent"], {str(n): half for n in range(EGRESS_CONNECTIONS_MAX + MORE)})
    asking = {}
    for socket, (_, who, path) in SOCKETS.items():
        place = hive.places.run / path
        asking[socket] = Asking(
            everybody[who],
            {
                "silence": Question(place, b"", finish=False, patience_s=20),
                "half a frame": Question(place, b'{"op"', finish=False, patience_s=20),
                "without its end": Question(place, HELLO.rstrip(), finish=False, patience_s=20),
                "left at once": Question(place, b""),
                "left in the middle": Question(place, b'{"op"'),
            },
        )
    for socket in SOCKETS:
        assert greeted_within_s(hive, everybody, socket) < SERVED_WITHIN_S
    for socket, each in asking.items():
        heard = each.answers()
        assert heard["silence"].took_s == pytest.approx(FIRST_FRAME_S, abs=SLACK_S), socket
        for name in ("half a frame", "without its end"):
            assert heard[name].took_s == pytest.approx(FRAME_BODY_S, abs=SLACK_S), (socket, name)
            assert heard[name].answer["problem"] == "malformed"
        for name in ("left at once", "left in the middle"):
            assert heard[name].is_silence, (socket, name)
            assert heard[name].took_s < FIRST_FRAME_S
    statuses = [heard.said.split(b" ")[1] for heard in flood.answers().values()]
    assert set(statuses) == {b"408", b"503"}, "given up in time, or turned away"
    assert MORE <= statuses.count(b"503") <= MORE + 10
    after = Question(way_out, b"CONNECT nowhere.invalid:443 HTTP/1.1\r\n\r\n")
    assert ask_all(everybody["iris agent"], {"it": after})["it"].said.startswith(b"HTTP/1.1 403")


def test_t2_a_flood_takes_its_own_places_only(hive: RunningHive, everybody: dict[str, User]) -> None:
    """More connections than one uid may hold, at three sockets at once; other uids and other sockets are served."""
    flooded = {
        "privd/operator": CONNECTIONS_PER_UID_MAX,
        "brokerd/operator": CONNECTIONS_PER_UID_MAX,
        "an agent's broker": AGENT_CONNECTIONS_MAX,
    }
    asking = {}
    for socket, own_max in flooded.items():
        _, who, path = SOCKETS[socket]
        silence = Question(hive.places.run / path, b"", finish=False, patience_s=20)
        asking[socket] = Asking(everybody[who], {str(n): silence for n in range(own_max + MORE)})
    for socket in ("privd/operator", "brokerd/operator"):
        began = time.monotonic()
        heard = ask_all(everybody["web"], {"hello": Question(hive.places.run / SOCKETS[socket][2])})["hello"]
        assert heard.answer["ok"]["daemon"]
        assert time.monotonic() - began < SERVED_WITHIN_S
    assert greeted_within_s(hive, everybody, "webd/operator") < SERVED_WITHIN_S
    for each in asking.values():
        problems = [heard.answer["problem"] for heard in each.answers().values()]
        assert set(problems) == {"busy", "malformed"}, "some are turned away, the others are given up in time"
        assert MORE <= problems.count("busy") <= MORE + 10, "the hive itself holds a few places"
    for socket in flooded:
        assert greeted_within_s(hive, everybody, socket) < SERVED_WITHIN_S


def test_t2_a_flood_of_strangers_takes_no_places(hive: RunningHive, everybody: dict[str, User]) -> None:
    """Sockets that everybody may knock at: each knock is a look at a uid and no more."""
    asking = []
    for socket in ("brokerd/operator", "webd/operator", "egressd/operator"):
        place = hive.places.run / SOCKETS[socket][2]
        knocks = {str(n): Question(place, HELLO, finish=False) for n in range(300)}
        asking.append(Asking(everybody["stranger"], knocks))
    for socket in ("brokerd/operator", "webd/operator", "egressd/operator"):
        assert greeted_within_s(hive, everybody, socket) < SERVED_WITHIN_S
    for each in asking:
        assert all(heard.is_silence for heard in each.answers().values())


def test_t2_who_never_reads_keeps_nobody(hive: RunningHive, everybody: dict[str, User]) -> None:
    """Large answers and endless watches that nobody takes."""
    for _ in range(8):
        hive.hivectl("send", BYSTANDER, "x" * 60_000)
    run = hive.places.run
    snapshot = json.loads(ask_all(everybody["root"], {
        "it": Question(run / "brokerd/operator.sock", b'{"op":"take_snapshot"}\n')
    })["it"].said)["ok"]  # fmt: skip
    watch = json.dumps({"op": "watch_feed", "epoch": snapshot["epoch"], "since": 0}).encode() + b"\n"
    holding = Asking(
        everybody["root"],
        {
            **{
                f"page {n}": Question(
                    run / "brokerd/operator.sock", b'{"op":"list_messages"}\n', finish=False, patience_s=6, read=False
                )
                for n in range(16)
            },
            **{
                f"feed {n}": Question(run / "brokerd/operator.sock", watch, finish=False, patience_s=6, read=False)
                for n in range(8)
            },
            **{
                f"cages {n}": Question(
                    run / "privd/operator.sock", b'{"op":"watch_cages"}\n', finish=False, patience_s=6, read=False
                )
                for n in range(8)
            },
        },
    )  # fmt: skip
    for socket in ("privd/operator", "brokerd/operator", "webd/operator"):
        assert greeted_within_s(hive, everybody, socket) < SERVED_WITHIN_S
    sent = hive.hivectl("send", BYSTANDER, "still heard")
    assert sent["recipients"] == [BYSTANDER]
    holding.answers()
    log = (hive.places.logs / "brokerd.log").read_text()
    assert "the peer did not take its reply in time" in log


TABLES: dict[str, tuple[Sequence[Route[Any]], Role]] = {
    "privd/operator": (PRIVD_ROUTES, Role.OPERATOR),
    "brokerd/operator": (OPERATOR_ROUTES, Role.OPERATOR),
    "webd/operator": (WEBD_ROUTES, Role.OPERATOR),
    "an agent's broker": (AGENT_ROUTES, Role.AGENT),
}
CHANGE_THE_WORLD = {
    "start_cage", "stop_cage", "restart_cage", "destroy_cage", "purge_agent", "mint_login",
}  # fmt: skip
LONG = "\U0001f600"


@pytest.mark.parametrize("socket", TABLES)
def test_t2_no_value_of_any_field_meets_a_defect(
    hive: RunningHive, everybody: dict[str, User], socket: str
) -> None:
    """Every request with each of its fields at and past its bounds: an answer or a refusal, never an incident."""
    routes, _ = TABLES[socket]
    _, who, path = SOCKETS[socket]
    said: dict[str, bytes] = {}
    for route in routes:
        if route.request.operation() not in CHANGE_THE_WORLD:
            for name, words in strange(route.request).items():
                said[name] = msgspec.json.encode(words) + b"\n"
    assert len(said) > 5
    place = hive.places.run / path
    for part in batches(list(said), AGENT_CONNECTIONS_MAX // 2):
        for name, heard in ask_all(
            everybody[who], {name: Question(place, said[name]) for name in part}
        ).items():
            assert_no_incident(name, heard)


def assert_no_incident(name: str, heard: Heard) -> None:
    for line in heard.said.splitlines():
        assert json.loads(line).get("problem") != "internal", (name, line)


def strange(request: type[Request]) -> dict[str, dict[str, Any]]:
    """Variants of one request by name, each with one field at an edge."""
    whole = example(request) | ({"wait_s": 0} if "wait_s" in example(request) else {})
    found = {request.operation(): whole}
    info = shape.type_info(request)
    assert isinstance(info, shape.StructType)
    for field in info.fields:
        for value in edges(field.type):
            found[f"{request.operation()} {field.name} {str(value)[:12]} {len(found)}"] = whole | {
                field.encode_name: value
            }
    return found


def edges(info: shape.Type) -> list[Any]:
    match info:
        case shape.UnionType(types=types):
            return [None, *(edge for each in types for edge in edges(each))]
        case shape.Metadata(type=inner):
            return edges(inner)
        case shape.IntType(ge=least, le=most):
            top = INTEGER_MAX if most is None else most
            large = [] if info.le is not None and info.le < 1_000 else [top, top + 1, 2**63, 10**300]
            return [least or 0, (least or 0) - 1, *large]
        case shape.StrType(pattern=None, max_length=most):
            return ["", "\0", "\u202e\x1b[31m\x7f\x9b", LONG * (most or 100), LONG * ((most or 100) + 1)]
        case shape.StrType():
            return ["", "\0", "../../etc/passwd", "-rf", "iris\n"]
        case shape.VarTupleType():
            return [[], [None], [{}], list(range(1, 500))]
        case _:
            return []


def test_t2_watches_are_among_them() -> None:
    """A watch that is asked for nonsense must be among the requests above, or its loop is never tried."""
    assert any(issubclass(route.request, Watch) for routes, _ in TABLES.values() for route in routes)


def test_t2_egressd_survives_its_own_kind_of_client(hive: RunningHive, everybody: dict[str, User]) -> None:
    place = hive.places.run / "agents" / "iris" / "egress" / "egress.sock"
    me = everybody["iris agent"]
    bad = {
        "nothing": b"\r\n\r\n",
        "binary": bytes(range(256)) * 4 + b"\r\n\r\n",
        "GET": b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "bare breaks": b"CONNECT a:1 HTTP/1.1\n\n",
        "a body": b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "chunks": b"CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a port that is none": b"CONNECT a:99999 HTTP/1.1\r\n\r\n",
        "an address in disguise": b"CONNECT 0x7f.1:80 HTTP/1.1\r\n\r\n",
        "headers": b"CONNECT a:1 HTTP/1.1\r\n" + b"x: y\r\n" * 5_000 + b"\r\n",
        "an endless line": b"CONNECT " + b"a" * (1 << 20),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "the RPC": HELLO + b"\r\n\r\n",
    }
    heard = ask_all(me, {name: Question(place, said) for name, said in bad.items()})
    for name, each in heard.items():
        assert each.said.startswith(b"HTTP/1.1 4"), (name, each)


AT_THE_TOOLS = r"""
import time

def say(said, finish=True):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(3)
        s.connect("/run/harness/mcp.sock")
        try:
            s.sendall(said)
            if finish:
                s.shutdown(socket.SHUT_WR)
            return s.recv(4096).decode("utf-8", "replace")
        except OSError as error:
            return repr(error)

init = (b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
        b'"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}\n')
begun = init + b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
for said in (
    b"[" * 900_000 + b"\n", b'{"a":' * 100_000 + b"\n", b"\xff\xfe\n", b"x" * 3_000_000, b"\n\n\n", b"\0\n",
    begun + b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"\\ud83d","arguments":{"\\udc00":1}}}\n',
    begun + b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"send","arguments":'
            b'{"to":"hm1nd","body":"x","key":"0","op":"attach","turn":1}}}\n',
    init + b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"tools/list"}\n',
    init * 2_000,
):
    say(said)
held = [socket.socket(socket.AF_UNIX) for _ in range(60)]
for each in held:
    each.connect("/run/harness/mcp.sock")
for each in held:
    each.close()
for _ in range(100):
    after = say(init)
    if "serverInfo" in after:
        break
    time.sleep(0.05)
print(json.dumps(after))
"""


def test_t2_an_agent_cannot_break_its_harness(hive: RunningHive) -> None:
    """At the socket of its tools: a harness that falls takes the cage with it, and root starts it again."""
    before = leader(hive, "iris")
    assert '"serverInfo"' in run_inside(hive, "iris", AT_THE_TOOLS)
    assert leader(hive, "iris") == before
    assert not [cage for cage in cages(hive) if cage["agent"] == "iris" and cage["crashes"]]


BETWEEN_TURNS = r"""
begun = (b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
         b'"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}\n'
         b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
heard = {}
for name, arguments in (
    ("send", {"to": "operator", "body": "nobody knows in which turn"}),
    ("ask_operator", {"question": "may I?"}),
    ("remind", {"text": "again", "in_s": 1}),
    ("recv", {}),
    ("whoami", {}),
):
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect("/run/harness/mcp.sock")
        s.sendall(begun + json.dumps(call).encode() + b"\n")
        lines = s.makefile("rb")
        lines.readline()
        heard[name] = json.loads(lines.readline())["result"]
print(json.dumps(heard))
"""


def test_t2_what_runs_between_turns_cannot_speak_for_the_agent(hive: RunningHive) -> None:
    before = hive.hivectl("messages")["messages"]
    heard = run_inside(hive, "iris", BETWEEN_TURNS)
    for name in ("send", "ask_operator", "remind", "recv"):
        assert heard[name]["isError"] is True
        assert heard[name]["content"][0]["text"].startswith(f"conflict: {name} works only in a turn")
    assert not heard["whoami"].get("isError")
    assert hive.hivectl("messages")["messages"] == before
    assert hive.hivectl("questions")["questions"] == []
