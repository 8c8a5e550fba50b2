"""The text of an enrolment: what a browser writes is read, whatever else is refused with what to do."""

import base64
import json

import pytest

from hivectl.passkey import TEXT_CHARS_MAX, read_enrolment
from protocol.approvals import Passkey
from protocol.problem import Problem, Refused

GIVEN = {
    "v": 1,
    "origin": "http://localhost:7000",
    "credential": base64.b64encode(b"\x00\xffcredential").decode(),
    "public_key": base64.b64encode(b"0Y0\x13spki").decode(),
}


def line(document: object) -> str:
    """As a browser writes it."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def test_the_line_of_a_browser_is_read() -> None:
    read = read_enrolment(line(GIVEN))
    assert read.origin == "http://localhost:7000"
    assert read.passkey() == Passkey(credential=b"\x00\xffcredential", public_key=b"0Y0\x13spki")


def test_a_line_that_a_terminal_has_wrapped_is_read() -> None:
    text = line(GIVEN)
    assert read_enrolment(f"  {text[:40]}\n{text[40:]}\r\n") == read_enrolment(text)


@pytest.mark.parametrize("length", range(0, len(line(GIVEN)), 7))
def test_a_line_that_was_cut_is_refused(length: int) -> None:
    refused_whole(line(GIVEN)[:length])


@pytest.mark.parametrize(
    "document",
    [
        GIVEN | {"v": 2},
        GIVEN | {"more": 1},
        {name: value for name, value in GIVEN.items() if name != "origin"},
        GIVEN | {"origin": "javascript:alert(1)"},
        GIVEN | {"origin": "http://localhost:7000/\n"},
        GIVEN | {"origin": "http://" + "a" * 400},
        GIVEN | {"credential": ""},
        GIVEN | {"credential": "%%"},
        GIVEN | {"public_key": ""},
        GIVEN | {"public_key": base64.b64encode(b"k" * 9_000).decode()},
        [GIVEN],
        "text",
    ],
)
def test_a_document_of_another_shape_is_refused(document: object) -> None:
    refused_whole(line(document))


@pytest.mark.parametrize("text", ["ssh-ed25519 AAAA", "{}", "é", "A" * (TEXT_CHARS_MAX + 1), "W1tb" * 8_000])
def test_what_is_no_such_line_is_refused(text: str) -> None:
    refused_whole(text)


def refused_whole(text: str) -> None:
    with pytest.raises(Refused, match="copy it whole") as refused:
        read_enrolment(text)
    assert refused.value.problem is Problem.MALFORMED
