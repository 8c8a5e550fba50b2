"""People who approve, for tests: real keys of ssh-keygen, and hardware keys and passkeys that sign as real ones do."""

import base64
import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.approvals import SIGNATURE_NAMESPACE, Passkey, PasskeyAssertion, SshKey, SshSignature

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
ORIGIN = "http://localhost:7000"
PRESENT, VERIFIED = 0x01, 0x04


class SshSigner:
    """A key file that the real ssh-keygen has made and signs with."""

    def __init__(self, folder: Path, name: str = "anna", kind: str = "ed25519") -> None:
        if shutil.which("ssh-keygen") is None:
            pytest.skip("needs ssh-keygen (package openssh-client)")
        self.path = folder / name
        words = ("-q", "-t", kind, "-N", "", "-C", f"{name}@desk", "-f", str(self.path))
        subprocess.run(("ssh-keygen", *words), check=True, stdin=subprocess.DEVNULL)

    @property
    def key(self) -> SshKey:
        return SshKey(self.path.with_suffix(".pub").read_text())

    def sign(self, document: str, namespace: str = SIGNATURE_NAMESPACE, *options: str) -> SshSignature:
        return SshSignature(
            subprocess.run(
                ("ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path), *options),
                input=document.encode(),
                capture_output=True,
                check=True,
            ).stdout.decode()
        )


def wire(*parts: bytes) -> bytes:
    """Strings in SSH's wire format."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


def armored(blob: bytes, content: bytes, namespace: str = SIGNATURE_NAMESPACE, digest: str = "sha512") -> str:
    """A signature as ssh-keygen writes it down."""
    whole = b"SSHSIG\0\0\0\1" + wire(blob, namespace.encode(), b"", digest.encode(), content)
    text = base64.b64encode(whole).decode()
    lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n"


@dataclass
class HardwareKey:
    """What a hardware key of OpenSSH does, in the form that its signatures have."""

    kind: str = "sk-ssh-ed25519@openssh.com"
    application: bytes = b"ssh:"
    private: PrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.private = new_key(is_curve="ecdsa" in self.kind)

    @property
    def blob(self) -> bytes:
        point = raw(self.private)
        parts = (b"nistp256", point) if "ecdsa" in self.kind else (point,)
        return wire(self.kind.encode(), *parts, self.application)

    @property
    def key(self) -> SshKey:
        return SshKey(f"{self.kind} {base64.b64encode(self.blob).decode()} anna@desk")

    def sign(self, document: str, flags: int = PRESENT) -> SshSignature:
        digest = hashlib.sha512(document.encode()).digest()
        message = b"SSHSIG" + wire(SIGNATURE_NAMESPACE.encode(), b"", b"sha512", digest)
        tail = bytes([flags]) + (7).to_bytes(4)
        signed = signature(
            self.private,
            hashlib.sha256(self.application).digest() + tail + hashlib.sha256(message).digest(),
        )
        if "ecdsa" in self.kind:
            signed = wire(*(integer(each) for each in decode_dss_signature(signed)))
        return SshSignature(armored(self.blob, wire(self.kind.encode(), signed) + tail))


@dataclass
class Authenticator:
    """What a passkey and a browser do together; every part of it can be made to lie."""

    credential: bytes = b"credential-of-anna"
    is_curve: bool = True
    private: PrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.private = new_key(is_curve=self.is_curve)

    @property
    def key(self) -> Passkey:
        spki = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Passkey(self.credential, spki)

    def sign(
        self,
        document: str,
        origin: str = ORIGIN,
        flags: int = PRESENT | VERIFIED,
        rp: str = "localhost",
        more: bytes = b"",
        **said: Any,
    ) -> PasskeyAssertion:
        """An assertion over a document's digest. `said` changes what the browser writes down."""
        challenge = hashlib.sha256(document.encode()).digest()
        written = {
            "type": "webauthn.get",
            "challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "origin": origin,
            "crossOrigin": False,
            **said,
        }
        client_data = json.dumps(written, separators=(",", ":")).encode()
        data = hashlib.sha256(rp.encode()).digest() + bytes([flags]) + bytes(4) + more
        message = data + hashlib.sha256(client_data).digest()
        return PasskeyAssertion(self.credential, client_data, data, signature(self.private, message))


def new_key(*, is_curve: bool) -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1()) if is_curve else ed25519.Ed25519PrivateKey.generate()


def raw(private: PrivateKey) -> bytes:
    public = private.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public.public_bytes_raw()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def signature(private: PrivateKey, message: bytes) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(message)
    return private.sign(message, ec.ECDSA(SHA256()))
