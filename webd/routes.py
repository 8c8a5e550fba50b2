"""Everything that can be asked of webd, what answers it, who may ask: one table for browsers, one for the socket."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from protocol.hello import Hello
from protocol.rpc import Role
from protocol.webd import ListSessions, MintLogin, RevokeSession
from webd.handlers import (
    actions,
    asking,
    configurations,
    deployments,
    files,
    operator,
    pages,
    proposals,
    reminding,
    signing,
    watching,
)
from webd.http.answers import Answer
from webd.policy.guard import READS
from webd.policy.paths import match
from webd.visit import Host, Visit


class Access(Enum):
    """Who may come by a route."""

    OPEN = auto()
    """Everybody."""
    PAGE = auto()
    """A signed-in browser; others are led to the sign-in page."""
    READ = auto()
    """A signed-in page; others are refused."""
    CHANGE = auto()
    """The same, counted, and written down with the operator's name."""


@dataclass(frozen=True)
class HttpRoute:
    method: str
    pattern: str
    handler: Callable[[Visit, Host], Awaitable[Answer]]
    access: Access


HTTP: Final = (
    HttpRoute("GET", "/", pages.swarm, Access.PAGE),
    HttpRoute("GET", "/agent/{agent}", pages.agent_bare, Access.OPEN),
    HttpRoute("GET", "/agent/{agent}/", pages.agent, Access.PAGE),
    HttpRoute("GET", "/agent/{agent}/journal", pages.journal, Access.PAGE),
    HttpRoute("GET", "/agent/{agent}/stats", pages.stats, Access.PAGE),
    HttpRoute("GET", "/agent/{agent}/state", pages.files, Access.PAGE),
    HttpRoute("GET", "/agent/{agent}/config", pages.config, Access.PAGE),
    HttpRoute("GET", "/meta", pages.meta, Access.PAGE),
    HttpRoute("GET", "/enrol", pages.enrol, Access.PAGE),
    HttpRoute("GET", "/login", pages.login, Access.OPEN),
    HttpRoute("GET", "/favicon.ico", pages.favicon, Access.OPEN),
    HttpRoute("GET", "/healthz", pages.health, Access.OPEN),
    HttpRoute("GET", "/api/state", watching.state, Access.READ),
    HttpRoute("GET", "/api/stats", watching.statistics, Access.READ),
    HttpRoute("GET", "/api/state-file", files.shown, Access.READ),
    HttpRoute("GET", "/api/journal/{agent}", watching.journal, Access.READ),
    HttpRoute("GET", "/api/agent-config/{agent}", configurations.of_agent, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/config/refs", configurations.refs, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/config/log", configurations.log, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/config/diff", configurations.diff, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/config/files", configurations.files, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/config/file", configurations.file, Access.READ),
    HttpRoute("GET", "/api/v1/meta", configurations.of_swarm, Access.READ),
    HttpRoute("GET", "/api/v1/meta/log", configurations.log, Access.READ),
    HttpRoute("GET", "/api/v1/meta/diff", configurations.diff, Access.READ),
    HttpRoute("GET", "/api/v1/meta/files", configurations.files, Access.READ),
    HttpRoute("GET", "/api/v1/meta/file", configurations.file, Access.READ),
    HttpRoute("GET", "/api/v1/approvers", configurations.approvers, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/files", files.listed, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/size", files.measured, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/download", files.download, Access.READ),
    HttpRoute("GET", "/api/v1/stream", watching.stream, Access.READ),
    HttpRoute("GET", "/api/v1/log/{topic}", watching.log, Access.READ),
    HttpRoute("GET", "/api/v1/search", watching.search, Access.READ),
    HttpRoute("GET", "/api/v1/questions", watching.questions, Access.READ),
    HttpRoute("GET", "/api/v1/reminders", reminding.listed, Access.READ),
    HttpRoute("GET", "/api/v1/egress", watching.egress, Access.READ),
    HttpRoute("GET", "/api/v1/proposals", proposals.listed, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/proposals/{proposal}", proposals.shown, Access.READ),
    HttpRoute("GET", "/api/v1/deployments", deployments.listed, Access.READ),
    HttpRoute("GET", "/api/v1/agents/{agent}/deployments/{deployment}/log", deployments.log, Access.READ),
    HttpRoute("POST", "/api/v1/send", actions.send, Access.CHANGE),
    HttpRoute("POST", "/api/v1/messages/read", actions.mark_all_read, Access.CHANGE),
    HttpRoute("POST", "/api/v1/messages/{message}/read", actions.mark_read, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents", proposals.spawn, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/start", actions.start, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/stop", actions.stop, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/restart", actions.restart, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/destroy", actions.destroy, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/purge", actions.purge, Access.CHANGE),
    HttpRoute(
        "POST", "/api/v1/agents/{agent}/proposals/{proposal}/approve", proposals.approve, Access.CHANGE
    ),
    HttpRoute("POST", "/api/v1/agents/{agent}/proposals/{proposal}/deny", proposals.deny, Access.CHANGE),
    HttpRoute(
        "POST", "/api/v1/agents/{agent}/proposals/{proposal}/withdraw", proposals.withdraw, Access.CHANGE
    ),
    HttpRoute(
        "POST", "/api/v1/agents/{agent}/deployments/{deployment}/cancel", deployments.cancel, Access.CHANGE
    ),
    HttpRoute("POST", "/api/v1/agents/{agent}/roll-back", deployments.roll_back, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/cancel-turn", actions.cancel_turn, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/pause", asking.pause, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/model", asking.choose_model, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/resume", asking.resume, Access.CHANGE),
    HttpRoute("POST", "/api/v1/agents/{agent}/wake", asking.wake, Access.CHANGE),
    HttpRoute("POST", "/api/v1/accounts/{account}/resume", asking.resume_account, Access.CHANGE),
    HttpRoute("POST", "/api/v1/questions/{question}/answer", asking.answer, Access.CHANGE),
    HttpRoute("POST", "/api/v1/threads/{thread}/release", asking.release_thread, Access.CHANGE),
    HttpRoute("POST", "/api/v1/threads/{thread}/close", asking.close_thread, Access.CHANGE),
    HttpRoute("POST", "/api/v1/deliveries/{delivery}/retry", asking.retry_delivery, Access.CHANGE),
    HttpRoute("POST", "/api/v1/reminders", reminding.remind, Access.CHANGE),
    HttpRoute("POST", "/api/v1/reminders/{reminder}/edit", reminding.edit, Access.CHANGE),
    HttpRoute("POST", "/api/v1/reminders/{reminder}/cancel", reminding.cancel, Access.CHANGE),
    HttpRoute("POST", "/api/v1/reminders/{reminder}/fire", reminding.fire, Access.CHANGE),
    HttpRoute("POST", "/login", signing.login, Access.OPEN),
    HttpRoute("POST", "/logout", signing.logout, Access.CHANGE),
)

ROUTES: Final = (
    Hello.answered_by(operator.hello, callers=Role.OPERATOR),
    MintLogin.answered_by(operator.mint_login, callers=Role.OPERATOR),
    ListSessions.answered_by(operator.list_sessions, callers=Role.OPERATOR),
    RevokeSession.answered_by(operator.revoke_session, callers=Role.OPERATOR),
)


@dataclass(frozen=True)
class Found:
    """A route and the named parts of the address; or only that the address has other methods."""

    route: HttpRoute | None
    named: Mapping[str, str]


def find(method: str, path: str) -> Found | None:
    """The route of a request; None when nothing is at this address."""
    method = "GET" if method in READS else method
    other: Found | None = None
    for route in HTTP:
        named = match(route.pattern, path)
        if named is not None:
            if route.method == method:
                return Found(route, named)
            other = Found(None, named)
    return other
