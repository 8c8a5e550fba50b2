"""T4: a bad name does nothing through any door; hostile text reaches no argument, no log and no terminal as it is."""

import contextlib
import json
import socket
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from hivectl.__main__ import main
from privd.cages.nspawn import arguments
from privd.cages.spec import Bind, CageSpec
from protocol import frames
from protocol.agent import Attach, ReleaseDelivery
from protocol.privd import (
    DestroyCage,
    ListState,
    MeasureState,
    PurgeAgent,
    ReadJournal,
    ReadState,
    StartCage,
    StopCage,
    WatchJournal,
)
from protocol.rpc import Request
from protocol.settings import AgentRole, CageLimits
from protocol.tools import SetStatus
from runtime.clock import new_key
from tests.security.browser import Visitor
from tests.security.peers import Question, User, ask, ask_all
from tests.security.population import away, cages
from tests.security.population import users as users_of
from tests.support.corpus import rows
from tests.support.hive import RunningHive, command_line

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

BAD = [row["input"] for row in rows("name") if row["expect"] == "refused"]
NAMES: list[str] = [name for name in BAD if isinstance(name, str)]
MARK = "markedbyatest"
HOSTILE = (
    f'\x1b[31m{MARK}\x1b]0;title\x07\r\n{{"event":"forged"}}\n\u202e\u2066\u200e\x9b2J\x7f\0'
    " $(id) `id` ; rm -rf /"
)
"""A colour, a title, a new line with a record of its own, bidi overrides, a C1 sequence, a shell's words."""
WRITER = "edith"
"""An agent whose cage does not run; its harness's words are ours."""
BY_NAME = (
    StartCage, StopCage, DestroyCage, ReadJournal, WatchJournal, ListState, ReadState, MeasureState
)  # fmt: skip


@pytest.fixture(scope="module")
def hive(secure_hive: RunningHive) -> Iterator[RunningHive]:
    secure_hive.hivectl("spawn", WRITER)
    secure_hive.hivectl("stop", WRITER)
    yield secure_hive
    away(secure_hive, WRITER)


@pytest.fixture(scope="module")
def everybody(hive: RunningHive) -> dict[str, User]:
    return users_of(hive)


@pytest.fixture(autouse=True)
def unchanged(hive: RunningHive) -> Iterator[None]:
    """The same agents, folders and programs afterwards, and logs that nobody but their daemon wrote."""
    before = world(hive)
    yield
    assert world(hive) == before
    for path in hive.places.logs.glob("*.log"):
        for line in path.read_bytes().splitlines():
            assert all(32 <= byte < 127 for byte in line), (path.name, line)
            record = json.loads(line)
            assert record["daemon"] == path.stem
            assert record["event"] != "forged"


def world(hive: RunningHive) -> tuple[object, ...]:
    """Who there is, with which folders, in which programs."""
    state = hive.places.state
    folders = sorted(
        str(path) for name in ("agents", "cages", "run/agents") for path in (state / name).iterdir()
    )
    return [(cage["agent"], cage["power"]) for cage in cages(hive)], folders, machines(hive)


def machines(hive: RunningHive) -> dict[str, list[bytes]]:
    """What each cage's nspawn was told, up to the command that it starts."""
    found = {}
    for record in (hive.places.state / "cages").glob("*/running.json"):
        words = command_line(json.loads(record.read_text())["supervisor"]["pid"])
        found[record.parent.name] = words[: words.index(b"--")]
    return found


# ------------------------------------------------------------------------------------------------------ bad names


@pytest.mark.parametrize(
    "verb", ["spawn", "start", "stop", "restart", "destroy", "purge", "cancel", "journal"]
)
def test_t4_bad_names_at_the_command_line(
    hive: RunningHive, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        more = ["--yes"] if verb in ("destroy", "purge") else []
        for words in ([verb, name, *more], [verb, *more, "--", name]):
            try:
                code = main(["--dir", str(hive.places.state), *words])
            except SystemExit as left:
                code = int(left.code or 0)
            said = capsys.readouterr()
            is_help = words[1] in ("-h", "--help")
            assert code in (1, 2) or is_help, (words, code)
            assert "incident" not in said.err
            assert printable(said.err), (name, said.err)


def printable(text: str) -> bool:
    return all(char == "\n" or unicodedata.category(char)[0] in "LMNPSZ" for char in text)


@pytest.mark.parametrize(
    "path", [HOSTILE.replace("\0", ""), "../" * 300, "-rf", "--help", "a\nb", "x\\xZZ", "\\"]
)
def test_t4_places_below_a_state_folder_have_no_power(hive: RunningHive, path: str) -> None:
    """They reach a box as they are, in JSON; what comes back of them is printable."""
    asked: tuple[Request, ...] = (ListState("iris", path), ReadState("iris", path))
    questions = {
        request.operation(): Question(hive.socket("privd"), frames.encode_request(request))
        for request in asked
    }
    for heard in ask_all(User(0, 0), questions).values():
        assert heard.answer["problem"] in ("malformed", "not_found", "conflict", "limit"), heard
        assert heard.answer["detail"].isprintable()


@pytest.mark.parametrize("request_type", BY_NAME)
def test_t4_bad_names_at_roots_socket(hive: RunningHive, request_type: type[Request]) -> None:
    whole = {
        "op": request_type.operation(),
        **{
            field.encode_name: field.default
            for field in msgspec.structs.fields(request_type)
            if not field.required
        },
        **({"path": "x"} if request_type is ReadState else {}),
    }
    said = {
        str(number): Question(hive.socket("privd"), said_as(request_type, whole | {"agent": name}))
        for number, name in enumerate(BAD)
    }
    names = list(said)
    for at in range(0, len(names), 30):
        for number, heard in ask_all(User(0, 0), {key: said[key] for key in names[at : at + 30]}).items():
            problem, name = heard.answer["problem"], BAD[int(number)]
            reserved_word = isinstance(name, str) and name.isascii() and name.isalnum() and name.islower()
            if reserved_word and len(name) <= 9:
                assert problem in ("malformed", "not_found"), (name, heard)
            else:
                assert problem == "malformed", (name, heard)


def said_as(request_type: type[Request], words: dict[str, object]) -> bytes:
    """In the order in which our own encoder writes, so that the name is what is refused."""
    order = ["op", *(field.encode_name for field in msgspec.structs.fields(request_type))]
    return json.dumps({key: words[key] for key in order}, separators=(",", ":")).encode() + b"\n"


def test_t4_a_purge_that_confirms_another_name(hive: RunningHive) -> None:
    heard = ask(
        User(0, 0), hive.socket("privd"), frames.encode_request(PurgeAgent(agent=WRITER, confirm="iris"))
    )
    assert heard.answer["problem"] == "malformed"


def test_t4_bad_names_from_the_browser(hive: RunningHive) -> None:
    visitor = Visitor(hive)
    for name in NAMES[::3]:
        status, answer = visitor.act("/api/v1/agents", name=name)
        assert (status, answer["problem"]) == (400, "malformed"), (name, answer)
    for name in NAMES:
        for spelling in {quote(name, safe="", errors="replace"), quote(name, errors="replace")}:
            for path in (
                f"/agent/{spelling}/",
                f"/agent/{spelling}/journal",
                f"/api/v1/log/journal:{spelling}",
            ):
                heard = visitor.get(path)
                assert heard.split(b" ")[1] in (b"400", b"404", b"414"), (path, heard[:200])


@pytest.mark.parametrize("name", NAMES)
def test_t4_no_cage_can_be_described_with_a_bad_name(name: str) -> None:
    with pytest.raises(ValueError):
        cage(agent=name)


@pytest.mark.parametrize(
    "path",
    [
        "relative",
        "/a/../b",
        "/a:b",
        "/a\\b",
        '/a"b',
        "/a\nb",
        "/a\0b",
        "/a'b",
        "/\u202ea",
        "",
        "/",
        "/a/",
        "//a",
    ],
)
def test_t4_no_cage_can_be_described_with_a_bad_path(path: str) -> None:
    for bind in (Bind(path, "/x"), Bind("/x", path)):
        with pytest.raises(ValueError):
            cage(binds=(bind,))


def test_t4_what_nspawn_is_told_has_a_fixed_shape() -> None:
    """Options, then `--`, then init: nothing of a description can become an option or a second argument."""
    told = arguments("/usr/bin/systemd-nspawn", cage(binds=(Bind("/srv/a b", "/x"),)))
    assert told[0] == "/usr/bin/systemd-nspawn"
    assert told[told.index("--") + 1 :] == ("/opt/hive/env/bin/python", "-I", "-m", "harness.init")
    assert all(word.startswith("--") for word in told[1 : told.index("--")])


def cage(agent: str = "iris", binds: tuple[Bind, ...] = ()) -> CageSpec:
    return CageSpec(
        agent=agent,
        role=AgentRole.AGENT,
        uid_base=524_288,
        limits=CageLimits(),
        folders=(),
        binds=binds,
        command=("/opt/hive/env/bin/python", "-I", "-m", "harness.init"),
        settings_json=b"{}",
    )


# ---------------------------------------------------------------------------------------------------- hostile text


def test_t4_hostile_text_in_logs_is_escaped(hive: RunningHive, everybody: dict[str, User]) -> None:
    """Text that daemons write down: a version, a reason, a browser's name. `unchanged` reads every line of the logs."""
    path = hive.places.run / "agents" / WRITER / "broker" / "broker.sock"
    me = everybody[f"{WRITER} harness"]
    attached = ask(me, path, frames.encode_request(Attach(instance=new_key(), version=HOSTILE[:40])))
    assert attached.answer["ok"]["agent"] == WRITER
    hive.hivectl("send", WRITER, "take me")
    taken = ask(me, path, b'{"op":"take_delivery","wait_s":1}\n').answer["ok"]["delivery"]
    back = ReleaseDelivery(delivery=taken["id"], token=taken["token"], reason=HOSTILE)
    assert ask(me, path, frames.encode_request(back)).answer == {"ok": None}
    visitor = Visitor(hive)
    visitor.say(f"GET /{MARK}\x9b HTTP/1.1\r\nHost: {HOSTILE[:9]!a}\r\n\r\n".encode("latin-1"))
    log = (hive.places.logs / "brokerd.log").read_text()
    assert MARK in log, "the text was not written down at all: this test shows nothing"
    assert "\\u001b[31m" in log


def test_t4_hostile_text_on_a_terminal_is_escaped(
    hive: RunningHive, everybody: dict[str, User], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the operator's command line shows of an agent's words: a message, a status, a refusal's reason."""
    path = hive.places.run / "agents" / WRITER / "broker" / "broker.sock"
    me = everybody[f"{WRITER} harness"]
    said = HOSTILE.replace("\0", "")
    ask(me, path, frames.encode_request(SetStatus(text=said[:200])))
    message = {"op": "send", "to": "operator", "body": said, "key": new_key(), "in_reply_to": None}
    assert "ok" in ask(me, path, json.dumps(message).encode() + b"\n").answer
    for words in (["messages"], ["status"], ["cages"], ["turns", WRITER], ["journal", "iris"]):
        main(["--dir", str(hive.places.state), *words])
        shown = capsys.readouterr()
        assert printable(shown.out), words
        assert printable(shown.err), words
    main(["--dir", str(hive.places.state), "messages"])
    assert MARK in capsys.readouterr().out


class TakenOver:
    """A daemon in somebody else's hands: it answers every request of one connection with the same line."""

    def __init__(self, run: Path, daemon: str, answer: bytes) -> None:
        (run / daemon).mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(run / daemon / "operator.sock"))
        self._listener.listen()
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                stream, _ = self._listener.accept()
                with stream:
                    while stream.recv(65_536):
                        stream.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize(
    ("daemon", "words", "answer"),
    [
        ("privd", ["start", "iris"], {"problem": "failed", "detail": HOSTILE}),
        ("brokerd", ["messages"], {"problem": "failed", "detail": HOSTILE}),
        ("webd", ["login"], {"ok": {"url": HOSTILE, "expires_ms": 1, "notice": HOSTILE}}),
        (
            "webd",
            ["status"],
            {"ok": {"daemon": "webd", "version": HOSTILE, "wire": 1, "degraded": [HOSTILE]}},
        ),
    ],
)
def test_t4_a_taken_over_daemon_cannot_write_to_roots_terminal(
    tmp_path: Path,
    daemon: str,
    words: list[str],
    answer: object,
    more: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = TakenOver(tmp_path / "run", daemon, json.dumps(answer).encode() + b"\n")
    main(["--dir", str(tmp_path), *more, *words])
    fake.close()
    shown = capsys.readouterr()
    assert MARK in shown.out + shown.err
    assert printable(shown.out)
    assert printable(shown.err)


def test_t4_hostile_text_on_a_page_is_data(hive: RunningHive, everybody: dict[str, User]) -> None:
    """In the boot block of a page: no tag, no comment and no line end of a script."""
    path = hive.places.run / "agents" / WRITER / "broker" / "broker.sock"
    said = "</script><script>alert(1)</script><!-- \u2028\u2029 <img src=x onerror=alert(1)>" + MARK
    message = {"op": "send", "to": "operator", "body": said, "key": new_key(), "in_reply_to": None}
    assert "ok" in ask(everybody[f"{WRITER} harness"], path, json.dumps(message).encode() + b"\n").answer
    visitor = Visitor(hive)
    page = visitor.get("/").decode()
    assert MARK in page
    for piece in ("<script>alert", "<img", "<!-- ", "\u2028", "\u2029"):
        assert piece not in page, piece
