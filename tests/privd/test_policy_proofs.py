"""Proofs of approvals: what real keys sign holds, and everything beside it does not."""

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from privd.policy import proposals
from privd.policy.keys import CREDENTIAL_BYTES_MAX, normal, ssh_key
from privd.policy.proofs import (
    APPROVERS_MAX,
    at_that_time,
    check,
    check_approved,
    check_new,
    check_sources,
    check_terminal,
    counts_still,
    is_enough,
    joined,
)
from privd.policy.record import Approved, Asked, Word, said_of
from protocol.approvals import (
    SIGNATURE_NAMESPACE,
    AnyKey,
    AnyProof,
    Approver,
    AtTerminal,
    Click,
    Passkey,
    PasskeyAssertion,
    Proposal,
    ProposalKind,
    ProposalState,
    SshKey,
    SshSignature,
)
from protocol.problem import Problem, Refused
from tests.support.approvers import (
    ORIGIN,
    PRESENT,
    VERIFIED,
    Authenticator,
    HardwareKey,
    SshSigner,
    armored,
    wire,
)

PRIVATE = "PRIVATE"
"""Apart from the rest, so that no text of ours looks like a key."""
BASE = "b" * 40
OPEN = Proposal(
    "iris",
    3,
    ProposalKind.CONFIG,
    ProposalState.OPEN,
    "c" * 40,
    "e" * 40,
    BASE,
    "manager",
    "",
    1_000,
    9_000,
)
DOCUMENT = proposals.show(OPEN, BASE, hive="/h", host="vm", nonce="n" * 32, now_ms=5_000).text
OTHER = proposals.show(OPEN, BASE, hive="/h", host="vm", nonce="m" * 32, now_ms=5_000).text
"""The same, shown another time."""


def enrolled(key: AnyKey, name: str = "anna", at_ms: int = 500, revoked_ms: int | None = None) -> Approver:
    form, fingerprint = normal(key)
    return Approver(name, form, fingerprint, at_ms, revoked_ms)


def refusal(act: Callable[[], Any]) -> Problem | None:
    try:
        act()
    except Refused as refused:
        return refused.problem
    return None


def holds(proof: AnyProof, *approvers: Approver, document: str = DOCUMENT) -> bool:
    found = refusal(lambda: check(document, proof, approvers, {ORIGIN}))
    assert found in (None, Problem.DENIED)
    return found is None


# --------------------------------------------------------------------------------------------------- ssh-keygen


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("options", [(), ("-O", "hashalg=sha256")])
def test_what_ssh_keygen_signs_holds_for_exactly_that(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    signer, other = SshSigner(tmp_path, "anna", kind), SshSigner(tmp_path, "bert", kind)
    anna = enrolled(signer.key)
    proof = signer.sign(DOCUMENT, SIGNATURE_NAMESPACE, *options)
    assert check(DOCUMENT, proof, (anna,), ()) == anna
    assert not holds(proof, anna, document=OTHER), "another time that it was shown"
    assert not holds(proof, anna, document=DOCUMENT.replace("c" * 40, "d" * 40)), "another commit"
    assert not holds(proof, enrolled(other.key)), "a key that is not enrolled"
    assert not holds(proof, msgspec.structs.replace(anna, revoked_ms=900))
    assert not holds(signer.sign(DOCUMENT, "git"), anna), "a signature for another purpose"
    assert not holds(signer.sign(DOCUMENT + "\n"), anna)


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa"):
        signer = SshSigner(tmp_path, kind, kind)
        said = subprocess.run(
            ("ssh-keygen", "-l", "-f", str(signer.path)), capture_output=True, check=True, text=True
        ).stdout
        form, fingerprint = normal(signer.key)
        assert said.split()[1] == fingerprint
        assert isinstance(form, SshKey)
        assert form.line == " ".join(signer.key.line.split()[:2]), "without its comment"
        assert normal(form) == (form, fingerprint)


@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_hardware_keys_hold_when_they_were_touched(tmp_path: Path, kind: str) -> None:
    token = HardwareKey(kind)
    anna, proof = enrolled(token.key), token.sign(DOCUMENT)
    assert holds(proof, anna)
    assert not holds(proof, anna, document=OTHER)
    assert not holds(token.sign(DOCUMENT, flags=0), anna)
    by_openssh(tmp_path, token, proof)


def by_openssh(folder: Path, token: HardwareKey, proof: SshSignature) -> None:
    """OpenSSH itself takes what the stand-in has signed."""
    allowed, signed = folder / "allowed", folder / "signed"
    allowed.write_text(f"anna {token.key.line}\n")
    signed.write_text(proof.armored)
    words = ("-q", "-Y", "verify", "-I", "anna", "-n", SIGNATURE_NAMESPACE)
    subprocess.run(
        ("ssh-keygen", *words, "-f", str(allowed), "-s", str(signed)),
        input=DOCUMENT.encode(),
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 %%%",
        "ssh-ed25519 AAAA",
        f"ssh-ed25519 {base64.b64encode(wire(b'ssh-ed25519', b'k' * 31)).decode()}",
        f"ssh-ed25519 {base64.b64encode(wire(b'ssh-ed25519', b'k' * 32, b'more')).decode()}",
        f"ssh-ed25519 {base64.b64encode(wire(b'ssh-rsa', b'k' * 32)).decode()}",
        f"ecdsa-sha2-nistp256 {base64.b64encode(wire(b'ecdsa-sha2-nistp256', b'nistp384', bytes(65))).decode()}",
        f"ecdsa-sha2-nistp256 {base64.b64encode(wire(b'ecdsa-sha2-nistp256', b'nistp256', bytes(65))).decode()}",
        f"ecdsa-sha2-nistp256 {base64.b64encode(wire(b'ecdsa-sha2-nistp256', b'nistp256', bytes(33))).decode()}",
        f"sk-ssh-ed25519@openssh.com {base64.b64encode(wire(b'sk-ssh-ed25519@openssh.com', b'k' * 32, b'')).decode()}",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ",
        f"-----BEGIN OPENSSH {PRIVATE} KEY-----\nb3BlbnNzaC1rZXktdjE",
        "no-touch-required ssh-ed25519 AAAA",
    ],
)
def test_what_is_no_key_that_counts_is_refused(line: str) -> None:
    assert refusal(lambda: ssh_key(line)) is Problem.MALFORMED


def test_a_signature_has_one_text(tmp_path: Path) -> None:
    """Everything that reads as the same signature but is another text, and everything cut or of another form."""
    signer = SshSigner(tmp_path)
    anna, text = enrolled(signer.key), signer.sign(DOCUMENT).armored
    begin, *lines, end = text.splitlines()
    body = "".join(lines)
    blob = base64.b64decode(body)

    def put(data: bytes) -> str:
        return f"{begin}\n{base64.b64encode(data).decode()}\n{end}\n"

    assert holds(SshSignature(put(blob)), anna)
    for changed in (
        "",
        body,
        text.rstrip("\n"),
        text.replace("\n", "\r\n"),
        " " + text,
        text + "\n",
        text.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        f"{begin}\n{body[:-4]}\n{end}\n",
        f"{begin}\n{body} \n{end}\n",
        f"{begin}\n{end}\n",
        put(blob + b"\0"),
        put(blob[:-1]),
        put(blob.replace(b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2")),
        put(blob.replace(b"sha512", b"sha384")),
        armored(wire(b"ssh-ed25519", b"k" * 31), b""),
        armored(wire(b"ssh-\xff", b"k"), b""),
        armored(b"", b""),
    ):
        assert not holds(SshSignature(changed), anna), changed


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_contents_of_a_signature_that_are_none(tmp_path: Path, kind: str) -> None:
    if kind.startswith("sk-"):
        key = HardwareKey(kind).key
    else:
        key = SshSigner(tmp_path, "anna", "ecdsa" if "ecdsa" in kind else "ed25519").key
    anna, blob, name = enrolled(key), ssh_key(key.line).blob, kind.encode()
    for content in (
        b"",
        wire(name),
        wire(b"ssh-rsa", b"s" * 64),
        wire(name, b"s" * 64),
        wire(name, b"s" * 64) + b"\1\0\0\0",
        wire(name, b"s" * 64) + b"\1\0\0\0\1",
        wire(name, wire(b"", b"\1")),
        wire(name, wire(b"\0\1", b"\1")),
        wire(name, wire(b"\x80", b"\1")),
        wire(name, wire(b"\1", b"\1" * 40)),
        wire(name, wire(b"\1", b"\1", b"\1")),
        wire(name, wire(b"\1", b"\1")),
    ):
        assert not holds(SshSignature(armored(blob, content)), anna), content


# ----------------------------------------------------------------------------------------------------- passkeys


@pytest.mark.parametrize("is_curve", [True, False])
def test_a_passkey_holds_for_exactly_what_was_shown(is_curve: bool) -> None:
    device = Authenticator(is_curve=is_curve)
    anna, proof = enrolled(device.key), device.sign(DOCUMENT)
    assert check(DOCUMENT, proof, (anna,), {ORIGIN}) == anna
    assert check(DOCUMENT, proof, (anna,), None) == anna, "the record is checked wherever it was held"
    assert not holds(proof, anna, document=OTHER)
    assert not holds(proof, enrolled(Authenticator(is_curve=is_curve).key)), "another key of the same name"
    assert not holds(proof, enrolled(Authenticator(b"other").key))
    assert not holds(proof, msgspec.structs.replace(anna, revoked_ms=900))


@pytest.mark.parametrize(
    "said",
    [
        {"type": "webauthn.create"},
        {"origin": "http://localhost:7001"},
        {"origin": "https://localhost:7000"},
        {"origin": "http://evil.example"},
        {"crossOrigin": True},
        {"topOrigin": "https://evil.example"},
        {"challenge": ""},
        {"challenge": 7},
        {"rp": "evil.example"},
        {"rp": "localhost:7000"},
        {"flags": 0},
        {"flags": PRESENT},
        {"flags": VERIFIED},
        {"flags": PRESENT | VERIFIED | 0x10},
        {"more": b"x"},
    ],
)
def test_a_ceremony_that_was_another_one(said: dict[str, Any]) -> None:
    device = Authenticator()
    assert not holds(device.sign(DOCUMENT, **said), enrolled(device.key))


@pytest.mark.parametrize(
    "said",
    [
        {"flags": PRESENT | VERIFIED | 0x08},
        {"flags": PRESENT | VERIFIED | 0x18},
        {"flags": PRESENT | VERIFIED | 0x80, "more": b"\xa0"},
        {"other_keys_can_be_added_here": "do not compare clientDataJSON against a template"},
    ],
)
def test_what_authenticators_and_browsers_may_say_beside(said: dict[str, Any]) -> None:
    device = Authenticator()
    assert holds(device.sign(DOCUMENT, **said), enrolled(device.key))


@pytest.mark.parametrize(
    "changes",
    [
        {"client_data": b""},
        {"client_data": b"\xff"},
        {"client_data": b"[" * 8_000},
        {"authenticator_data": b""},
        {"authenticator_data": b"\0" * 36},
        {"signature": b""},
        {"signature": b"\x30\x06\x02\x01\x01\x02\x01\x01"},
        {"credential": b""},
    ],
)
def test_an_assertion_with_parts_that_are_none(changes: dict[str, bytes]) -> None:
    device = Authenticator()
    assert not holds(msgspec.structs.replace(device.sign(DOCUMENT), **changes), enrolled(device.key))


def test_where_no_page_is_named_no_passkey_counts() -> None:
    device = Authenticator()
    with pytest.raises(Refused, match="counts at: nowhere"):
        check(DOCUMENT, device.sign(DOCUMENT), (enrolled(device.key),), ())


def test_keys_of_passkeys_that_do_not_count() -> None:
    good = Authenticator().key
    foreign = ec.generate_private_key(ec.SECP384R1()).public_key()
    strong = rsa.generate_private_key(65537, 2048).public_key()
    point = Authenticator().private.public_key()
    assert isinstance(point, ec.EllipticCurvePublicKey)
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    for key in (
        Passkey(b"", good.public_key),
        Passkey(b"c" * (CREDENTIAL_BYTES_MAX + 1), good.public_key),
        Passkey(b"c", b""),
        Passkey(b"c", good.public_key + b"\0"),
        Passkey(b"c", foreign.public_bytes(*spki)),
        Passkey(b"c", strong.public_bytes(*spki)),
        Passkey(b"c", point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)),
    ):
        assert refusal(lambda: normal(key)) is Problem.MALFORMED  # noqa: B023 - called at once


# ------------------------------------------------------------------------------------------------- flipped bits

FLIPPED = (
    Authenticator(),
    Authenticator(is_curve=False),
    HardwareKey(),
    HardwareKey("sk-ecdsa-sha2-nistp256@openssh.com"),
)
PROOFS = [(enrolled(each.key), each.sign(DOCUMENT)) for each in FLIPPED]


@given(st.sampled_from(PROOFS), st.data())
def test_no_proof_survives_a_flipped_bit(given: tuple[Approver, AnyProof], data: st.DataObject) -> None:
    approver, proof = given
    assert holds(proof, approver)
    fields = [each.name for each in msgspec.structs.fields(proof)]
    name = data.draw(st.sampled_from(fields))
    value = getattr(proof, name)
    content = bytearray(value.encode() if isinstance(value, str) else value)
    at = data.draw(st.integers(0, len(content) * 8 - 1))
    content[at // 8] ^= 1 << at % 8
    changed = content.decode("latin-1") if isinstance(value, str) else bytes(content)
    assert not holds(msgspec.structs.replace(proof, **{name: changed}), approver)


@given(st.binary(max_size=400), st.binary(max_size=100))
def test_whatever_is_sent_is_a_refusal_at_most(noise: bytes, more: bytes) -> None:
    approvers = tuple(each for each, _ in PROOFS)
    credential = FLIPPED[0].credential
    assert not holds(PasskeyAssertion(credential, noise, more, noise), *approvers)
    assert not holds(SshSignature(noise.decode("latin-1")), *approvers)
    assert not holds(SshSignature(armored(noise, more)), *approvers)
    assert not holds(SshSignature(armored(FLIPPED[2].blob, noise)), *approvers)


# ---------------------------------------------------------------------------------- who may approve, and how many

ANNA, BERT = enrolled(Authenticator(b"a").key, "anna"), enrolled(Authenticator(b"b").key, "bert")


def word(approver: Approver | None, at_ms: int = 5_100, document: str = DOCUMENT) -> Word:
    return Word(at_ms, document, Click() if approver is None else SshSignature(""), approver)


def test_a_click_is_enough_until_a_key_is_enrolled() -> None:
    assert check(DOCUMENT, Click(), (), ()) is None
    assert check(DOCUMENT, AtTerminal(), (ANNA,), ()) is None
    assert not holds(Click(), ANNA)
    assert not holds(Click(), msgspec.structs.replace(ANNA, revoked_ms=1)), "there is no way back to clicking"


def test_the_terminal_is_roots_alone_and_no_second_key() -> None:
    for uid, root, approvers, required, problem in (
        (0, 0, (), 1, None),
        (0, 0, (ANNA,), 1, None),
        (0, 0, (), 2, None),
        (0, 0, (ANNA,), 2, Problem.DENIED),
        (1_000, 0, (), 1, Problem.DENIED),
        (0, 1_000, (), 1, Problem.DENIED),
        (1_000, 1_000, (), 1, None),
    ):
        assert refusal(lambda: check_terminal(AtTerminal(), uid, root, approvers, required)) is problem  # noqa: B023 - called at once
    check_terminal(Click(), 1_000, 0, (ANNA,), 2)


def test_two_keys_must_be_two() -> None:
    first, second, click = word(ANNA), word(BERT), word(None)
    assert joined(None, first, 2) == (first,)
    assert joined(first, second, 2) == (first, second)
    assert joined(first, second, 1) == (second,)
    assert joined(first, first, 1) == (first,)
    assert joined(first, click, 2) == (click,)
    assert refusal(lambda: joined(first, word(ANNA, 5_200), 2)) is Problem.CONFLICT
    assert [is_enough(each, 1) for each in ((first,), (click,))] == [True, True]
    assert [is_enough(each, 2) for each in ((first,), (click,), (first, second))] == [False, True, True]


def test_the_first_word_counts_over_what_is_deployed_and_while_its_key_does() -> None:
    assert counts_still(word(ANNA), BASE, (BERT, ANNA))
    assert not counts_still(word(ANNA), "d" * 40, (ANNA,))
    assert not counts_still(word(ANNA), BASE, (BERT,))
    assert not counts_still(word(ANNA), BASE, (msgspec.structs.replace(ANNA, enrolled_ms=7),))
    assert not counts_still(word(ANNA), BASE, (ANNA,), {"nixpkgs": "sha256-a"})


def test_what_was_approved_is_built_from_the_sources_of_then() -> None:
    """Whether it was so when the document was shown, or was not said at all."""
    check_sources(None, {"nixpkgs": "sha256-a"})
    elsewhere = word(ANNA)
    document = msgspec.json.decode(elsewhere.document, type=proposals.Document)
    pinned = msgspec.structs.replace(document, systems={"nixpkgs": "sha256-a"})
    text = msgspec.json.encode(pinned, order="deterministic").decode()
    nixos = msgspec.structs.replace(elsewhere, document=text)
    check_sources(Approved(5_100, (elsewhere,)), {})
    check_sources(Approved(5_100, (nixos,)), {"nixpkgs": "sha256-a"})
    for words, sources in (
        ((nixos,), {"nixpkgs": "sha256-b"}),
        ((nixos,), {}),
        ((elsewhere,), {"nixpkgs": "sha256-a"}),
        ((nixos, elsewhere), {"nixpkgs": "sha256-a"}),
    ):
        assert refusal(lambda: check_sources(Approved(5_100, words), sources)) is Problem.CONFLICT  # noqa: B023 - called at once


def test_a_key_is_enrolled_once_under_one_name() -> None:
    new = Authenticator(b"new").key
    check_new(new, "new", "SHA256:new", (ANNA, BERT))
    for key, name, fingerprint in (
        (new, "anna", "SHA256:new"),
        (new, "new", ANNA.fingerprint),
        (Authenticator(b"a").key, "new", "SHA256:new"),
    ):
        for known in (ANNA, msgspec.structs.replace(ANNA, revoked_ms=1)):
            assert refusal(lambda: check_new(key, name, fingerprint, (known,))) is Problem.CONFLICT  # noqa: B023 - called at once
    many = tuple(
        msgspec.structs.replace(BERT, name=str(at), fingerprint=str(at)) for at in range(APPROVERS_MAX)
    )
    assert refusal(lambda: check_new(new, "new", "SHA256:new", many)) is Problem.LIMIT


# --------------------------------------------------------------------------------------------------- the record

ASKED = Asked(ProposalKind.CONFIG, OPEN.commit, OPEN.tree, BASE, "manager", "", 1_000, 9_000, ())


def approved(*words: Word) -> Approved:
    return Approved(5_100, words)


def test_an_approval_of_the_record_is_checked_as_of_its_time() -> None:
    device, other = Authenticator(b"a"), Authenticator(b"b", is_curve=False)
    anna, bert = enrolled(device.key, "anna"), enrolled(other.key, "bert", 600)
    first = Word(5_100, DOCUMENT, device.sign(DOCUMENT), anna)
    second = Word(5_200, OTHER, other.sign(OTHER), bert)
    revoked = msgspec.structs.replace(anna, revoked_ms=6_000)
    everybody: tuple[tuple[Approver, ...], ...] = ((anna, bert), (revoked, bert))
    for known in everybody:
        check_approved("iris", 3, ASKED, approved(first, second), known)
        check_approved("iris", 3, ASKED, approved(first), known, {ORIGIN})
    clicked = approved(Word(5_100, DOCUMENT, Click(), None))
    check_approved("iris", 3, ASKED, clicked, ())
    check_approved("iris", 3, ASKED, clicked, (msgspec.structs.replace(anna, enrolled_ms=5_101),))
    replace = msgspec.structs.replace
    for agent, number, asked, found, known in (
        ("otto", 3, ASKED, approved(first), (anna,)),
        ("iris", 4, ASKED, approved(first), (anna,)),
        ("iris", 3, replace(ASKED, commit="d" * 40), approved(first), (anna,)),
        ("iris", 3, replace(ASKED, tree="d" * 40), approved(first), (anna,)),
        ("iris", 3, replace(ASKED, kind=ProposalKind.SPAWN), approved(first), (anna,)),
        ("iris", 3, ASKED, approved(), (anna,)),
        ("iris", 3, ASKED, approved(first, replace(first, at_ms=5_101)), (anna,)),
        ("iris", 3, ASKED, approved(replace(first, document="{}")), (anna,)),
        ("iris", 3, ASKED, approved(replace(first, document=OTHER)), (anna,)),
        ("iris", 3, ASKED, approved(replace(first, at_ms=4_999)), (anna,)),
        ("iris", 3, ASKED, approved(replace(first, at_ms=605_000)), (anna,)),
        ("iris", 3, ASKED, approved(replace(first, approver=bert)), (anna, bert)),
        ("iris", 3, ASKED, approved(replace(first, approver=None)), (anna,)),
        ("iris", 3, ASKED, approved(first), ()),
        ("iris", 3, ASKED, approved(first), (replace(anna, revoked_ms=5_100),)),
        ("iris", 3, ASKED, approved(first), (replace(anna, enrolled_ms=5_101),)),
        ("iris", 3, ASKED, clicked, (anna,)),
    ):
        assert refusal(lambda: check_approved(agent, number, asked, found, known)) is Problem.DENIED  # noqa: B023 - called at once
    with pytest.raises(Refused, match="counts at"):
        check_approved("iris", 3, ASKED, approved(first), (anna,), {"https://hive.example"})


def test_who_was_enrolled_at_a_time() -> None:
    revoked = msgspec.structs.replace(ANNA, revoked_ms=900)
    assert at_that_time((revoked,), 499) == ()
    assert at_that_time((revoked,), 899) == (ANNA,)
    assert at_that_time((revoked,), 900) == (revoked,)


def test_how_it_was_proven_in_words() -> None:
    assert [said_of(word(each)) for each in (None, ANNA)] == ["click", "ssh anna"]
    passkey = Word(0, "", PasskeyAssertion(b"", b"", b"", b""), BERT)
    assert said_of(passkey) == "passkey bert"
    assert said_of(Word(0, "", AtTerminal(), None)) == "terminal"
