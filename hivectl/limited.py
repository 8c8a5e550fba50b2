"""What holds agents back, for people: model accounts and their limits, refusals of the way out, limits of cages."""

from collections.abc import Iterator, Sequence
from typing import Final

from hivectl.tables import age, clock, printable, table
from protocol.brokerd import EgressPage
from protocol.egressd import AccountWindow, Refusal
from protocol.limited import EgressRefusal, LimitHit, ModelAccount

WHY: Final = {
    Refusal.NOT_ALLOWED: "its settings do not name it",
    Refusal.LEADS_INSIDE: "its name leads to an address inside",
    Refusal.MALFORMED: "no request that egressd understands",
    Refusal.CONNECTIONS: "too many connections at once",
    Refusal.VOLUME: "the hour's bytes are used up",
    Refusal.MODEL_PATH: "not a request that the model API is asked",
}
MANY: Final = "(many)"
"""In the place of a destination that is not kept."""


def accounts(rows: Sequence[ModelAccount]) -> str:
    """One line for each, and its windows below."""
    if not rows:
        return "nothing is known of any model account: none was limited, and egressd holds no credential"
    return "\n".join(line for account in rows for line in _account(account))


def _account(account: ModelAccount) -> Iterator[str]:
    yield account_line(account)
    if account.detail:
        yield f"      {printable(account.detail)}"
    if account.limited_until_ms is not None:
        yield f"      resume-account {account.name}   takes the limit for over"
    for window in account.windows:
        yield f"      {_window(window)}"


def account_line(account: ModelAccount) -> str:
    """How it stands, in one line."""
    held = f"; held: {', '.join(account.held)}" if account.held else ""
    if account.limited_until_ms is not None:
        return f"account {account.name}: limited until {clock(account.limited_until_ms)}{held}"
    if account.held:
        return f"account {account.name}: goes on, one agent after the other{held}"
    seen = "not seen by egressd" if account.seen_ms is None else f"seen {age(account.seen_ms)} ago"
    return f"account {account.name}: not limited, {seen}"


def _window(window: AccountWindow) -> str:
    left = "" if window.remaining is None else f"{window.remaining} left"
    whole = "" if window.limit is None else f"of {window.limit}"
    used = "" if window.used_permille is None else f"{window.used_permille / 10:g} % used"
    resets = "" if window.resets_ms is None else f"anew at {clock(window.resets_ms)}"
    said = ", ".join(part for part in (f"{left} {whole}".strip(), used, resets) if part)
    return f"{printable(window.name)}: {said or 'nothing more is told'}"


def refusals(page: EgressPage) -> str:
    if not page.refusals:
        return "nobody was turned away"
    rows = table(
        ("AGENT", "LAST", "TIMES", "DESTINATION", "WHY"),
        (
            (row.agent, f"{age(row.at_ms)} ago", str(row.times), destination(row), WHY[row.why])
            for row in page.refusals
        ),
    )
    return rows if page.before is None else f"{rows}\n(older: --before {page.before})"


def refusal_line(refusal: EgressRefusal) -> str:
    """One refusal as an event."""
    times = "" if refusal.times == 1 else f", {refusal.times} times"
    return f"{refusal.agent} may not connect to {destination(refusal)}: {WHY[refusal.why]}{times}"


def destination(refusal: EgressRefusal) -> str:
    return f"{printable(refusal.host, chars_max=60)}:{refusal.port}" if refusal.host else MANY


def hit_line(hit: LimitHit) -> str:
    """A limit that a cage met, as an event."""
    times = "" if hit.times == 1 else f" ({hit.times} times)"
    return f"{hit.agent} met a limit: {printable(hit.detail)}{times}"
