"""Every request says what it is, fits its frame, and keeps the shape that was agreed (golden/)."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol import agent, brokerd, configuration, egressd, hello, managing, privd, tools, webd
from protocol.frames import encode_event, encode_ok, encode_request
from protocol.limits import BODY_BYTES_MAX, BROKER_FRAME_BYTES_MAX, FRAME_BYTES_MAX
from protocol.problem import PROBLEM_MEANINGS, Problem
from protocol.rpc import AGENTS, EVERY_ROLE, Call, Request, Role, Watch, operation_name
from protocol.tools import TOOLS, Tool
from tests.support.shapes import example, examples, requests

GOLDEN = Path(__file__).parent / "golden"
ALL = requests()
MODULES = {
    "agent": agent,
    "brokerd": brokerd,
    "configuration": configuration,
    "egressd": egressd,
    "hello": hello,
    "managing": managing,
    "privd": privd,
    "tools": tools,
    "webd": webd,
}

each = pytest.mark.parametrize("request_", ALL, ids=lambda request: request.__name__)


@each
def test_a_request_is_a_call_or_a_watch_with_a_declared_answer(request_: type[Request]) -> None:
    assert issubclass(request_, Call) != issubclass(request_, Watch)
    assert request_.answer_type() is not Any
    msgspec.json.Decoder(request_.answer_type())


@each
def test_a_request_says_what_it_is_for(request_: type[Request]) -> None:
    assert request_.__doc__
    assert request_.__doc__ not in (Call.__doc__, Watch.__doc__, Tool.__doc__)
    assert request_.__doc__.strip().split("\n")[0].endswith(".")


NO_FIELDS = {"sender", "caller", "uid", "role", "identity", "user", "path"}
PLACES_OF_ITS_OWN = {"ListState", "ReadFile", "ReadState"}
"""Their `path` is a place below an agent's own folder, opened by that agent's uid in a box, or one in a commit."""


@each
def test_a_request_does_not_say_who_is_asking(request_: type[Request]) -> None:
    argued = {"path"} if request_.__name__ in PLACES_OF_ITS_OWN else set()
    assert NO_FIELDS & set(request_.__struct_fields__) == argued


@each
def test_unknown_fields_are_refused(request_: type[Request]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `more`"):
        msgspec.convert(example(request_) | {"more": 1}, request_)


def test_operations_have_one_name_each() -> None:
    assert len({request.operation() for request in ALL}) == len(ALL)
    for request in ALL:
        assert request.operation() == example(request)["op"]


@pytest.mark.parametrize(
    ("class_name", "operation"),
    [
        ("StartCage", "start_cage"),
        ("WhoAmI", "who_am_i"),
        ("Hello", "hello"),
        ("ReadHTTPLog", "read_http_log"),
    ],
)
def test_operation_names(class_name: str, operation: str) -> None:
    assert operation_name(class_name) == operation


def test_the_longest_message_fits_a_frame_of_brokerd_however_it_is_escaped() -> None:
    longest = tools.Send(to="damocles", body="\x01" * BODY_BYTES_MAX, key="0" * 32, in_reply_to=2**53 - 1)
    assert FRAME_BYTES_MAX < len(encode_request(longest)) <= BROKER_FRAME_BYTES_MAX


def test_tools_are_calls_with_names_and_fields_of_their_own() -> None:
    assert len({tool.tool_name for tool in TOOLS}) == len(TOOLS)
    for tool in TOOLS:
        assert tool.supplied <= set(tool.__struct_fields__)


def test_every_problem_has_a_meaning() -> None:
    assert set(PROBLEM_MEANINGS) == set(Problem)


def test_the_roles_are_these() -> None:
    assert set(Role) == set(EVERY_ROLE)
    assert set(AGENTS) == {Role.AGENT, Role.MANAGER}


# golden frames


def frames_of(module: str) -> dict[str, Any]:
    """One request of each kind and its answers, as the bytes on the wire say them."""
    own = [request for request in ALL if request.__module__ == f"protocol.{module}"]
    return {request.operation(): _frames(request) for request in own}


def _frames(request: type[Request]) -> dict[str, Any]:
    asked = msgspec.convert(example(request), request)
    encode = encode_event if issubclass(request, Watch) else encode_ok
    answers = [msgspec.convert(one, request.answer_type()) for one in examples(request.answer_type())]
    return {
        "request": json.loads(encode_request(asked)),
        "answers": [json.loads(encode(one)) for one in answers],
    }


@pytest.mark.parametrize("module", MODULES)
def test_frames_are_those_that_were_agreed(module: str) -> None:
    """After a wanted change: HIVE_GOLDEN=write, look at the difference, and think of peers that are older."""
    path = GOLDEN / f"{module}.json"
    now = json.dumps(frames_of(module), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("HIVE_GOLDEN") == "write":
        path.write_text(now)
    assert path.read_text() == now


def test_every_module_with_requests_has_golden_frames() -> None:
    assert {request.__module__.removeprefix("protocol.") for request in ALL} == set(MODULES)
    assert {path.stem for path in GOLDEN.iterdir()} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_the_agreed_frames_still_decode(module: str) -> None:
    agreed = json.loads((GOLDEN / f"{module}.json").read_text())
    by_name = {request.operation(): request for request in ALL}
    for operation, frames in agreed.items():
        request = by_name[operation]
        msgspec.convert(frames["request"], request)
        for answer in frames["answers"]:
            ((_, value),) = answer.items()
            msgspec.convert(value, request.answer_type())
