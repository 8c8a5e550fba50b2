"""The audit log read again: whether each line follows from the one before it, and what was done. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from privd.policy.audit import DONE, FIRST, About, AnyLine, Begin, End, Head, Note, decode, follows, head_of
from protocol.approvals import Approver

DEPLOYED_BY: Final = frozenset({"deploy_sealing", "take_up"})
APPROVED_BY: Final = frozenset({"approve"})


class Action(Struct):
    """One beginning with its end; `verdict` is empty where it has none."""

    seq: int
    at_ms: int
    by: str
    uid: int
    op: str
    agent: str
    number: int | None
    frame: str
    verdict: str = ""
    took_ms: int | None = None
    detail: str = ""
    ended: int | None = None
    """The line of its end."""


class Chain:
    """All lines, one after the other. `marks` are heads that are known from elsewhere, by where."""

    def __init__(self, marks: Mapping[str, Head]) -> None:
        self.head: Head | None = None
        """Of the last line."""
        self.first: AnyLine | None = None
        self.faults: list[str] = []
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self._marks = dict(marks)
        self._begun: dict[int, Action] = {}

    def read(self, place: str, written: bytes) -> None:
        """One line more, without its end."""
        try:
            line = decode(written)
        except ValueError as error:
            self.faults.append(f"{place}: {error}")
            return
        if self.head is not None and (fault := follows(self.head, line)):
            self.faults.append(fault)
        self.first = self.first or line
        self.head = head_of(line)
        for where, mark in tuple(self._marks.items()):
            if mark.seq == line.seq:
                del self._marks[where]
                if mark != self.head:
                    self.faults.append(f"line {line.seq} is not the one that {where} tells of")
        self._join(line)

    def _join(self, line: AnyLine) -> None:
        match line:
            case Begin():
                action = Action(
                    line.seq, line.at_ms, line.by, line.uid, line.op, line.agent, line.number, line.frame
                )
                self.actions.append(action)
                self._begun[line.seq] = action
            case End(of=of):
                begun = self._begun.pop(of, None)
                if begun is not None:
                    begun.verdict, begun.took_ms, begun.detail = line.verdict, line.took_ms, line.detail
                    begun.number, begun.ended = line.number or begun.number, line.seq
                elif self.first is not None and of >= self.first.seq:
                    self.faults.append(f"line {line.seq} ends what line {of} did not begin")
            case Note():
                self.notes.append(line)

    def end(self) -> None:
        """There are no more lines."""
        if self.first is not None and Head(self.first.seq - 1, self.first.prev) not in (
            FIRST,
            *(Head(note.upto, note.hash) for note in self.notes if note.about is About.DROPPED),
        ):
            self.faults.append(f"lines before {self.first.seq} are missing, and no note says that they went")
        first, last = (0 if self.first is None else self.first.seq), (self.head or FIRST).seq
        for where, mark in self._marks.items():
            if mark.seq > last:
                self.faults.append(f"the log ends with line {last}, but {where} tells of line {mark.seq}")
            elif mark.seq >= first:
                self.faults.append(f"line {mark.seq}, which {where} tells of, is missing")
        for note in self.notes:
            if note.about is About.CUT:
                self.faults.append(f"line {note.seq}: {note.detail}")

    @property
    def without_end(self) -> list[Action]:
        """What was begun, and cut off by an end of privd."""
        return [each for each in self.actions if not each.verdict]


def unexplained(
    chain: Chain,
    deployed: Mapping[tuple[str, int], int],
    approved: Mapping[tuple[str, int], int],
    upto: int | None = None,
) -> list[str]:
    """What the record says and the log does not, or the other way round; the record outlives its agent.

    `deployed` and `approved`: when each generation and each approval was made, by agent and number. `upto`: the last
    line that was there before the record was read, where privd goes on meanwhile.
    """
    if chain.first is None:
        return [
            f"the log is empty, but {agent} has generation {number}" for agent, number in sorted(deployed)
        ]
    since_ms = chain.first.at_ms
    found: list[str] = []
    for what, ops, rows in (("approval", APPROVED_BY, approved), ("generation", DEPLOYED_BY, deployed)):
        told = {
            (each.agent, each.number)
            for each in chain.actions
            if each.op in ops and each.verdict in {DONE, ""}
        }
        found += [
            f"{what} {number} of {agent} is in the record, but not in the log"
            for (agent, number), at_ms in sorted(rows.items())
            if at_ms > since_ms and (agent, number) not in told
        ]
    return found + [
        f"line {each.seq} made generation {each.number} of {each.agent}, which is not in the record"
        for each in chain.actions
        if each.op in DEPLOYED_BY
        and each.verdict == DONE
        and each.number is not None
        and (upto is None or each.ended is None or each.ended <= upto)
        and (each.agent, each.number) not in deployed
    ]


def unexplained_keys(chain: Chain, approvers: Iterable[Approver]) -> list[str]:
    """Keys that were enrolled, or revoked, and the log does not say so."""
    if chain.first is None:
        return []
    since_ms = chain.first.at_ms
    told = {(each.op, each.detail) for each in chain.actions if each.verdict in {DONE, ""}}
    cut_off = {each.op for each in chain.without_end}
    return [
        f"the key {each.name} was {what}, but the log does not say so"
        for each in approvers
        for what, op, at_ms in (
            ("enrolled", "enrol_approver", each.enrolled_ms),
            ("revoked", "revoke_approver", each.revoked_ms),
        )
        if at_ms is not None and at_ms > since_ms and (op, each.name) not in told and op not in cut_off
    ]


def removed_keys(chain: Chain, approvers: Iterable[Approver]) -> list[str]:
    """Keys that were enrolled and are not in the list any more."""
    names = {each.name for each in approvers}
    return [
        f"the key {each.detail} was enrolled in line {each.seq}, and is not in the list any more"
        for each in chain.actions
        if each.op == "enrol_approver" and each.verdict == DONE and each.detail not in names
    ]
