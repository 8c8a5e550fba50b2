"""What the operator at the command line asks: who is there, a login link, the sessions."""

import pwd
from typing import Final

import trio

from protocol.hello import WIRE_VERSION, Greeting, Hello
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from protocol.webd import ListSessions, LoginLink, MintLogin, RevokeSession, WebSession
from runtime import VERSION
from webd.policy.text import plain
from webd.visit import Host

NAME_CHARS_MAX: Final = 40
PORT_S: Final = 1.0
"""How long a link waits for a port that may be ours in a moment."""


async def hello(request: Hello, caller: Caller, host: Host) -> Greeting:
    conflict = host.port.conflict
    return Greeting("webd", VERSION, WIRE_VERSION, degraded=() if conflict is None else (conflict,))


async def mint_login(request: MintLogin, caller: Caller, host: Host) -> LoginLink:
    """Refused(conflict) before the port is ours: the link would hand its code to whoever listens there."""
    with trio.move_on_after(PORT_S):
        await host.port.ready.wait()
    if not host.port.ready.is_set():
        why = host.port.conflict or f"port {host.settings.port} is not ours yet"
        raise Refused(
            Problem.CONFLICT, f"{why}; no link is made before, because whoever listens there would get it"
        )
    operator = _name_of(caller.uid)
    code, expires_ms = await host.sessions.mint_link(operator)
    host.log.info("made a login link", operator=operator, uid=caller.uid)
    url = f"{host.settings.address()}/login#code={code}"
    return LoginLink(url=url, expires_ms=expires_ms)


async def list_sessions(request: ListSessions, caller: Caller, host: Host) -> tuple[WebSession, ...]:
    return host.sessions.newest_first()


async def revoke_session(request: RevokeSession, caller: Caller, host: Host) -> None:
    session = await host.sessions.revoke(request.session)
    host.log.info("revoked a session", operator=session.operator, session=session.id, uid=caller.uid)


def _name_of(uid: int) -> str:
    """What the machine calls this uid."""
    try:
        return plain(pwd.getpwuid(uid).pw_name, NAME_CHARS_MAX)
    except KeyError:
        return f"uid {uid}"
