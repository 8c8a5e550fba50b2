"""The one error that crosses a socket.

Refused(problem, detail)        a no that the peer is told, with a code of a closed set
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct


class Problem(StrEnum):
    """The codes of a refusal; a client may branch on the code, never on the text."""

    MALFORMED = "malformed"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    LIMIT = "limit"
    BUSY = "busy"
    STOPPING = "stopping"
    STORAGE_FULL = "storage_full"
    FAILED = "failed"
    INTERNAL = "internal"


PROBLEM_MEANINGS: Final = {
    Problem.MALFORMED: "the request is not one this socket serves, or a value breaks its rule",
    Problem.DENIED: "the one who asks may not do this",
    Problem.NOT_FOUND: "what the request names does not exist",
    Problem.CONFLICT: "the state of things does not allow it now",
    Problem.LIMIT: "a bound would be passed; the text names it",
    Problem.BUSY: "try the same request again",
    Problem.STOPPING: "the daemon is going down; connect again",
    Problem.STORAGE_FULL: "the disk is (nearly) full; nothing was stored",
    Problem.FAILED: "the work was tried and did not succeed; the text says how",
    Problem.INTERNAL: "a defect; the text is an incident id that stands in the daemon's log",
}


class Refused(Exception):
    """A refusal on its way to the peer: raised by policy and handlers, and by the client when it arrives.

    `detail` is for people: one line that says what, where and what to do.
    """

    def __init__(self, problem: Problem, detail: str) -> None:
        super().__init__(f"{problem}: {detail}")
        self.problem = problem
        self.detail = detail


class Refusal(Struct, frozen=True, forbid_unknown_fields=True):
    """A refusal as it stands in a frame."""

    problem: Problem
    detail: str
