"""What proves an approval: a click, root at its terminal, or a key that was enrolled. Pure.

Everything is checked over the document, which privd made of its own state; nothing of who asks goes into it. The same
functions check a new approval, and one in the record for as long as it is kept.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from privd.policy import ssh_signature
from privd.policy.keys import passkey_key, ssh_key
from privd.policy.passkey import check_assertion
from privd.policy.proposals import Document
from privd.policy.record import Approved, Asked, Word
from protocol.approvals import (
    AnyKey,
    AnyProof,
    Approver,
    AtTerminal,
    Click,
    Passkey,
    PasskeyAssertion,
    SshKey,
    SshSignature,
)
from protocol.problem import Problem, Refused

APPROVERS_MAX: Final = 64
"""Keys that one hive remembers, revoked ones too."""


def check(
    document: str, proof: AnyProof, approvers: Sequence[Approver], origins: Collection[str] | None
) -> Approver | None:
    """The key that proves the approval of a document; None with a click, and at the terminal.

    `approvers`: everybody who was ever enrolled; revoked ones prove nothing. `origins`: the pages where passkeys count,
    None for any. Refused(denied) when it does not hold. Whether it is root at the terminal is the caller's to know.
    """
    match proof:
        case Click():
            if approvers:
                raise Refused(
                    Problem.DENIED,
                    "keys decide in this hive, so a click is not enough: approve with a passkey, or by "
                    "`hivectl approve AGENT NUMBER --sign KEYFILE`",
                )
            return None
        case AtTerminal():
            return None
        case SshSignature(armored=armored):
            return _by_ssh(document, armored, approvers)
        case PasskeyAssertion():
            return _by_passkey(document, proof, approvers, origins)


def _by_ssh(document: str, armored: str, approvers: Iterable[Approver]) -> Approver:
    signature = ssh_signature.read(armored)
    found = next(
        (
            each
            for each in approvers
            if isinstance(each.key, SshKey) and ssh_key(each.key.line).blob == signature.key.blob
        ),
        None,
    )
    approver = _entitled(found)
    if not ssh_signature.holds(signature, document.encode()):
        raise Refused(
            Problem.DENIED, f"the signature of {approver.name} does not hold for what was shown: look again"
        )
    return approver


def _by_passkey(
    document: str, proof: PasskeyAssertion, approvers: Iterable[Approver], origins: Collection[str] | None
) -> Approver:
    for each in approvers:
        if isinstance(each.key, Passkey) and each.key.credential == proof.credential:
            approver = _entitled(each)
            digest = hashlib.sha256(document.encode()).digest()
            check_assertion(proof, passkey_key(each.key.public_key), digest, origins)
            return approver
    return _entitled(None)


def _entitled(found: Approver | None) -> Approver:
    if found is None:
        raise Refused(
            Problem.DENIED, "this key is not enrolled in this hive; root enrols it by `hivectl enrol`"
        )
    if found.revoked_ms is not None:
        raise Refused(Problem.DENIED, f"the key {found.name} was revoked")
    return found


def check_terminal(
    proof: AnyProof, uid: int, root_uid: int, approvers: Sequence[Approver], required: int
) -> None:
    """Refuse the word of root from anybody else, and where two keys must agree."""
    if not isinstance(proof, AtTerminal):
        return
    if uid != root_uid:
        raise Refused(
            Problem.DENIED, "at the terminal only root approves, or the hive's own user where it has no root"
        )
    if approvers and required > 1:
        raise Refused(Problem.DENIED, f"{required} keys must agree in this hive: approve with --sign KEYFILE")


def joined(agreed: Word | None, word: Word, required: int) -> tuple[Word, ...]:
    """Everybody who approves by now. Refused(conflict) where it is the same key again."""
    if required < 2 or agreed is None or word.approver is None:
        return (word,)
    if agreed.approver is not None and agreed.approver.name == word.approver.name:
        raise Refused(
            Problem.CONFLICT, f"{word.approver.name} has approved it already: another key must agree"
        )
    return (agreed, word)


def counts_still(
    word: Word,
    base: str | None,
    approvers: Sequence[Approver],
    systems: dict[str, str] | UnsetType = UNSET,
) -> bool:
    """Whether a word that was given earlier holds.

    Over what is deployed now, from the sources of now, by a key that was not revoked since.
    """
    document = msgspec.json.decode(word.document, type=Document)
    return document.base == base and document.systems == systems and word.approver in approvers


def check_sources(approved: Approved | None, pinned: dict[str, str]) -> None:
    """Refuse to build what was approved from other sources; what nobody had to approve again is built from any."""
    for word in () if approved is None else approved.words:
        if msgspec.json.decode(word.document, type=Document).systems != (pinned or UNSET):
            raise Refused(
                Problem.CONFLICT,
                "what systems are built from has changed since this was approved: it must be proposed again",
            )


def is_enough(words: Sequence[Word], required: int) -> bool:
    """Whether it may be deployed. A click, and root's word, count alone where they count at all."""
    return any(each.approver is None for each in words) or len(words) >= required


def check_new(key: AnyKey, name: str, fingerprint: str, approvers: Sequence[Approver]) -> None:
    """Refuse a key that cannot be enrolled beside the others; `key` is in its one form."""
    for each in approvers:
        was = "was revoked" if each.revoked_ms is not None else "is enrolled"
        if each.name == name:
            raise Refused(Problem.CONFLICT, f"a key {name} {was} already: choose another name")
        if each.fingerprint == fingerprint or _share_a_credential(key, each.key):
            raise Refused(Problem.CONFLICT, f"this key {was} already, as {each.name}")
    if len(approvers) >= APPROVERS_MAX:
        raise Refused(Problem.LIMIT, f"a hive remembers at most {APPROVERS_MAX} keys")


def _share_a_credential(one: AnyKey, other: AnyKey) -> bool:
    """Whether an assertion would name both."""
    match one, other:
        case Passkey(credential=credential), Passkey(credential=known):
            return credential == known
        case _:
            return False


def at_that_time(approvers: Iterable[Approver], at_ms: int) -> tuple[Approver, ...]:
    """Who was enrolled then, and who was not revoked yet."""
    return tuple(
        each
        if each.revoked_ms is None or each.revoked_ms <= at_ms
        else msgspec.structs.replace(each, revoked_ms=None)
        for each in approvers
        if each.enrolled_ms <= at_ms
    )


def check_approved(
    agent: str,
    number: int,
    asked: Asked,
    approved: Approved,
    approvers: Sequence[Approver],
    origins: Collection[str] | None = None,
) -> None:
    """Check an approval of the record again, with the keys as they were then. Refused(denied) says what is wrong.

    What was shown must be what was asked for, each word must have been given while that document was valid, and its
    proof must hold by itself. How many must agree is a setting of its time, which the record does not hold.
    """
    what = f"the approval of proposal {number} of {agent}"
    if not approved.words:
        raise Refused(Problem.DENIED, f"{what} was given by nobody")
    names = [each.approver.name for each in approved.words if each.approver is not None]
    if len(set(names)) != len(names):
        raise Refused(Problem.DENIED, f"{what} counts one key twice")
    for word in approved.words:
        try:
            document = msgspec.json.decode(word.document, type=Document)
        except msgspec.DecodeError as error:
            raise Refused(Problem.DENIED, f"{what} is for no document: {error}") from None
        shown = (document.agent, document.number, document.kind, document.commit, document.tree)
        if shown != (agent, number, asked.kind, asked.commit, asked.tree):
            raise Refused(Problem.DENIED, f"{what} was given for something else")
        if not document.from_ms <= word.at_ms < document.until_ms:
            raise Refused(Problem.DENIED, f"{what} was given outside the document's time")
        known = at_that_time(approvers, word.at_ms)
        if check(word.document, word.proof, known, origins) != word.approver:
            raise Refused(Problem.DENIED, f"{what} names another key than the one that proves it")
