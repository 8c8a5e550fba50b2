"""Public keys of approvers: SSH keys as one line of text, passkeys as SPKI. Two curves and nothing else. Pure.

ssh-ed25519, ecdsa-sha2-nistp256                                 files, agents
sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com   hardware keys that want to be touched
passkey                                                          Ed25519 or P-256, as the browser gives it
"""

import base64
import binascii
import hashlib
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from msgspec import Struct

from protocol.approvals import AnyKey, Passkey, SshKey
from protocol.problem import Problem, Refused

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
ED25519_BYTES: Final = 32
POINT_BYTES: Final = 65
"""Of an uncompressed point of P-256."""
CREDENTIAL_BYTES_MAX: Final = 1023
"""WebAuthn gives no longer ones."""
APPLICATION_BYTES_MAX: Final = 255
LENGTH_BYTES: Final = 4
ADVICE: Final = "; make one by: ssh-keygen -t ed25519"


class SshKind(StrEnum):
    """The kinds of SSH key that count."""

    ED25519 = "ssh-ed25519"
    ECDSA = "ecdsa-sha2-nistp256"
    SK_ED25519 = "sk-ssh-ed25519@openssh.com"
    SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"


PARTS: Final = {SshKind.ED25519: 2, SshKind.ECDSA: 3, SshKind.SK_ED25519: 3, SshKind.SK_ECDSA: 4}
"""Strings on the wire: the kind, with P-256 the curve, the point, with hardware the application."""
EDWARDS: Final = frozenset({SshKind.ED25519, SshKind.SK_ED25519})
HARDWARE: Final = frozenset({SshKind.SK_ED25519, SshKind.SK_ECDSA})


class SshPublicKey(Struct, frozen=True):
    """One SSH key: what it is on the wire, and what checks signatures with it."""

    kind: SshKind
    blob: bytes
    key: PublicKey
    application: bytes | None
    """What a hardware key signs for; None: it is no hardware key."""


def string(data: bytes) -> tuple[bytes, bytes]:
    """The first string of SSH's wire format, and what follows it. ValueError where it is cut."""
    length = int.from_bytes(data[:LENGTH_BYTES])
    end = LENGTH_BYTES + length
    if len(data) < end:
        raise ValueError("it is cut")
    return data[LENGTH_BYTES:end], data[end:]


def strings(data: bytes, count: int) -> list[bytes]:
    """So many strings and nothing after them."""
    found: list[bytes] = []
    for _ in range(count):
        one, data = string(data)
        found.append(one)
    if data:
        raise ValueError("there is more than belongs there")
    return found


def ssh_key(line: str) -> SshPublicKey:
    """The key of a line `kind base64 comment`. Refused(malformed) for anything else."""
    words = line.split()
    try:
        if len(words) < 2:
            raise ValueError("it is no line of a .pub file")
        kind = SshKind(words[0])
        return ssh_key_of(kind, base64.b64decode(words[1], validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        kinds = ", ".join(SshKind)
        raise Refused(
            Problem.MALFORMED, f"this is no public key of a kind that counts ({kinds}): {error}{ADVICE}"
        ) from None


def ssh_key_of(kind: SshKind, blob: bytes) -> SshPublicKey:
    """The key of a blob on the wire. ValueError where it is none of that kind."""
    parts = strings(blob, PARTS[kind])
    application = parts.pop() if kind in HARDWARE else None
    if parts[0] != kind.encode():
        raise ValueError("the key is of another kind than the line says")
    if application is not None and not 0 < len(application) <= APPLICATION_BYTES_MAX:
        raise ValueError("it names no application")
    if kind in EDWARDS:
        return SshPublicKey(kind, blob, _edwards(parts[1]), application)
    if parts[1] != b"nistp256":
        raise ValueError("its curve is not P-256")
    return SshPublicKey(kind, blob, _point(parts[2]), application)


def _edwards(data: bytes) -> PublicKey:
    if len(data) != ED25519_BYTES:
        raise ValueError(f"an Ed25519 key has {ED25519_BYTES} bytes")
    return ed25519.Ed25519PublicKey.from_public_bytes(data)


def _point(data: bytes) -> PublicKey:
    if len(data) != POINT_BYTES:
        raise ValueError(f"a point of P-256 has {POINT_BYTES} bytes")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def passkey_key(spki: bytes) -> PublicKey:
    """The key of a passkey. Refused(malformed) for another curve, or another form."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(Problem.MALFORMED, "this is no public key in DER") from None
    match key:
        case ed25519.Ed25519PublicKey():
            found: PublicKey = key
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            found = key
        case _:
            raise Refused(Problem.MALFORMED, "a passkey's key must be of P-256 or Ed25519")
    if found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise Refused(Problem.MALFORMED, "this public key is not written as DER wants it")
    return found


def normal(key: AnyKey) -> tuple[AnyKey, str]:
    """A key in its one form, and its fingerprint. Refused(malformed) where it does not count."""
    match key:
        case SshKey(line=line):
            found = ssh_key(line)
            text = base64.b64encode(found.blob).decode()
            return SshKey(f"{found.kind} {text}"), fingerprint(found.blob)
        case Passkey(credential=credential, public_key=spki):
            if not 0 < len(credential) <= CREDENTIAL_BYTES_MAX:
                raise Refused(
                    Problem.MALFORMED, f"a passkey's credential has 1 to {CREDENTIAL_BYTES_MAX} bytes"
                )
            passkey_key(spki)
            return key, fingerprint(spki)


def fingerprint(content: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether a signature (DER where the curve is P-256) over a message holds."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
