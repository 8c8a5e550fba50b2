"""`hivectl enrol`, and keys in words: whose they are that decide proposals, and what one signs at this terminal."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from hivectl import tables
from hivectl.passkey import read_enrolment
from hivectl.program import program
from protocol.approvals import SIGNATURE_NAMESPACE, AnyKey, Approver, Passkey, SshKey, SshSignature
from protocol.configuration import EnrolApprover
from protocol.limits import PROOF_BYTES_MAX
from protocol.problem import Problem, Refused
from runtime.client import Client

PATIENCE_S: Final = 5.0
PRIVATE: Final = "-----BEGIN"
SIGNER: Final = "ssh-keygen"
CONSEQUENCE: Final = "from now on a key decides: no click is enough any more"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("enrol", help="let a key of a person decide proposals; root alone may")
    child.add_argument("name", help="what the key is called from now on, as anna or anna.laptop")
    kind = child.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--ssh", type=Path, metavar="FILE", help="a public key of ssh-keygen, as id_ed25519.pub"
    )
    kind.add_argument(
        "--passkey", metavar="TEXT", help="the text that the dashboard's page /enrol shows for a passkey"
    )
    child.set_defaults(run=run_enrol)


async def run_enrol(values: argparse.Namespace) -> int:
    key: AnyKey
    if values.ssh is not None:
        key, where = public_key(values.ssh), ""
    else:
        text = read_enrolment(values.passkey)
        key, where = text.passkey(), f"; it counts at {tables.printable(text.origin)}"
    async with Client(values.places.socket("privd")) as privd:
        row = await privd.call(EnrolApprover(name=values.name, key=key), patience_s=PATIENCE_S)
    print(tables.document(row) if values.json else f"{approver(row)}{where}\n{CONSEQUENCE}")
    return 0


def public_key(path: Path) -> SshKey:
    """The key of a .pub file; of a key file, the one beside it. Refused(malformed) says which file to name instead."""
    beside = path.with_name(f"{path.name}.pub")
    content = (beside if path.suffix != ".pub" and beside.exists() else path).read_bytes()
    text = content[: PROOF_BYTES_MAX + 1].decode("ascii", "replace").strip()
    if text.startswith(PRIVATE):
        raise Refused(Problem.MALFORMED, f"{path}: this is a private key; name its public one (.pub)")
    if not text or len(text) > PROOF_BYTES_MAX or len(text.splitlines()) != 1:
        raise Refused(Problem.MALFORMED, f"{path}: this is no public key: it has one line")
    return SshKey(text)


async def signed(document: str, key: Path) -> SshSignature:
    """What ssh-keygen signs with a key file, an agent or a hardware key. It asks for what it needs by itself."""
    command = (SIGNER, "-Y", "sign", "-n", SIGNATURE_NAMESPACE, "-f", str(key.absolute()))
    try:
        done = await trio.run_process(command, stdin=document.encode(), capture_stdout=True, check=False)
    except FileNotFoundError:
        raise Refused(Problem.FAILED, f"{SIGNER} is not here: install openssh-client") from None
    if done.returncode != 0:
        raise Refused(Problem.FAILED, f"{SIGNER} has signed nothing with {key}: nothing was approved")
    return SshSignature(done.stdout.decode("ascii", "replace"))


def approvers(rows: Sequence[Approver]) -> str:
    if not rows:
        return f"no key is enrolled, so a click is enough; to change that: {program()} enrol NAME --ssh FILE"
    return tables.table(
        ("NAME", "KIND", "ENROLLED", "STATE", "FINGERPRINT"),
        (
            (
                each.name,
                _kind(each.key),
                tables.clock(each.enrolled_ms),
                "decides" if each.revoked_ms is None else f"revoked {tables.clock(each.revoked_ms)}",
                tables.printable(each.fingerprint),
            )
            for each in rows
        ),
    )


def approver(row: Approver) -> str:
    """One key after it was enrolled or revoked."""
    state = "decides proposals" if row.revoked_ms is None else "is revoked: it decides nothing any more"
    return f"{row.name} ({_kind(row.key)}, {tables.printable(row.fingerprint)}) {state}"


def _kind(key: AnyKey) -> str:
    match key:
        case SshKey(line=line):
            return tables.printable(line.partition(" ")[0])
        case Passkey():
            return "passkey"
