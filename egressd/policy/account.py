"""What a reply of the model API tells of its account: its limits, and until when it refuses.

Two families of headers say it: `anthropic-ratelimit-<what>-limit|remaining|reset` for API keys, times as RFC 3339, and
`anthropic-ratelimit-unified-<window>-utilization|reset|status` for subscriptions, times in seconds since 1970. A
`retry-after` comes with both. They come from outside, so every number has a bound and what cannot be meant is not
believed.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from egressd.policy.answers import OVERLOADED
from egressd.policy.head import Headers
from protocol.egressd import Account, AccountWindow
from protocol.limits import ACCOUNT_WINDOWS_MAX, INTEGER_MAX

TOO_MANY: Final = 429
REFUSED_KEY: Final = frozenset({401, 403})
LIMIT_MS_MIN: Final = 10 * 1000
"""A shorter wait is left to the agent CLI, which retries by itself."""
AHEAD_MS_MAX: Final = 8 * 24 * 60 * 60 * 1000
"""A limit that ends further ahead than a weekly one is not believed."""
WINDOW_AHEAD_MS_MAX: Final = 40 * 24 * 60 * 60 * 1000
PAST_MS_MAX: Final = 60 * 60 * 1000
"""A window that ended longer ago than this says nothing any more."""
DETAIL_CHARS_MAX: Final = 300
NEWS_PERMILLE: Final = 100
"""How far a window must fill to be told again."""
FOR_ONE_MODEL: Final = re.compile(r"opus|sonnet|haiku")
"""In the name of a window that binds requests for one model only: it does not hold up the account."""

_PREFIX: Final = "anthropic-ratelimit-"
_HEADER: Final = re.compile(
    r"\Aanthropic-ratelimit-([a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?)-(limit|remaining|reset|utilization)\Z"
)
_NUMBER: Final = re.compile(r"\A[0-9]{1,15}\Z")
_FRACTION: Final = re.compile(r"\A[0-9]{1,4}(?:\.[0-9]{1,12})?\Z")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


class _Said(msgspec.Struct):
    """What one window's headers say."""

    limit: int | None = None
    remaining: int | None = None
    used_permille: int | None = None
    resets_ms: int | None = None


def learned(account: Account, headers: Headers, now_ms: int) -> Account:
    """The account with what a reply's headers say of its windows; windows that it does not name stay."""
    said = _windows_in(_texts(headers), now_ms)
    if not said:
        return msgspec.structs.replace(account, seen_ms=now_ms)
    known = {
        window.name: window
        for window in account.windows
        if window.resets_ms is None or window.resets_ms > now_ms - PAST_MS_MAX
    }
    kept = (said | {name: window for name, window in known.items() if name not in said}).values()
    windows = sorted(tuple(kept)[:ACCOUNT_WINDOWS_MAX], key=lambda window: window.name)
    return msgspec.structs.replace(account, seen_ms=now_ms, windows=tuple(windows))


def limited_until(status: int, headers: Headers, now_ms: int) -> int | None:
    """Until when a reply says that the whole account is refused; None when it does not, or cannot be believed."""
    if status not in (TOO_MANY, OVERLOADED):
        return None
    texts = _texts(headers)
    if FOR_ONE_MODEL.search(texts.get(f"{_PREFIX}unified-representative-claim", "")):
        return None
    told = (
        _moment(texts.get(f"{_PREFIX}unified-reset", "")) if _is_rejected(texts) else None,
        _after(texts.get("retry-after", ""), now_ms),
    )
    believed = [until for until in told if until is not None and _is_sane(until, now_ms)]
    return max(believed, default=None)


def _is_rejected(texts: dict[str, str]) -> bool:
    return texts.get(f"{_PREFIX}unified-status", "rejected") == "rejected"


def _is_sane(until_ms: int, now_ms: int) -> bool:
    return now_ms + LIMIT_MS_MIN <= until_ms <= now_ms + AHEAD_MS_MAX


def detail_of(body: bytes) -> str:
    """What an error's body says, on one line; empty when it is not the API's."""
    try:
        found = msgspec.json.decode(body, type=dict[str, object])
        error = found.get("error")
        message = error.get("message") if isinstance(error, dict) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return _UNPRINTABLE.sub(" ", message)[:DETAIL_CHARS_MAX] if isinstance(message, str) else ""


def is_news(before: Account, after: Account) -> bool:
    """Whether the difference is worth an event: more than the time of a look or a number that moved a little."""
    return _shown(before) != _shown(after)


def _shown(account: Account) -> tuple[object, ...]:
    windows = {
        (window.name, None if window.used_permille is None else window.used_permille // NEWS_PERMILLE)
        for window in account.windows
    }
    return account.limited_until_ms, account.detail, windows


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in headers}


def _windows_in(texts: dict[str, str], now_ms: int) -> dict[str, AccountWindow]:
    said: dict[str, _Said] = {}
    for header, text in texts.items():
        found = _HEADER.search(header)
        if found is None or (found[1] not in said and len(said) >= ACCOUNT_WINDOWS_MAX):
            continue
        _note(said.setdefault(found[1], _Said()), found[2], text, now_ms)
    return {name: _window(name, each) for name, each in said.items() if each != _Said()}


def _note(window: _Said, what: str, text: str, now_ms: int) -> None:
    match what:
        case "limit":
            window.limit = _number(text)
        case "remaining":
            window.remaining = _number(text)
        case "utilization":
            window.used_permille = round(float(text) * 1000) if _FRACTION.search(text) else None
        case _:
            until = _moment(text)
            near = until is not None and now_ms - PAST_MS_MAX <= until <= now_ms + WINDOW_AHEAD_MS_MAX
            window.resets_ms = until if near else None


def _window(name: str, said: _Said) -> AccountWindow:
    used = said.used_permille
    if used is None and said.limit and said.remaining is not None:
        used = 1000 * max(0, said.limit - said.remaining) // said.limit
    return AccountWindow(name, said.limit, said.remaining, used, said.resets_ms)


def _number(text: str) -> int | None:
    return min(int(text), INTEGER_MAX) if _NUMBER.search(text) else None


def _moment(text: str) -> int | None:
    """A moment as either family writes it, in milliseconds."""
    if _NUMBER.search(text):
        return min(int(text), INTEGER_MAX // 1000) * 1000
    try:
        moment = datetime.fromisoformat(text)
        return round(moment.timestamp() * 1000) if moment.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def _after(text: str, now_ms: int) -> int | None:
    """`retry-after`: seconds from now, or a date."""
    if _FRACTION.search(text) or _NUMBER.search(text):
        return now_ms + round(min(float(text), INTEGER_MAX / 1e6) * 1000)
    try:
        moment = parsedate_to_datetime(text)
        return round(moment.timestamp() * 1000) if moment.tzinfo is not None else None
    except (ValueError, OverflowError, TypeError, IndexError, OSError):
        return None
