"""A passkey as the dashboard's page `/enrol` shows it: one line of text that root pastes at the terminal.

The line is base64url, without padding, of this JSON document; its byte strings are base64 (RFC 4648 §4, padded):

    {"v": 1, "origin": "http://localhost:7000", "credential": "…", "public_key": "…"}

`credential` is the id that the authenticator gave, `public_key` the key as SPKI in DER, as a browser's `getPublicKey()`
gives it: nobody here reads CBOR. `origin` is where the ceremony was held; a passkey proves nothing at any other one.
"""

import base64
import binascii
import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.approvals import Passkey
from protocol.limits import PROOF_BYTES_MAX
from protocol.problem import Problem, Refused

TEXT_CHARS_MAX: Final = 4 * PROOF_BYTES_MAX
"""Of the line: two byte strings at their bound, in base64 twice."""
ORIGIN_CHARS_MAX: Final = 300
_TEXT: Final = re.compile(r"\A[A-Za-z0-9_-]+\Z")
_BYTES_MAX: Final = PROOF_BYTES_MAX


class EnrolmentText(Struct, frozen=True, forbid_unknown_fields=True):
    """What the line holds."""

    v: Literal[1]
    origin: Annotated[str, Meta(pattern=r"\Ahttps?://[A-Za-z0-9.:\[\]-]+\Z", max_length=ORIGIN_CHARS_MAX)]
    credential: Annotated[bytes, Meta(min_length=1, max_length=_BYTES_MAX)]
    public_key: Annotated[bytes, Meta(min_length=1, max_length=_BYTES_MAX)]

    def passkey(self) -> Passkey:
        return Passkey(credential=self.credential, public_key=self.public_key)


def read_enrolment(text: str) -> EnrolmentText:
    """The line as it was pasted; white space of a wrapped terminal is dropped. Raises Refused(malformed)."""
    line = "".join(text.split())
    if len(line) > TEXT_CHARS_MAX or not _TEXT.match(line):
        raise _no_text("it is one line of letters, digits, - and _")
    try:
        document = base64.urlsafe_b64decode(line + "=" * (-len(line) % 4))
        return msgspec.json.decode(document, type=EnrolmentText)
    except (binascii.Error, UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        raise _no_text("a part of it is missing or was changed") from None


def _no_text(why: str) -> Refused:
    return Refused(
        Problem.MALFORMED,
        f"this is not the text that the dashboard's page /enrol shows: {why}; copy it whole",
    )
