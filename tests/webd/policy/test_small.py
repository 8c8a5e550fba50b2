"""The small decisions: rates, lives of links and sessions, cookies, topics, addresses, keys, statuses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.names import KEY_PATTERN
from protocol.problem import Problem, Refused
from webd.policy import cookies, keys, paths, rates, sessions, spans, topics
from webd.policy.refusals import STATUSES, problem_of, title_of

# ------------------------------------------------------------------------------------------------------------- rates

RATE = rates.Rate(5, 60)


def test_a_burst_is_allowed_and_then_one_every_twelve_seconds() -> None:
    bucket = rates.full(RATE, 100)
    for _ in range(5):
        bucket, allowed = rates.take(bucket, RATE, 100)
        assert allowed
    bucket, allowed = rates.take(bucket, RATE, 100)
    assert not allowed
    assert rates.wait_s(bucket, RATE) == pytest.approx(12)
    bucket, allowed = rates.take(bucket, RATE, 111.9)
    assert not allowed
    bucket, allowed = rates.take(bucket, RATE, 112.1)
    assert allowed


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    empty = rates.Bucket(0, 100)
    assert rates.take(empty, RATE, 50) == (rates.Bucket(0, 50), False)


@given(st.lists(st.floats(0, 30), max_size=60))
def test_no_more_than_the_rate_over_any_time(waits: list[float]) -> None:
    now_s = 0.0
    bucket, taken = rates.full(RATE, now_s), 0
    for wait_s in waits:
        now_s += wait_s
        bucket, allowed = rates.take(bucket, RATE, now_s)
        taken += allowed
        assert taken <= RATE.count + now_s * RATE.count / RATE.per_s + 1e-6


# ------------------------------------------------------------------------------------------------ links and sessions


@pytest.mark.parametrize(
    ("link", "now_ms", "fault"),
    [
        (None, 0, "this link is not known here"),
        (sessions.Link("root", 1_000), 999, None),
        (sessions.Link("root", 1_000), 1_000, "this link has expired"),
        (sessions.Link("root", 1_000, used_ms=5), 999, "this link was already used"),
        (sessions.Link("root", 1_000, used_ms=5), 9_999, "this link was already used"),
    ],
)
def test_links(link: sessions.Link | None, now_ms: int, fault: str | None) -> None:
    assert sessions.link_fault(link, now_ms) == fault


def test_a_session_ends_twelve_hours_after_its_last_use_or_after_seven_days() -> None:
    hour, day = sessions.HOUR_MS, 24 * sessions.HOUR_MS
    assert not sessions.is_over(0, 0, 12 * hour - 1)
    assert sessions.is_over(0, 0, 12 * hour)
    assert not sessions.is_over(0, 7 * day - 1, 7 * day - 1)
    assert sessions.is_over(0, 7 * day - 1, 7 * day)


# ----------------------------------------------------------------------------------------------------------- cookies

TOKEN = "t" * 43


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        (f"hive7000={TOKEN}", TOKEN),
        (f"other=1; hive7000={TOKEN};x", TOKEN),
        (f"hive7001={TOKEN}", None),
        (f"hive7000={TOKEN}; hive7000={TOKEN}", None),
        ("hive7000=" + "t" * 8_192, None),
        ("hive7000=" + "t" * 42 + ";", None),
        ("hive7000=" + "é" * 43, None),
    ],
)
def test_reading_the_cookie(header: str | None, token: str | None) -> None:
    assert cookies.read_cookie(header, cookies.cookie_name(7000, https=False)) == token


def test_over_tls_the_cookie_is_bound_to_this_host() -> None:
    name = cookies.cookie_name(443, https=True)
    assert name == "__Host-hive443"
    assert cookies.set_cookie(name, TOKEN, 60, https=True).endswith("; HttpOnly; SameSite=Strict; Secure")


# ------------------------------------------------------------------------------------------------------------ topics


def test_topics_of_a_page() -> None:
    assert topics.parse_topics(",".join([*topics.COMMON, "tail:iris"])) == topics.COMMON | {"tail:iris"}
    assert topics.agents_of(topics.parse_topics("hive,journal:iris,tail:atlas")) == {"iris", "atlas"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hive,",
        "tail:",
        "tail:Iris",
        "tail:iris\n",
        "calls",
        ",".join(["hive"] * (topics.TOPICS_MAX + 1)),
    ],
)
def test_what_is_no_topic_is_named(text: str) -> None:
    with pytest.raises(Refused) as refused:
        topics.parse_topics(text)
    assert refused.value.problem is Problem.MALFORMED


@pytest.mark.parametrize(
    "text", [None, "", "1", "-1", "a-", "a-1-2", "a--1", "A-1", "a-1\n", "a-" + "9" * 16]
)
def test_what_is_no_cursor_starts_anew(text: str | None) -> None:
    assert topics.parse_cursor(text) is None


def test_a_cursor_comes_back_as_it_went() -> None:
    cursor = topics.Cursor("0f", 12)
    assert topics.parse_cursor(str(cursor)) == cursor


# --------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("pattern", "path", "named"),
    [
        ("/", "/", {}),
        ("/agent/{agent}/", "/agent/iris/", {"agent": "iris"}),
        ("/agent/{agent}/", "/agent/iris", None),
        ("/agent/{agent}", "/agent/", None),
        ("/agent/{agent}/", "/agent/IRIS/", None),
        ("/agent/{agent}/", "/agent/abcdefghij/", None),
        ("/agent/{agent}/", "/agent/%69ris/", None),
        ("/api/v1/messages/{message}/read", "/api/v1/messages/7/read", {"message": "7"}),
        ("/api/v1/messages/{message}/read", "/api/v1/messages/07/read", None),
        ("/api/v1/log/{topic}", "/api/v1/log/tail:iris", {"topic": "tail:iris"}),
    ],
)
def test_matching(pattern: str, path: str, named: dict[str, str] | None) -> None:
    assert paths.match(pattern, path) == named


def test_queries_are_unescaped_and_bounded() -> None:
    assert paths.parse_query("topics=hive%2Ctail%3Airis&from=") == {"topics": "hive,tail:iris", "from": ""}
    assert paths.parse_query("") == {}
    with pytest.raises(Refused):
        paths.parse_query("&".join("a=1" for _ in range(17)))


# -------------------------------------------------------------------------------------------------- keys and refusals


@given(st.text(min_size=1, max_size=9), st.from_regex(keys.BROWSER_KEY), st.from_regex(keys.BROWSER_KEY))
def test_keys_of_two_operators_never_meet(operator: str, one: str, other: str) -> None:
    key = keys.request_key(operator, one)
    assert re.match(KEY_PATTERN, key)
    assert key == keys.request_key(operator, one)
    assert key != keys.request_key(operator + "2", one)
    assert (key == keys.request_key(operator, other)) == (one == other)


@pytest.mark.parametrize("key", ["", "A" * 21, "A" * 23, "A" * 21 + "=", "A" * 22 + "\n"])
def test_other_keys_are_none_of_the_browser(key: str) -> None:
    assert not re.match(keys.BROWSER_KEY, key)


def test_every_problem_has_a_status_and_every_status_a_title() -> None:
    assert STATUSES.keys() == set(Problem)
    assert problem_of(401) == "signed_out"
    assert problem_of(418) == "malformed"
    assert all(
        title_of(status) != "refused" for status in (400, 401, 403, 404, 405, 408, 413, 421, 429, 500, 503)
    )


# ------------------------------------------------------------------------------------------------------------- spans


@pytest.mark.parametrize(
    ("text", "since_ms"),
    [
        ("90s", 910_000),
        ("5m", 700_000),
        ("1d", 0),
        ("0", 0),
        ("999999", 999_999),
        ("1000001", 1_000_000),
        ("0h", None),
        ("-1", None),
        ("6 h", None),
        ("6H", None),
        ("", None),
        ("1" * 16, None),
        ("٣h", None),
    ],
)
def test_since_when(text: str, since_ms: int | None) -> None:
    assert spans.since(text, 1_000_000) == since_ms
