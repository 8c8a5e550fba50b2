"""What every request passes, seen from a browser: standing headers, sessions, rates and the kinds of no."""

import re
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from runtime.log import logger
from tests.webd.support.browser import Browser
from tests.webd.support.hive import WebHive
from webd.gate import Gate
from webd.http.answers import Asked
from webd.policy.guard import Head, Names
from webd.policy.headers import CSP
from webd.policy.paths import NUMBERED
from webd.render.shells import Shells
from webd.routes import HTTP, Access

pytestmark = pytest.mark.anyio

KEY = "A" * 22
READS = [route.pattern for route in HTTP if route.access is Access.READ]
CHANGES = [route.pattern for route in HTTP if route.access is Access.CHANGE]


def filled(pattern: str) -> str:
    named = {"agent": "iris", "account": "default", "topic": "flow", **dict.fromkeys(NUMBERED, "1")}
    return re.sub(r"{(\w+)}", lambda found: named[found[1]], pattern)


ANSWERS = (
    ("GET", "/healthz", 200),
    ("GET", "/login", 200),
    ("GET", "/", 303),
    ("GET", "/nothing", 404),
    ("GET", "/static/nothing.js", 404),
    ("GET", "/api/state", 401),
    ("GET", "/api/v1/send", 405),
    ("POST", "/", 405),
    ("PUT", "/", 405),
    ("GET", "/%2e%2e/", 400),
    ("POST", "/api/v1/send", 401),
)


async def test_every_answer_carries_the_standing_headers(hive: WebHive) -> None:
    for method, path, status in ANSWERS:
        answer = await hive.stranger().ask(method, path)
        assert answer.status == status, path
        assert answer.headers["content-security-policy"] == CSP
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in answer.headers["permissions-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_the_policy_is_the_one_the_design_asks_for() -> None:
    assert CSP == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types hive"
    )


async def test_a_browser_that_asked_for_a_page_gets_one(hive: WebHive) -> None:
    browser = await hive.browser()
    for path in ("/nothing", "/agent/nobody/", "/agent/NOBODY/", "/%2e%2e/"):
        page = await browser.get(path, accept="text/html,*/*")
        assert page.headers["content-type"] == "text/html; charset=utf-8", path
        assert str(page.status).encode() in page.body
        bare = await browser.get(path)
        assert bare.json.keys() == {"problem", "detail"}
        assert bare.status == page.status


async def test_without_a_session_nothing_is_read_or_changed(hive: WebHive) -> None:
    await hive.agent("iris")
    stranger = hive.stranger()
    for pattern in READS:
        answer = await stranger.get(filled(pattern))
        assert (answer.status, answer.json["problem"]) == (401, "signed_out"), pattern
    for pattern in CHANGES:
        answer = await stranger.post(filled(pattern), {"key": KEY})
        assert (answer.status, answer.json) == (
            401,
            {"problem": "signed_out", "detail": "not signed in"},
        ), pattern


async def test_a_huge_cookie_signs_nobody_in(hive: WebHive) -> None:
    stranger = hive.stranger()
    stranger.cookie = f"hive{hive.port}={'x' * 8_192}"
    assert (await stranger.get("/api/state")).status == 401


NOT_JSON = (b"", b"{", b"[" * 60_000, b"\xff\xfe", b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b"{}{}")
OTHER_SHAPES: tuple[tuple[object, str], ...] = (
    ({}, "missing required field"),
    ({"key": KEY, "to": "iris", "body": "x", "more": 1}, "unknown field `more`"),
    ({"key": "short", "to": "iris", "body": "x"}, "$.key"),
    ({"key": KEY, "to": "IRIS", "body": "x"}, "$.to"),
    ({"key": KEY, "to": "iris", "body": ""}, "$.body"),
    ({"key": KEY, "to": "iris", "body": "x", "in_reply_to": "1"}, "$.in_reply_to"),
    ([], "Expected `object`"),
)


async def test_a_body_that_is_not_json_is_refused(hive: WebHive) -> None:
    browser = await hive.browser()
    for body in NOT_JSON:
        answer = await browser.ask("POST", "/api/v1/send", body)
        assert (answer.status, answer.json["detail"]) == (400, "body is not valid JSON"), body[:10]


async def test_a_body_of_another_shape_is_refused_with_the_place(hive: WebHive) -> None:
    browser = await hive.browser()
    for body, word in OTHER_SHAPES:
        answer = await browser.post("/api/v1/send", body)
        assert (answer.status, answer.json["problem"]) == (400, "malformed")
        assert word in answer.json["detail"]


async def test_changes_are_rationed_by_session(hive: WebHive) -> None:
    browser, other = await hive.browser(), await hive.browser()
    statuses = [await change(browser) for _ in range(63)]
    assert statuses[:60] == [404] * 60
    assert 429 in statuses[60:]
    assert await change(other) == 404


async def change(browser: Browser) -> int:
    return (await browser.post("/api/v1/agents/nobody/start", {"key": KEY})).status


async def test_every_change_is_written_down_with_who_asked_and_how_it_ended(hive: WebHive) -> None:
    browser = await hive.browser()
    with capture_logs() as said:
        await browser.post("/api/v1/agents/nobody/start", {"key": KEY})
        await browser.post("/api/v1/send", {"key": "B" * 22, "to": "operator", "body": "a secret thing"})
        await browser.post("/logout", {})
    asked = [entry for entry in said if entry["event"] == "asked"]
    assert [(entry["action"], entry["ended"]) for entry in asked][::2] == [
        ("/api/v1/agents/nobody/start", "not_found"),
        ("/logout", "ok"),
    ]
    assert all(entry["operator"] and entry["session"] for entry in asked)
    assert "a secret thing" not in str(said)


async def test_a_defect_is_an_incident_and_says_no_more() -> None:
    class Broken:
        def find(self, token: str | None) -> None:
            raise ZeroDivisionError("a secret detail")

    async def body() -> bytes:
        return b""

    names = Names(frozenset({"here"}))
    shells = Shells("/static", "hive")
    host = SimpleNamespace(
        names=names,
        sessions=Broken(),
        shells=shells,
        log=logger("test"),
        settings=SimpleNamespace(port=1, https=False),
    )
    head = Head("GET", "/healthz", "1.1", (("host", "here"),))
    answer = await Gate(host).answer(Asked(head, body))  # type: ignore[arg-type]  # a host that is broken
    assert answer.status == 500
    assert isinstance(answer.body, bytes)
    assert b"incident" in answer.body
    assert b"secret" not in answer.body


async def test_a_change_from_elsewhere_is_refused_whatever_the_session(hive: WebHive) -> None:
    browser = await hive.browser()
    for headers in ({"origin": "http://evil.test"}, {"sec_fetch_site": "cross-site"}):
        answer = await browser.post("/logout", {}, **headers)
        assert (answer.status, answer.json["problem"]) == (403, "denied")
    assert (await browser.get("/api/state")).status == 200


async def test_static_files_need_no_session_and_are_kept_for_ever_under_their_hash(hive: WebHive) -> None:
    stranger = hive.stranger()
    login = (await stranger.get("/login")).body.decode()
    prefix = login.partition('href="/static/')[2][:12]
    kept = await stranger.get(f"/static/{prefix}/login.js")
    assert kept.status == 200
    assert kept.headers["content-type"] == "text/javascript; charset=utf-8"
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    bare = await stranger.get("/static/login.js")
    assert bare.body == kept.body
    assert bare.headers["cache-control"] == "no-cache"
    assert (await stranger.get("/static/login.js", if_none_match=bare.headers["etag"])).status == 304
    old = await stranger.get("/static/0123456789ab/login.js")
    assert (old.status, old.headers["cache-control"]) == (200, "no-cache")
    for path in (
        "/static/",
        "/static",
        "/static/types/wire.d.ts",
        "/static/tsconfig.json",
        f"/static/{prefix}",
    ):
        assert (await stranger.get(path)).status == 404, path
