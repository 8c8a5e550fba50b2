"""What limit headers mean: both families, odd values, absurd ones, and whatever somebody else might send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.account import (
    AHEAD_MS_MAX,
    DETAIL_CHARS_MAX,
    LIMIT_MS_MIN,
    detail_of,
    is_news,
    learned,
    limited_until,
)
from egressd.policy.head import Headers
from protocol.egressd import Account, AccountWindow
from protocol.limits import ACCOUNT_WINDOWS_MAX, INTEGER_MAX

NOW_MS = 1_795_280_000_000
NOW_S = NOW_MS // 1000
FRESH = Account("default")


def headers(**given: object) -> Headers:
    return tuple((name.replace("_", "-").encode(), str(value).encode()) for name, value in given.items())


def of(prefix: str, **given: object) -> Headers:
    return tuple(
        (f"{prefix}-{name.replace('_', '-')}".encode(), str(value).encode()) for name, value in given.items()
    )


KEY_HEADERS = of(
    "anthropic-ratelimit",
    requests_limit=4000, requests_remaining=3000, requests_reset="2026-11-21T17:00:00Z",
    input_tokens_limit=0, input_tokens_remaining=7, output_tokens_remaining=12,
)  # fmt: skip
UNIFIED = of(
    "anthropic-ratelimit-unified",
    status="allowed_warning", reset=NOW_S + 3600, representative_claim="five_hour",
) + of(
    "anthropic-ratelimit-unified-5h", utilization="0.93", reset=NOW_S + 3600, status="allowed_warning"
) + of("anthropic-ratelimit-unified-7d", utilization="0.1")  # fmt: skip


def test_an_api_keys_windows() -> None:
    assert learned(FRESH, KEY_HEADERS, NOW_MS) == Account(
        "default",
        NOW_MS,
        windows=(
            AccountWindow("input-tokens", 0, 7),
            AccountWindow("output-tokens", None, 12),
            AccountWindow("requests", 4000, 3000, 250, 1_795_280_400_000),
        ),
    )


def test_a_subscriptions_windows() -> None:
    assert learned(FRESH, UNIFIED, NOW_MS).windows == (
        AccountWindow("unified", resets_ms=NOW_MS + 3_600_000),
        AccountWindow("unified-5h", used_permille=930, resets_ms=NOW_MS + 3_600_000),
        AccountWindow("unified-7d", used_permille=100),
    )


def test_windows_stay_until_long_after_they_ended() -> None:
    both = learned(learned(FRESH, KEY_HEADERS, NOW_MS), UNIFIED, NOW_MS)
    assert len(both.windows) == 6
    later = learned(both, of("anthropic-ratelimit", tokens_remaining=1), NOW_MS + 3 * 3_600_000)
    assert {window.name for window in later.windows} == {
        "input-tokens",
        "output-tokens",
        "tokens",
        "unified-7d",
    }


@pytest.mark.parametrize(
    ("status", "given", "wait_s"),
    [
        (429, headers(retry_after=3600), 3600),
        (529, headers(retry_after="60"), 60),
        (429, headers(retry_after="59.5"), 59.5),
        (429, headers(retry_after="Sat, 21 Nov 2026 16:55:00 GMT"), 100),
        (429, of("anthropic-ratelimit-unified", status="rejected", reset=NOW_S + 18_000), 18_000),
        (429, of("anthropic-ratelimit-unified", reset=NOW_S + 18_000), 18_000),
        (429, headers(retry_after=20) + of("anthropic-ratelimit-unified", reset=NOW_S + 7200), 7200),
        (429, of("anthropic-ratelimit-unified", status="allowed", reset=NOW_S + 18_000), None),
        (
            429,
            of("anthropic-ratelimit-unified", representative_claim="seven_day_opus", reset=NOW_S + 18_000),
            None,
        ),
        (429, headers(retry_after=5), None),
        (429, headers(retry_after=-5), None),
        (429, headers(retry_after="soon"), None),
        (429, headers(retry_after=9 * 24 * 3600), None),
        (429, headers(retry_after="9" * 15), None),
        (429, headers(retry_after="1e9"), None),
        (429, headers(retry_after="nan"), None),
        (429, of("anthropic-ratelimit-unified", reset=NOW_S - 10), None),
        (429, of("anthropic-ratelimit-unified", reset="9" * 15), None),
        (429, (), None),
        (200, headers(retry_after=3600), None),
        (503, headers(retry_after=3600), None),
    ],
)
def test_until_when_an_account_is_refused(status: int, given: Headers, wait_s: float | None) -> None:
    until = limited_until(status, given, NOW_MS)
    assert until == (None if wait_s is None else NOW_MS + round(wait_s * 1000))


KNOWN = (
    "requests-limit", "requests-reset", "unified-reset", "unified-status", "unified-5h-utilization", "x-remaining",
    "-limit", "unified-representative-claim",
)  # fmt: skip
NAMES = st.sampled_from(["retry-after", *(f"anthropic-ratelimit-{each}" for each in KNOWN)]) | st.integers(
    0, 99
).map(lambda n: f"anthropic-ratelimit-w{n}-limit")
ODD = (
    "0", "1", "9" * 15, "9" * 400, "-1", "1e400", "nan", "inf", "0.5", "2026-01-01", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59+14:00", "Mon, 01 Jan 0001 00:00:00 GMT", "rejected", "",
)  # fmt: skip
VALUES = st.sampled_from(ODD) | st.text(max_size=30)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=60), st.sampled_from([200, 429, 529]))
def test_whatever_is_said_stays_within_bounds(said: list[tuple[str, str]], status: int) -> None:
    given_headers = tuple((name.encode(), value.encode("latin-1", "replace")) for name, value in said)
    account = learned(FRESH, given_headers, NOW_MS)
    assert len(account.windows) <= ACCOUNT_WINDOWS_MAX
    for window in account.windows:
        assert len(window.name) <= 40
        for number in (window.limit, window.remaining, window.used_permille, window.resets_ms):
            assert number is None or 0 <= number <= INTEGER_MAX
    until = limited_until(status, given_headers, NOW_MS)
    assert until is None or NOW_MS + LIMIT_MS_MIN <= until <= NOW_MS + AHEAD_MS_MAX


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (
            b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow\\ndown \\u202e"}}',
            "Slow down  ",
        ),
        (b'{"error":{"message":"' + b"x" * 999 + b'"}}', "x" * DETAIL_CHARS_MAX),
        (b'{"error":"text"}', ""),
        (b'{"error":{"message":5}}', ""),
        (b"[1]", ""),
        (b"not json", ""),
        (b'{"error":', ""),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_the_detail_is_one_line_of_the_apis(body: bytes, detail: str) -> None:
    assert detail_of(body) == detail


def test_numbers_that_move_a_little_are_no_news() -> None:
    before = learned(FRESH, UNIFIED, NOW_MS)
    for used, news in (("0.94", False), ("1.0", True)):
        after = learned(before, of("anthropic-ratelimit-unified-5h", utilization=used), NOW_MS + 1)
        assert is_news(before, after) is news
    assert is_news(FRESH, before)
