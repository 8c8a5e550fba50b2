"""Assertions of passkeys: what a browser and an authenticator say together, checked. No CBOR is read. Pure.

The challenge is the digest of the document. The origin says which page held the ceremony, and the browser wrote it down
where no page can change it; the key counts for that origin's host alone (its `rpId`).
"""

import base64
import hashlib
from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Struct

from privd.policy.keys import PublicKey, signed
from protocol.approvals import PasskeyAssertion
from protocol.problem import Problem, Refused

CEREMONY: Final = "webauthn.get"
HOST_BYTES: Final = 32
"""The hash of the host's name, which authenticator data begin with."""
DATA_BYTES: Final = HOST_BYTES + 1 + 4
"""Of authenticator data without extensions: that hash, flags, a counter."""
PRESENT: Final = 0x01
VERIFIED: Final = 0x04
MAY_BE_COPIED: Final = 0x08
COPIED: Final = 0x10
EXTENDED: Final = 0x80


class ClientData(Struct, frozen=True, rename="camel"):
    """What the browser says of the ceremony. The standard lets it say more."""

    type: str
    challenge: str
    origin: str
    cross_origin: bool = False
    top_origin: str | None = None


def host_of(origin: str) -> str:
    """The host of `https://host:port`."""
    return origin.partition("://")[2].partition(":")[0]


def check_assertion(
    proof: PasskeyAssertion, key: PublicKey, digest: bytes, origins: Collection[str] | None
) -> None:
    """Refuse what is no proof over this digest. `origins`: where ceremonies count; None: wherever it was held."""
    said = _client_data(proof.client_data)
    if said.type != CEREMONY:
        raise _denied("it is no answer to a question")
    if said.challenge != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
        raise _denied("it was given for something else: look again")
    if origins is not None and said.origin not in origins:
        known = ", ".join(sorted(origins)) or "nowhere: the settings name no host of the dashboard"
        raise _denied(f"it was held at {said.origin[:100]!a}, and counts at: {known}")
    if said.cross_origin or said.top_origin is not None:
        raise _denied("it was held within another site's page")
    _check_data(proof.authenticator_data, said.origin)
    message = proof.authenticator_data + hashlib.sha256(proof.client_data).digest()
    if not signed(key, proof.signature, message):
        raise _denied("its signature does not hold")


def _client_data(content: bytes) -> ClientData:
    try:
        return msgspec.json.decode(content, type=ClientData)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _denied("what the browser says cannot be read") from None


def _check_data(data: bytes, origin: str) -> None:
    if len(data) < DATA_BYTES:
        raise _denied("what the authenticator says is cut")
    if data[:HOST_BYTES] != hashlib.sha256(host_of(origin).encode()).digest():
        raise _denied("it is for another host")
    flags = data[HOST_BYTES]
    if not flags & PRESENT:
        raise _denied("nobody was present")
    if not flags & VERIFIED:
        raise _denied("nobody was verified: the authenticator must ask for a PIN, a finger or a face")
    if flags & COPIED and not flags & MAY_BE_COPIED:
        raise _denied("its flags contradict each other")
    if len(data) > DATA_BYTES and not flags & EXTENDED:
        raise _denied("the authenticator says more than belongs there")


def _denied(why: str) -> Refused:
    return Refused(Problem.DENIED, f"the passkey proves nothing here: {why}")
