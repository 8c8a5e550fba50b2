"""`python -m privd.verify STATE` checks root's record: is the log whole, does every generation rest on an approval.

Reads root's own files and nothing else: the log, the tags of every applied repository, the meta repository, the keys
that were enrolled. It needs no privd, and may run beside one. Prints what it found as JSON; nothing is changed.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from privd.approvers import Approvers
from privd.audit_files import HEAD_NAME, NAME, files
from privd.git.applied import Applied
from privd.git.ledger import Ledger
from privd.git.meta import Live, history
from privd.git.verified import Checked
from privd.policy.audit import FIRST, About, Head, read_head
from privd.policy.audit_chain import Action, Chain, removed_keys, unexplained, unexplained_keys
from privd.policy.record import generation_of
from privd.registry import Registry, RegistryFault
from protocol.approvals import Approver
from protocol.problem import Refused

EXIT_FAULTS: Final = 1
EXIT_UNREADABLE: Final = 2
FAULTS_MAX: Final = 200
"""That are told; one broken thing may break many."""
LISTED_MAX: Final = 10_000


class Report(Struct, frozen=True):
    """What was found. `head` is the newest line: noted elsewhere, it finds out a log that was cut or written anew."""

    faults: tuple[str, ...]
    notices: tuple[str, ...]
    """What is no fault, and worth knowing."""
    lines: tuple[int, int]
    """The first and the last."""
    head: str
    agents: int
    generations: int
    proofs: dict[str, int]
    """How many proposals were approved in which way."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="privd.verify", description="check a hive's record of root's doing")
    parser.add_argument("state", type=Path, help="the hive's folder")
    parser.add_argument("--head", default="", help="NUMBER:HASH of a line that was noted before")
    parser.add_argument("--list", type=int, metavar="N", help="only say what was done, the newest N of it")
    parser.add_argument("--agent", default="", help="with --list: of one agent")
    values = parser.parse_args()
    try:
        if values.list is not None:
            found: object = listed(values.state, min(values.list, LISTED_MAX), values.agent)
        else:
            found = verify(values.state, noted(values.head) if values.head else None)
    except (OSError, ValueError, RegistryFault) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNREADABLE
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return EXIT_FAULTS if isinstance(found, Report) and found.faults else 0


def noted(text: str) -> Head:
    """ValueError when it is no NUMBER:HASH."""
    number, _, found = text.partition(":")
    if not number.isdecimal() or len(found) != len(FIRST.hash):
        raise ValueError(f"{text!a} is no head: write it as `audit verify` said it, NUMBER:HASH")
    return Head(int(number), found)


def listed(state: Path, most: int, agent: str) -> list[Action]:
    """What was done, the newest last."""
    chain, _ = read_log(state, {})
    wanted = [each for each in chain.actions if not agent or each.agent == agent]
    return wanted[-most:] if most > 0 else []


def verify(state: Path, known: Head | None) -> Report:
    """Everything. The record is read first: what it tells, the log told before."""
    if not (state / "cages").is_dir():
        raise ValueError(f"{state}: no hive is in this folder")
    faults: list[str] = []
    before, _ = _told_head(state)
    approvers = _approvers(state, faults)
    records = [_checked(path, approvers) for path in sorted((state / "applied").glob("*.git"))]
    faults += [fault for each in records for fault in each.faults]
    faults += _meta_faults(state, {each.agent: each for each in records})
    chain, rest = read_log(state, {} if known is None else {"the head that was noted": known})
    faults += chain.faults
    faults += unexplained(chain, *_made(records), None if before is None else before.seq)
    faults += unexplained_keys(chain, approvers)
    head = chain.head or FIRST
    return Report(
        faults=tuple(faults[:FAULTS_MAX]),
        notices=(*_notices(records, chain, rest), *removed_keys(chain, approvers)),
        lines=(0 if chain.first is None else chain.first.seq, head.seq),
        head=f"{head.seq}:{head.hash}",
        agents=len(records),
        generations=sum(len(each.deployed) for each in records),
        proofs=dict(Counter(proof for each in records for proof in each.proofs.values())),
    )


def _notices(records: list[Checked], chain: Chain, rest: int) -> Iterator[str]:
    """What an end of privd, or an older hyperhive, leaves."""
    if rest:
        yield f"{rest} bytes at the end of {NAME} are no whole line; privd mends that when it starts"
    if chain.first is not None and chain.first.seq == 1:
        older = sum(1 for at_ms in _made(records)[0].values() if at_ms < chain.first.at_ms)
        if older:
            yield f"{older} generations were made before the log begins"
    if open_ends := chain.without_end:
        last = ", ".join(f"line {each.seq} {each.op} {each.agent}".rstrip() for each in open_ends[-5:])
        yield f"{len(open_ends)} begun and not ended, because privd ended or still does it: {last}"
    if untold := [note for note in chain.notes if note.about is About.UNTOLD]:
        yield f"{len(untold)} times a caller asked too often, last in line {untold[-1].seq}: {untold[-1].detail}"
    for each in records:
        if each.taken_up:
            yield f"{each.agent}: generation {each.taken_up[0]} was taken up as it was, with no approval"


def read_log(state: Path, marks: dict[str, Head]) -> tuple[Chain, int]:
    """All lines, and how many bytes after the last one are none. Read again where a file was begun meanwhile."""
    while True:
        there = files(state)
        found = _read(state, there, marks)
        if files(state) == there:
            return found


def _read(state: Path, there: list[Path], marks: dict[str, Head]) -> tuple[Chain, int]:
    told, fault = _told_head(state)
    chain = Chain(marks if told is None else {**marks, HEAD_NAME: told})
    chain.faults += [fault] if fault else []
    rest = 0
    for path in there:
        if path.exists():
            whole, _, tail = path.read_bytes().rpartition(b"\n")
            rest = len(tail)
            for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
                chain.read(f"{path.name}, its line {number}", line)
    chain.end()
    return chain, rest


def _told_head(state: Path) -> tuple[Head | None, str]:
    """What audit.head says, or what is wrong with it."""
    try:
        return read_head((state / HEAD_NAME).read_bytes()), ""
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, f"{HEAD_NAME}: {error}"


def _approvers(state: Path, faults: list[str]) -> tuple[Approver, ...]:
    found = Approvers(state)
    if fault := found.load():
        faults.append(fault)
        return ()
    return found.rows()


def _checked(folder: Path, approvers: tuple[Approver, ...]) -> Checked:
    agent = folder.name.removesuffix(".git")
    checked = Checked(agent, Ledger(agent, folder), approvers)
    checked.run()
    return checked


def _made(records: list[Checked]) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """When generations and approvals were made that the log must tell of."""
    deployed = {
        (each.agent, number): found.at_ms for each in records for number, found in each.deployed.items()
    }
    approved = {
        (each.agent, number): found.approved.at_ms
        for each in records
        for number, found in each.deployed.items()
        if found.approved is not None
    }
    return deployed, approved


def _meta_faults(state: Path, records: dict[str, Checked]) -> Iterator[str]:
    """Whether the meta repository has told nothing but generations, and tells what is live."""
    wrong: set[str] = set()
    newest: dict[str, Live] = {}
    try:
        for commit, live in history(Applied(state / "meta")):
            newest = newest or live
            for agent, said in live.items():
                fault = _told_wrong(agent, said, records.get(agent))
                if fault and fault not in wrong:
                    wrong.add(fault)
                    yield f"meta, commit {commit}: {fault}"
    except (Refused, ValueError) as error:
        yield f"meta: {error}"
    for record in _living(state):
        checked = records.get(record)
        if checked is None or checked.is_under_way:
            continue
        generation = generation_of(checked.ledger.tags)
        told = newest[record].generation if record in newest else None
        if generation != told:
            yield f"meta says that generation {told} of {record} is live, its record says {generation}"


def _told_wrong(agent: str, said: Live, checked: Checked | None) -> str:
    """Empty where the record agrees, or is gone with its agent."""
    if checked is None:
        return ""
    found = checked.deployed.get(said.generation)
    if found is None or (found.begun.commit, found.begun.tree) != (said.commit, said.tree):
        return f"it tells of generation {said.generation} of {agent}, commit {said.commit}, which its record does not"
    return ""


def _living(state: Path) -> list[str]:
    registry = Registry(state / "cages")
    registry.load()
    return [each.agent for each in registry.all() if not each.kept and not each.draft]


if __name__ == "__main__":
    sys.exit(main())
