"""What the end of one run of an agent CLI means. Facts in, a verdict out; nothing is read or waited for here.

The CLI's `subtype` stays "success" on API errors, so the order of the questions is: did we ask for the end, is there
a result, what does the API's error say, why did the CLI itself stop.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.limits import DETAIL_CHARS_MAX, INTEGER_MAX
from protocol.turns import Outcome

NO_CONVERSATION: Final = "No conversation found"
STDERR_DETAIL_CHARS_MAX: Final = 600
RESET_IN_TEXT: Final = re.compile(r"limit reached\|(\d{9,11})\b")
UNSAID: Final = "the agent CLI gave no reason"

OVERLOADED_STATUS_MIN: Final = 500
STATUS_UNAUTHORIZED: Final = 401
STATUS_FORBIDDEN: Final = 403
STATUS_TOO_MANY: Final = 429


class Stop(StrEnum):
    """Who, or what, asked for the end of a run."""

    OPERATOR = "operator"
    SHUTDOWN = "shutdown"
    DEADLINE = "deadline"
    LEASE_LOST = "lease_lost"
    NO_TOOLS = "no_tools"


class Facts(Struct, frozen=True):
    """How a run ended, as seen from outside and in its last lines."""

    exit_code: int | None
    """None: it never started. Negative: ended by that signal."""
    stopped: Stop | None = None
    has_result: bool = False
    is_error: bool = False
    subtype: str = ""
    terminal_reason: str = ""
    api_status: int | None = None
    api_error: str = ""
    """The CLI's own word for an API error: `rate_limit`, `billing_error`, …"""
    text: str = ""
    """What the result says."""
    errors: tuple[str, ...] = ()
    limit_resets_s: int | None = None
    """When the account's limit ends, in seconds since 1970, from a rate limit event."""
    tools_missing: bool = False
    """The CLI came up without the hive's tools."""
    stderr_tail: str = ""


class Verdict(Struct, frozen=True):
    """What to tell brokerd; with `conversation_unknown` the turn is worth one more run, in a fresh conversation."""

    outcome: Outcome
    detail: str = ""
    until_ms: int | None = None
    conversation_unknown: bool = False


STOPPED: Final = {
    Stop.OPERATOR: Verdict(Outcome.CANCELLED, "cancelled by the operator"),
    Stop.SHUTDOWN: Verdict(Outcome.INTERRUPTED, "the cage was stopped"),
    Stop.DEADLINE: Verdict(Outcome.TIMEOUT, "the turn took longer than it may"),
    Stop.LEASE_LOST: Verdict(Outcome.INTERRUPTED, "brokerd has taken the delivery back"),
    Stop.NO_TOOLS: Verdict(Outcome.CRASHED, "the agent CLI came up without the hive's tools"),
}

BY_API_ERROR: Final = {
    "authentication_failed": Outcome.AUTH,
    "billing_error": Outcome.BILLING,
    "rate_limit": Outcome.RATE_LIMITED,
    "server_error": Outcome.OVERLOADED,
}

BY_TERMINAL_REASON: Final = {
    "max_turns": Outcome.MAX_TURNS,
    "budget_exhausted": Outcome.BUDGET,
    "prompt_too_long": Outcome.CONTEXT_FULL,
    "image_error": Outcome.CONTEXT_FULL,
}

BY_SUBTYPE: Final = {"error_max_turns": Outcome.MAX_TURNS, "error_max_budget_usd": Outcome.BUDGET}


def classify(facts: Facts) -> Verdict:
    """Say what the end of a run means. `done` only for a result that is no error."""
    if facts.tools_missing and facts.stopped in {None, Stop.NO_TOOLS}:
        return STOPPED[Stop.NO_TOOLS]
    if not facts.has_result or facts.terminal_reason.startswith("aborted"):
        return STOPPED[facts.stopped] if facts.stopped else _crashed(facts)
    if not facts.is_error:
        return Verdict(Outcome.DONE)
    if any(NO_CONVERSATION in error for error in facts.errors):
        return Verdict(Outcome.CRASHED, facts.errors[0][:DETAIL_CHARS_MAX], conversation_unknown=True)
    outcome = _error_outcome(facts)
    if outcome is Outcome.CRASHED:
        return _crashed(facts)
    until_ms = _limit_end_ms(facts) if outcome is Outcome.RATE_LIMITED else None
    return Verdict(outcome, _said(facts), until_ms)


def _error_outcome(facts: Facts) -> Outcome:
    """Name an error result; what the CLI itself says about its end counts before what the API answered."""
    by_end = BY_TERMINAL_REASON.get(facts.terminal_reason) or BY_SUBTYPE.get(facts.subtype)
    return by_end or BY_API_ERROR.get(facts.api_error) or _by_status(facts.api_status)


def _by_status(status: int | None) -> Outcome:
    if status in {STATUS_UNAUTHORIZED, STATUS_FORBIDDEN}:
        return Outcome.AUTH
    if status == STATUS_TOO_MANY:
        return Outcome.RATE_LIMITED
    if status is not None and status >= OVERLOADED_STATUS_MIN:
        return Outcome.OVERLOADED
    return Outcome.CRASHED


def _limit_end_ms(facts: Facts) -> int | None:
    """When the limit ends: told in an event, or written into the text as `…limit reached|1795186401`."""
    if facts.limit_resets_s is not None:
        until_ms = facts.limit_resets_s * 1000
        return until_ms if 0 <= until_ms <= INTEGER_MAX else None
    found = RESET_IN_TEXT.search(facts.text)
    return int(found[1]) * 1000 if found else None


def _said(facts: Facts) -> str:
    text = facts.text or "; ".join(facts.errors) or UNSAID
    return text[:DETAIL_CHARS_MAX]


def _crashed(facts: Facts) -> Verdict:
    """Describe an end that nothing explains, with how the process went and the last it wrote to stderr."""
    parts = [_exit_words(facts.exit_code)]
    if facts.has_result:
        parts.append(_said(facts))
    if facts.stderr_tail.strip():
        parts.append(f"stderr: {facts.stderr_tail.strip()[-STDERR_DETAIL_CHARS_MAX:]}")
    return Verdict(Outcome.CRASHED, "; ".join(parts)[:DETAIL_CHARS_MAX])


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return "the agent CLI did not start"
    if exit_code < 0:
        return f"the agent CLI was ended by signal {-exit_code}"
    return f"the agent CLI ended with code {exit_code}"
