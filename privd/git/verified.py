"""The record of one agent checked again: its tags, what was approved and by whom, its branch, its logs. Blocking."""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from privd import build_log
from privd.git.applied import Applied
from privd.git.contents import tree_id
from privd.git.ledger import Ledger
from privd.policy.objects import Kind, parse_commit
from privd.policy.proofs import check_approved
from privd.policy.proposals import Document
from privd.policy.record import (
    Approved,
    Begun,
    Deployed,
    Failed,
    Mark,
    approved_of,
    asked_of,
    decode,
    proven,
    unfinished,
)
from protocol.approvals import Approver, DeploymentKind
from protocol.problem import Refused


class Checked:
    """What was found in one record."""

    def __init__(self, agent: str, ledger: Ledger, approvers: Sequence[Approver]) -> None:
        self.agent = agent
        self.ledger = ledger
        self.faults: list[str] = []
        self.proofs: dict[int, str] = {}
        """How each proposal that was approved was proven."""
        self.taken_up: list[int] = []
        """Generations that were made of an agent as it was, before its configuration was a commit."""
        self._approvers = approvers
        self._commits: dict[tuple[Mark, int], str] = {}

    @property
    def deployed(self) -> dict[int, Deployed]:
        return {
            number: found
            for (mark, number), found in sorted(self.ledger.tags.items())
            if mark is Mark.DEPLOYED and isinstance(found, Deployed)
        }

    @property
    def is_under_way(self) -> bool:
        """Whether a deployment has not come to its end: then its branch may be a step ahead of its tags."""
        return bool(unfinished(self.ledger.tags)) or (self.ledger.folder / "step.json").exists()

    def run(self) -> None:
        self._read_tags()
        checks: list[Callable[[], None]] = [
            *(partial(self._check_generation, *each) for each in self.deployed.items()),
            *(partial(self._check_approval, each) for each in sorted({key[1] for key in self.ledger.tags})),
            self._check_branch,
        ]
        for check in checks:
            try:
                check()
            except (Refused, OSError, msgspec.MsgspecError) as error:
                self._fault(error.detail if isinstance(error, Refused) else str(error))

    def _fault(self, text: str) -> None:
        self.faults.append(f"{self.agent}: {text}")

    def _read_tags(self) -> None:
        """Each tag whole, and named as it names itself."""
        applied = self.ledger.applied
        for file in sorted((self.ledger.folder / "refs" / "tags").glob("*/*")):
            name = f"{file.parent.name}/{file.name}"
            if not file.exists():  # dropped meanwhile, by a privd that runs
                continue
            try:
                head, _, document = (
                    applied.read(Kind.TAG, file.read_text().strip()).decode().partition("\n\n")
                )
                said = dict(line.partition(" ")[::2] for line in head.splitlines())
                if said["tag"] != name:
                    self._fault(f"the tag {name} is {said['tag']} under another name")
                    continue
                key, found = decode(name, document.encode())
                self.ledger.tags[key], self._commits[key] = found, said["object"]
            except (Refused, ValueError, KeyError, OSError) as error:
                self._fault(f"the tag {name} cannot be read: {error}")

    def _check_generation(self, number: int, found: Deployed) -> None:
        begun, what = found.begun, f"generation {number}"
        if self._commits[Mark.DEPLOYED, number] != begun.commit:
            self._fault(f"{what} names the commit {begun.commit}, but its tag is at another one")
        if tree_id(self.ledger.applied, begun.commit) != begun.tree:
            self._fault(f"{what}: its commit does not hold the tree that it names")
        log = self.ledger.log_path(number)
        if log.exists() and build_log.digest(log) != found.log:
            self._fault(f"{what}: its log is not the one that was written when it was made")
        if begun.of is not None:
            again = self.deployed.get(begun.of)
            if again is None or again.begun.tree != begun.tree:
                self._fault(f"{what} was to be generation {begun.of} again, but is something else")
        elif found.asked is None:
            self.taken_up.append(number)
        elif found.approved is None:
            self._fault(f"{what} was approved by nobody")
        else:
            self._check_base(what, begun, found.approved)

    def _check_base(self, what: str, begun: Begun, approved: Approved) -> None:
        """It was approved over exactly what was deployed before it."""
        if begun.kind is DeploymentKind.INIT:
            return
        parents = _parents(self.ledger.applied, begun.commit)
        for word in approved.words:
            base = msgspec.json.decode(word.document, type=Document).base
            if base is not None and (base,) != parents:
                self._fault(f"{what} was approved over {base}, and deployed over something else")

    def _check_approval(self, number: int) -> None:
        asked, approved = asked_of(self.ledger.tags, number), approved_of(self.ledger.tags, number)
        if asked is None or approved is None:
            return
        self.proofs[number] = proven(approved)
        for mark in (Mark.DEPLOYED, Mark.FAILED):
            end = self.ledger.tags.get((mark, number))
            if isinstance(end, Deployed | Failed) and end.begun.tree != asked.tree:
                self._fault(
                    f"proposal {number} was approved for another content than the one that was deployed"
                )
        check_approved(self.agent, number, asked, approved, self._approvers)

    def _check_branch(self) -> None:
        """Every commit of `main` is a generation, the newest first, and each generation is there.

        One that was spawned anew after a purge has nothing below it: what its name had before is a chain of its own.
        """
        applied, at = self.ledger.applied, self.ledger.applied.main()
        wanted = [
            (number, found.begun)
            for number, found in reversed(self.deployed.items())
            if found.begun.kind is not DeploymentKind.INIT
        ]
        begins_anew = False
        if self.is_under_way and at is not None and (not wanted or wanted[0][1].commit != at):
            at = next(iter(_parents(applied, at)), None)
            begins_anew = at is None
        for number, begun in wanted:
            if at is None and begins_anew:
                at = begun.commit
            if at != begun.commit:
                self._fault(f"main does not hold generation {number} where it belongs")
                return
            at = next(iter(_parents(applied, begun.commit)), None)
            begins_anew = begun.kind is DeploymentKind.SPAWN
        if at is not None:
            self._fault(f"main holds {at}, which is no generation")


def _parents(applied: Applied, commit: str) -> tuple[str, ...]:
    return parse_commit(applied.read(Kind.COMMIT, commit)).parents
