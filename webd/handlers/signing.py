"""Signing in with a code from a login link, and signing out."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from webd.http.answers import Answer, as_json, too_often
from webd.policy import rates
from webd.policy.cookies import cookie_name, read_cookie, set_cookie
from webd.policy.guard import Head
from webd.policy.refusals import SIGNED_OUT
from webd.policy.sessions import ABSOLUTE_MS
from webd.settings import WebSettings
from webd.store.sessions import LinkRefused
from webd.visit import Host, Visit

UNAUTHORISED: Final = 401


class LoginSaid(Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, Meta(max_length=200)]


class LogoutSaid(Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(max_length=22)] = ""
    """Pages send one with everything; signing out twice is signing out."""


async def login(visit: Visit, host: Host) -> Answer:
    """Use a login link's code up. The session is always a new one; the browser's former one ends.

    Only wrong codes are rationed, so that nobody can keep the operator out by being wrong often.
    """
    said = visit.said(LoginSaid)
    if not host.sessions.is_open(said.code) and not host.attempts.count(visit.head.address):
        return too_often(rates.LOGIN_IN_ALL.per_s)
    browser = visit.head.header("user-agent") or ""
    try:
        token, session = await host.sessions.sign_in(said.code, visit.head.address, browser)
    except LinkRefused as refused:
        host.log.warning("a login link was refused", address=visit.head.address, reason=str(refused))
        return as_json({"problem": SIGNED_OUT, "detail": str(refused)}, UNAUTHORISED)
    if visit.session is not None:
        await host.sessions.end(visit.session)
    host.log.info("signed in", operator=session.operator, session=session.id, address=session.address)
    return _with_cookie(host, token, ABSOLUTE_MS // 1000)


async def logout(visit: Visit, host: Host) -> Answer:
    """End this browser's session and every stream of it."""
    visit.said(LogoutSaid)
    await host.sessions.end(visit.operator)
    return _with_cookie(host, "", 0)


def token_of(head: Head, settings: WebSettings) -> str | None:
    """The session token that a request carries."""
    return read_cookie(head.header("cookie"), cookie_name(settings.port, https=settings.https))


def _with_cookie(host: Host, token: str, seconds: int) -> Answer:
    settings = host.settings
    name = cookie_name(settings.port, https=settings.https)
    cookie = set_cookie(name, token, seconds, https=settings.https)
    return as_json({"ok": True}, headers=(("set-cookie", cookie),))
