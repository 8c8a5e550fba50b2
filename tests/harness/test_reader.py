"""From lines to events: the recorded transcripts, and every way a line can be broken."""

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.claude.reader import Reader, result_text, summary
from harness.runner import added
from protocol.agent import EndTurn
from protocol.limits import TURN_LABEL_CHARS_MAX, TURN_TEXT_CHARS_MAX
from protocol.settings import OWN_SERVER
from protocol.turns import (
    AnyTurnEvent,
    Failed,
    Noted,
    Outcome,
    Said,
    Thought,
    ToolCalled,
    ToolReturned,
    TurnEvent,
    Usage,
)
from tests.harness.recorded import lines_of, names

LINES = [line for name in names() for line in lines_of(name)]


class Clock:
    """Each look is 10 ms later."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        self.ms += 10
        return self.ms


def read(name: str) -> tuple[Reader, list[TurnEvent]]:
    reader = Reader(Clock())
    events = [event for line in lines_of(name) for event in reader.feed(line)]
    return reader, events + reader.closing()


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_turn_with_a_tool_call() -> None:
    reader, events = read("ok-tool")
    called, returned, said = events
    assert isinstance(called, ToolCalled)
    assert (called.tool, called.summary) == ("send", "to alice: hello from claude")
    assert json.loads(called.input) == {"to": "alice", "body": "hello from claude"}
    assert isinstance(returned, ToolReturned)
    assert (returned.call, returned.ok, returned.text) == (
        called.call,
        True,
        '{"ok": true, "id": 17, "to": "alice"}',
    )
    assert returned.duration_ms == returned.at_ms - called.at_ms > 0
    assert isinstance(said, Said)
    assert said.text.startswith("Done. tool said:")
    assert reader.usage() == Usage(24820, 72, 0, 0, 100_720)
    assert reader.started is not None
    assert reader.started.session_id == "34ef495e-274e-481a-b8bc-caba8854619a"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("ok-think", [Thought, Said]),
        ("ok-parallel", [ToolCalled, ToolCalled, ToolReturned, ToolReturned, Said]),
        ("err-500x2", [Noted, Noted, Said]),
        ("err-oa-warn", [Said, Noted]),
        ("err-401", [Noted, Failed]),
        ("flag-dontask", [ToolCalled, Noted, ToolReturned, Said]),
        ("sig-int-tool", [ToolCalled, ToolReturned, Noted]),
        ("tmo-stdio420", [ToolCalled, ToolReturned, Said]),
        ("tmo-slow2", [Noted, ToolCalled, ToolReturned, Said]),
    ],
)
def test_kinds(name: str, kinds: list[type[TurnEvent]]) -> None:
    assert [type(event) for event in read(name)[1]] == kinds


def test_no_recorded_line_is_unknown() -> None:
    reader = Reader(Clock())
    for recorded in LINES:
        reader.feed(recorded)
    assert [event for event in reader.closing() if isinstance(event, Noted)] == []


def test_an_api_error_is_told_once() -> None:
    _, events = read("err-credit")
    told = [event for event in events if isinstance(event, (Said, Failed))]
    assert told == [Failed(0, 10, "Credit balance is too low")]


def test_unknown_and_unreadable_lines_are_counted_and_told_once() -> None:
    reader = Reader(Clock())
    for odd in (
        line(type="telepathy"),
        line(type="telepathy"),
        line(type="system", subtype="new"),
        b"{",
        b"\xff",
        b"[1]",
        b"{}",
        line(type="assistant", message={"content": [{"type": "hologram"}]}),
    ):
        assert reader.feed(odd) == []
    reader.skip("longer than 4 MiB")
    [note] = reader.closing()
    assert isinstance(note, Noted)
    for words in (
        "2 of the unknown type 'telepathy'",
        "'system/new'",
        "unreadable",
        "'hologram'",
        "longer than 4",
    ):
        assert words in note.text


def test_a_flood_of_unknown_types_takes_no_memory() -> None:
    reader = Reader(Clock())
    for number in range(10_000):
        reader.feed(line(type=f"type {number}"))
    [note] = reader.closing()
    assert isinstance(note, Noted)
    assert "9980 of other kinds" in note.text
    assert len(note.text) < 2_000


def test_blank_lines_are_nothing() -> None:
    reader = Reader(Clock())
    assert reader.feed(b"") == reader.feed(b"  \n") == reader.closing() == []


def test_long_texts_are_cut_and_say_so() -> None:
    reader = Reader(Clock())
    [said] = reader.feed(
        line(type="assistant", message={"content": [{"type": "text", "text": "é" * 20_000}]})
    )
    assert isinstance(said, Said)
    assert len(said.text) <= TURN_TEXT_CHARS_MAX
    assert said.text.endswith("more characters]")
    call = {"type": "tool_use", "id": "x" * 999, "name": "n" * 999, "input": {"command": "c" * 99_999}}
    [called] = reader.feed(line(type="assistant", message={"content": [call]}))
    assert isinstance(called, ToolCalled)
    assert all(len(text) <= TURN_LABEL_CHARS_MAX for text in (called.call, called.tool, called.summary))
    assert len(called.input) <= TURN_TEXT_CHARS_MAX


@pytest.mark.parametrize(
    ("tool", "given_input", "words"),
    [
        ("send", {"to": "iris", "body": "a\nb"}, "to iris: a b"),
        ("Bash", {"command": "ls -l", "description": "list"}, "ls -l"),
        ("Read", {"file_path": "/shared/x"}, "/shared/x"),
        ("whoami", {}, ""),
        ("odd", {"n": 1}, '{"n": 1}'),
        ("odd", "text", ""),
    ],
)
def test_summary(tool: str, given_input: object, words: str) -> None:
    assert summary(tool, given_input) == words


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "image"}, 7], "a\n[image]\n[int]"),
        ({"k": 1}, '{"k": 1}'),
    ],
)
def test_result_text(content: object, text: str) -> None:
    assert result_text(content) == text


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers(0, len(LINES) - 1), st.integers(0, 2**32), junk)
def test_a_mutated_line_never_raises_and_its_events_are_ones_brokerd_takes(
    index: int, seed: int, value: object
) -> None:
    chance = random.Random(seed)
    original = json.loads(LINES[index])
    mutated = mutate(original, chance, value)
    check([json.dumps(mutated).encode()])
    data = bytearray(LINES[index])
    for _ in range(chance.randint(1, 5)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    check([bytes(data), bytes(data[: chance.randrange(len(data))])])


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    check([data])


@pytest.mark.parametrize("depth", [100, 900, 1_100, 100_000])
def test_deep_nesting(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    content = (
        b'{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"b","input":%s}]}}'
    )
    check([deep, content % deep, b'{"type":%s}' % deep])


def mutate(node: object, chance: random.Random, value: object) -> object:
    """Replace one part of a JSON value, somewhere in it."""
    if isinstance(node, dict) and node and chance.random() < 0.85:
        key = chance.choice(sorted(node))
        return node | {key: mutate(node[key], chance, value)}
    if isinstance(node, list) and node and chance.random() < 0.85:
        place = chance.randrange(len(node))
        return [*node[:place], mutate(node[place], chance, value), *node[place + 1 :]]
    return value


def check(lines: list[bytes]) -> None:
    reader = Reader(Clock())
    events: list[TurnEvent] = []
    for each in lines:
        events += reader.feed(each)
    events += reader.closing()
    reader.facts(exit_code=1, stopped=None, stderr_tail="")
    reader.usage()
    for event in events:
        msgspec.json.decode(msgspec.json.encode(event), type=AnyTurnEvent)


@pytest.mark.parametrize("number", [2**53, 2**63, 10**30, -5, 1e300, "12", None, [1], {"a": 1}, True])
def test_no_number_of_the_cli_makes_a_turns_end_undecodable(number: object) -> None:
    tokens = dict.fromkeys(
        ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), number
    )
    models = {"one": {"costUSD": number}, "two": {"costUSD": 999_999.0}}
    reader = Reader(lambda: 0)
    line = {"type": "result", "subtype": "success", "usage": tokens, "model_usage_since_last_result": models}
    assert reader.feed(json.dumps(line).encode()) == []
    assert reader.facts(exit_code=0, stopped=None, stderr_tail="").has_result
    usage = reader.usage()
    assert usage is not None
    for total in (usage, added(usage, usage)):
        assert total is not None
        end = EndTurn(1, Outcome.DONE, usage=total)
        assert msgspec.json.decode(msgspec.json.encode(end), type=EndTurn) == end


def test_a_further_server_that_is_not_there_is_told_and_ours_is_not_mistaken_for_it() -> None:
    servers = [
        {"name": OWN_SERVER, "status": "connected"},
        {"name": "weather", "status": "connected"},
        {"name": "missing", "status": "failed"},
        {"name": "x" * 200, "status": "needs-auth" * 50},
    ]
    reader = Reader(Clock())
    events = reader.feed(line(type="system", subtype="init", session_id="s", mcp_servers=servers))
    texts = [event.text for event in events if isinstance(event, Noted)]
    assert len(texts) == len(events) == 2
    assert texts[0] == "the MCP server missing is not there (failed): this turn goes on without its tools"
    assert len(texts[1]) < 250
    assert not reader.tools_missing()
