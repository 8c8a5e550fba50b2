"""Names: one rule, no second spelling, and refusals that show no control character."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import RequestCodec
from protocol.names import AGENT_NAME_PATTERN, HostPattern, Recipient, agent_name_fault
from protocol.privd import StartCage
from protocol.problem import Refused
from tests.support.corpus import rows

CODEC = RequestCodec([StartCage])
ROWS = rows("name")


def refusal(name: object) -> str | None:
    """What an agent of this name is refused with, on decode or by the rule for new names."""
    frame = json.dumps({"op": "start_cage", "agent": name}).encode()
    try:
        request = CODEC.decode(frame)
    except Refused as refused:
        return refused.detail
    assert isinstance(request, StartCage)
    return agent_name_fault(request.agent)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_bad_names(row: dict[str, object]) -> None:
    name = row["input"]
    said = refusal(name)
    assert (said is None) == (row["expect"] == "ok")
    if isinstance(name, str) and row["expect"] == "refused":
        fault = agent_name_fault(name)
        assert fault is not None
        assert str(row["words"]) in fault
        assert fault.isascii()
        assert fault.isprintable()
    elif said is not None:
        assert str(row["words"]) in said


@given(st.text(max_size=12))
def test_a_name_is_good_or_its_fault_is_said(name: str) -> None:
    fault = agent_name_fault(name)
    if fault is None:
        assert 1 <= len(name) <= 9
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
        assert not name[0].isdigit()
        assert refusal(name) is None
    else:
        assert fault.isascii()
        assert fault.isprintable()


@given(st.from_regex(AGENT_NAME_PATTERN))
def test_the_pattern_lets_no_line_break_through(name: str) -> None:
    assert "\n" not in name
    assert refusal(f"{name}\n") is not None


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("iris", True),
        ("operator", True),
        ("*", True),
        ("", False),
        ("**", False),
        ("*iris", False),
        ("iris\n", False),
        ("*\n", False),
    ],
)
def test_recipients(text: str, good: bool) -> None:
    assert accepted(text, Recipient) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("example.org", True),
        ("*.example.org:8443", True),
        ("192.0.2.1:80", True),
        ("localhost", True),
        ("[2001:db8::1]", True),
        ("[2001:db8::1]:8443", True),
        ("*.[2001:db8::1]", False),
        ("[2001:db8::1]x", False),
        ("[fe80::1%eth0]", False),
        ("2001:db8::1", False),
        ("", False),
        ("*", False),
        ("*.", False),
        ("a..b", False),
        (".a", False),
        ("a.*", False),
        ("a:b", False),
        ("a:123456", False),
        ("http://a", False),
        ("a/b", False),
        ("a b", False),
        ("a\n", False),
        ("-a", False),
        ("a" * 64, False),
        ("a." * 130 + "b", False),
    ],
)
def test_hosts(text: str, good: bool) -> None:
    assert accepted(text, HostPattern) is good


def accepted(text: str, kind: object) -> bool:
    try:
        msgspec.json.decode(json.dumps(text), type=kind)
    except msgspec.ValidationError:
        return False
    return True
