"""What every request passes: guard → static file → route → session → rate → body → handler, each with its kind of no.

A refusal becomes its status and `{"problem", "detail"}`, or the page that says so when a browser asked for a page.
Anything else that is raised is a defect: logged with an incident id, which is all the browser sees.
"""

from typing import Final

import trio

from protocol.problem import Problem, Refused
from runtime.clock import new_key
from webd.handlers.signing import token_of
from webd.http.answers import Answer, Asked, BodyFault, as_json, redirect, too_often
from webd.policy import rates
from webd.policy.guard import Head, Turned, judge
from webd.policy.refusals import STATUSES, problem_of
from webd.render.static import PREFIX
from webd.routes import Access, HttpRoute, find
from webd.sessions import Session
from webd.visit import Host, Visit

ALLOWED: Final = "GET, HEAD, POST"


class Gate:
    """webd's site: answers every request of its port."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def answer(self, asked: Asked) -> Answer:
        """Answer one request. Never raises."""
        head = asked.head
        if turned := judge(head, self._host.names):
            self._host.log.info(
                "turned a request away", status=turned.status, reason=turned.reason, address=head.address
            )
            return self.turn_away(head, turned)
        try:
            return await self._route(asked)
        except Refused as refused:
            return self._refusal(head, STATUSES[refused.problem], str(refused.problem), refused.detail)
        except BodyFault as fault:
            return self.turn_away(head, Turned(fault.status, fault.reason))
        except Exception as defect:
            incident = new_key()[:12]
            self._host.log.error("a request met a defect", incident=incident, path=head.path, exc_info=defect)  # noqa: TRY400  # with the exception itself
            return self._refusal(head, 500, str(Problem.INTERNAL), f"incident {incident}: see webd's log")

    def turn_away(self, head: Head | None, turned: Turned) -> Answer:
        """A refusal before anything was done; the connection ends with it."""
        answer = self._refusal(head, turned.status, problem_of(turned.status), turned.reason)
        headers = (("allow", ALLOWED),) if turned.status == 405 else ()
        return Answer(answer.status, answer.body, answer.kind, headers, ends_connection=True)

    async def _route(self, asked: Asked) -> Answer:
        head = asked.head
        if head.path.startswith(PREFIX) and head.method != "POST":
            return self._host.static.answer(head) or self._refusal(head, 404, "not_found", "no such file")
        found = find(head.method, head.path)
        if found is None:
            return self._refusal(head, 404, "not_found", "nothing is at this address")
        if found.route is None:
            return self.turn_away(head, Turned(405, f"method {head.method} not allowed here"))
        session = self._host.sessions.find(token_of(head, self._host.settings))
        if barred := self._barred(head, found.route, session):
            return barred
        body = await asked.body() if head.method == "POST" else b""
        visit = Visit(head, found.named, session, body)
        if found.route.access is Access.CHANGE:
            return await self._audited(found.route, visit)
        return await found.route.handler(visit, self._host)

    def _barred(self, head: Head, route: HttpRoute, session: Session | None) -> Answer | None:
        """Why this browser may not come by this route now."""
        match route.access:
            case Access.OPEN:
                return None
            case Access.PAGE:
                return None if session else redirect(303, "/login")
            case Access.READ | Access.CHANGE:
                if session is None:
                    return self._refusal(head, 401, problem_of(401), "not signed in")
        if route.access is Access.CHANGE:
            session.allowance, allowed = rates.take(
                session.allowance, rates.CHANGES_PER_SESSION, trio.current_time()
            )
            if not allowed:
                return too_often(rates.wait_s(session.allowance, rates.CHANGES_PER_SESSION))
        return None

    async def _audited(self, route: HttpRoute, visit: Visit) -> Answer:
        """One line for every change that was asked for: who, what, and how it ended. Never what was said."""
        log = self._host.log.bind(
            operator=visit.operator.operator,
            session=visit.operator.id,
            action=visit.head.path,
            address=visit.head.address,
        )
        try:
            answer = await route.handler(visit, self._host)
        except Refused as refused:
            log.info("asked", ended=str(refused.problem), detail=refused.detail)
            raise
        log.info("asked", ended="ok")
        return answer

    def _refusal(self, head: Head | None, status: int, problem: str, detail: str) -> Answer:
        if head is not None and _wants_page(head):
            return self._host.shells.lost(status, detail)
        return as_json({"problem": problem, "detail": detail}, status)


def _wants_page(head: Head) -> bool:
    return (
        head.method == "GET"
        and not head.path.startswith(("/api/", PREFIX))
        and "text/html" in (head.header("accept") or "")
    )
