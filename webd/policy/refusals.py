"""A refusal as HTTP says it: the status of each problem code, and the problem of each status at the door."""

from typing import Final

from protocol.problem import Problem

STATUSES: Final = {
    Problem.MALFORMED: 400,
    Problem.DENIED: 403,
    Problem.NOT_FOUND: 404,
    Problem.CONFLICT: 409,
    Problem.LIMIT: 429,
    Problem.BUSY: 409,
    Problem.STOPPING: 503,
    Problem.STORAGE_FULL: 507,
    Problem.FAILED: 502,
    Problem.INTERNAL: 500,
}

SIGNED_OUT: Final = "signed_out"
"""The problem of every 401: not one of the wire's codes, because only browsers sign in."""

_PROBLEMS: Final = {
    401: SIGNED_OUT,
    403: str(Problem.DENIED),
    404: str(Problem.NOT_FOUND),
    413: str(Problem.LIMIT),
    429: str(Problem.LIMIT),
    431: str(Problem.LIMIT),
    500: str(Problem.INTERNAL),
    503: str(Problem.BUSY),
}

TITLES: Final = {
    400: "not understood",
    401: "signed out",
    403: "not allowed",
    404: "not found",
    405: "not allowed",
    408: "too slow",
    411: "not understood",
    413: "too large",
    414: "too long",
    415: "not understood",
    421: "wrong address",
    429: "too often",
    431: "too large",
    500: "a defect",
    503: "busy",
    505: "not understood",
}


def problem_of(status: int) -> str:
    """The problem code of a refusal that only has a status."""
    return _PROBLEMS.get(status, str(Problem.MALFORMED))


def title_of(status: int) -> str:
    """Two words for the page that says so."""
    return TITLES.get(status, "refused")
