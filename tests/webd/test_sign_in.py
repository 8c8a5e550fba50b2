"""Signing in and out as a browser sees it: links that work once, sessions that outlive webd, and their end."""

import pytest

from protocol.problem import Problem, Refused
from protocol.webd import ListSessions, RevokeSession
from tests.webd.support.hive import WebHive

pytestmark = pytest.mark.anyio


async def code_of(hive: WebHive) -> str:
    return (await hive.login_link()).url.partition("#code=")[2]


async def test_a_link_leads_to_the_login_page_of_this_address(hive: WebHive) -> None:
    link = await hive.login_link()
    assert link.url.startswith(f"http://127.0.0.1:{hive.port}/login#code=")
    page = await hive.stranger().get("/login", accept="text/html")
    assert page.status == 200
    assert b"test hive" in page.body


async def test_a_code_works_once(hive: WebHive) -> None:
    browser, code = hive.stranger(), await code_of(hive)
    assert (await browser.get("/api/state")).status == 401
    answer = await browser.post("/login", {"code": code})
    assert answer.json == {"ok": True}
    assert (await browser.get("/api/state")).status == 200
    again = await hive.stranger().post("/login", {"code": code})
    assert (again.status, again.json) == (
        401,
        {"problem": "signed_out", "detail": "this link was already used"},
    )


async def test_a_code_nobody_made_is_refused(hive: WebHive) -> None:
    answer = await hive.stranger().post("/login", {"code": "x" * 43})
    assert (answer.status, answer.json["detail"]) == (401, "this link is not known here")


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(hive: WebHive) -> None:
    answer = await hive.stranger().post("/login", {"code": await code_of(hive)})
    name, *attributes = [part.strip() for part in answer.headers["set-cookie"].split(";")]
    assert name.startswith(f"hive{hive.port}=")
    assert set(attributes) == {"Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"}


async def test_a_session_outlives_webd(hive: WebHive) -> None:
    browser = await hive.browser()
    await hive.stop("webd")
    await hive.start("webd")
    assert (await browser.get("/api/state")).status == 200


async def test_signing_in_again_ends_the_former_session(hive: WebHive) -> None:
    browser = await hive.browser()
    former = browser.cookie
    await browser.post("/login", {"code": await code_of(hive)})
    assert browser.cookie != former
    assert (await browser.get("/api/state")).status == 200
    browser.cookie = former
    assert (await browser.get("/api/state")).status == 401


async def test_signing_out_ends_the_session_and_its_streams(hive: WebHive) -> None:
    browser = await hive.browser()
    async with browser.stream() as frames:
        await frames.next("snapshot")
        assert (await browser.post("/logout", {})).status == 200
        assert (await frames.next("bye", within_s=1)).data == {"reason": "auth"}
        with pytest.raises(AssertionError, match="ended"):
            await frames.next()
    assert (await browser.get("/api/state")).status == 401


async def test_sessions_are_listed_and_revoked(hive: WebHive) -> None:
    browser, other = await hive.browser(), await hive.browser()
    webd = hive.operator("webd")
    newest, oldest = await webd.call(ListSessions())
    assert newest.id > oldest.id
    assert (oldest.address, oldest.browser) == ("127.0.0.1", "a test")
    assert oldest.ends_ms - oldest.seen_ms == 12 * 3_600_000
    async with browser.stream() as frames:
        await frames.next("snapshot")
        await webd.call(RevokeSession(session=oldest.id))
        assert (await frames.next("bye", within_s=1)).data == {"reason": "auth"}
    assert (await browser.get("/api/state")).status == 401
    assert (await other.get("/api/state")).status == 200
    with pytest.raises(Refused) as refused:
        await webd.call(RevokeSession(session=oldest.id))
    assert refused.value.problem is Problem.NOT_FOUND


async def test_trying_codes_is_rationed_for_each_address_and_in_all(hive: WebHive) -> None:
    async def tried(address: str) -> int:
        stranger = hive.stranger()
        stranger.address = address
        return (await stranger.post("/login", {"code": "x"})).status

    assert [await tried("127.0.0.1") for _ in range(7)] == [401] * 5 + [429] * 2
    many = [await tried(f"127.0.0.{last}") for last in range(2, 9) for _ in range(5)]
    assert many[:25] == [401] * 25
    assert many[-5:] == [429] * 5


async def test_wrong_codes_keep_no_good_one_out(hive: WebHive) -> None:
    code = await code_of(hive)
    for last in range(1, 9):
        stranger = hive.stranger()
        stranger.address = f"127.0.0.{last}"
        assert [(await stranger.post("/login", {"code": "x"})).status for _ in range(6)][-1] == 429
    await hive.stop("webd")
    await hive.start("webd")  # links are known again
    for _ in range(6):
        await hive.stranger().post("/login", {"code": "x"})
    assert (await hive.stranger().post("/login", {"code": code})).status == 200
    assert (await hive.stranger().post("/login", {"code": code})).status == 429


async def test_a_cookie_that_is_not_exactly_ours_signs_nobody_in(hive: WebHive) -> None:
    browser = await hive.browser()
    name, _, token = (browser.cookie or "").partition("=")
    for cookie in (f"hive={token}", f"{name}=", f"{name}=short", f"{name}={token}; {name}={token}"):
        browser.cookie = cookie
        assert (await browser.get("/api/state")).status == 401, cookie


async def test_a_page_without_a_session_leads_to_the_login_page(hive: WebHive) -> None:
    answer = await hive.stranger().get("/", accept="text/html")
    assert (answer.status, answer.headers["location"]) == (303, "/login")
