"""Signatures of `ssh-keygen -Y sign` (OpenSSH's PROTOCOL.sshsig), read and checked. Pure.

Every form that is not the one which ssh-keygen writes is refused: one signature has one text.
"""

import base64
import binascii
import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import Struct

from privd.policy.keys import EDWARDS, SshKind, SshPublicKey, signed, ssh_key_of, string, strings
from protocol.approvals import SIGNATURE_NAMESPACE
from protocol.problem import Problem, Refused

MAGIC: Final = b"SSHSIG"
VERSION: Final = 1
BEGIN: Final = "-----BEGIN SSH SIGNATURE-----\n"
END: Final = "\n-----END SSH SIGNATURE-----\n"
HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
TOUCHED: Final = 1
"""The flag of a hardware key that somebody has touched it."""
FLAGS_BYTES: Final = 5
"""A hardware key's flags, and its counter."""
INTEGER_BYTES_MAX: Final = 33


class Signature(Struct, frozen=True):
    """One signature, taken apart; nothing is proven yet."""

    key: SshPublicKey
    hash_name: bytes
    content: bytes


def read(armored: str) -> Signature:
    """Take a signature apart. Refused(denied) where it is none of ssh-keygen's, or for another purpose."""
    try:
        return _read(armored)
    except (ValueError, binascii.Error) as error:
        raise Refused(Problem.DENIED, f"this is no signature of ssh-keygen -Y sign: {error}") from None


def _read(armored: str) -> Signature:
    if not (armored.startswith(BEGIN) and armored.endswith(END) and len(armored) > len(BEGIN) + len(END)):
        raise ValueError("its first or last line is missing")
    text = armored[len(BEGIN) : -len(END)].replace("\n", "")
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("its text is not the one form of what it says")
    start = len(MAGIC) + 4
    if data[:start] != MAGIC + VERSION.to_bytes(4):
        raise ValueError(f"it does not begin as version {VERSION} does")
    blob, namespace, reserved, hash_name, content = strings(data[start:], 5)
    if namespace != SIGNATURE_NAMESPACE.encode():
        raise ValueError(f"it was made for another purpose than {SIGNATURE_NAMESPACE} (-n)")
    if reserved:
        raise ValueError("what is reserved is not empty")
    if hash_name not in HASHES:
        raise ValueError("its hash is neither sha256 nor sha512")
    kind = SshKind(string(blob)[0].decode("ascii"))
    return Signature(ssh_key_of(kind, blob), hash_name, content)


def holds(signature: Signature, document: bytes) -> bool:
    """Whether the key that the signature names has signed this document."""
    key = signature.key
    message = MAGIC + b"".join(
        len(part).to_bytes(4) + part
        for part in (
            SIGNATURE_NAMESPACE.encode(),
            b"",
            signature.hash_name,
            HASHES[signature.hash_name](document).digest(),
        )
    )
    try:
        if key.application is None:
            said, content = strings(signature.content, 2)
            flags = b""
        else:
            said, rest = string(signature.content)
            content, flags = string(rest)
            message = _by_hardware(key.application, flags, message)
        if said != key.kind.encode():
            return False
        raw = content if key.kind in EDWARDS else _to_der(content)
    except ValueError:
        return False
    return signed(key.key, raw, message)


def _by_hardware(application: bytes, flags: bytes, message: bytes) -> bytes:
    """What a hardware key signs. ValueError where nobody has touched it."""
    if len(flags) != FLAGS_BYTES or not flags[0] & TOUCHED:
        raise ValueError("nobody has touched the key")
    return hashlib.sha256(application).digest() + flags + hashlib.sha256(message).digest()


def _to_der(content: bytes) -> bytes:
    r, s = (_integer(each) for each in strings(content, 2))
    return encode_dss_signature(r, s)


def _integer(data: bytes) -> int:
    """A positive integer in its shortest form."""
    if not 0 < len(data) <= INTEGER_BYTES_MAX or data[0] & 0x80:
        raise ValueError("no positive integer")
    if data[0] == 0 and not (len(data) > 1 and data[1] & 0x80):
        raise ValueError("not its shortest form")
    return int.from_bytes(data)
