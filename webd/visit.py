"""One request on its way through webd, and the host that handlers act on."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import msgspec
import trio

from protocol.hello import Hello
from protocol.names import AGENT_NAME_PATTERN, in_words
from protocol.problem import Problem, Refused
from protocol.rpc import Call
from runtime.client import Client, Disconnected
from runtime.log import Log
from runtime.stopping import Stopping
from webd.attempts import Attempts
from webd.deeds import Deeds
from webd.http.port import PortState
from webd.live.upstream import Picture
from webd.live.views import Views
from webd.policy.guard import Head, Names
from webd.policy.paths import parse_query
from webd.render.shells import Shells
from webd.render.static import StaticFiles
from webd.sessions import Session, Sessions
from webd.settings import WebSettings

PATIENCE_S: Final = 3.0
"""How long a daemon may be away before a request is given up."""
ANSWERED_S: Final = 60.0

_AGENT: Final = re.compile(AGENT_NAME_PATTERN)

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R")


@dataclass(frozen=True)
class Host:
    """What webd has: handlers get it whole."""

    settings: WebSettings
    names: Names
    sessions: Sessions
    picture: Picture
    views: Views
    deeds: Deeds
    shells: Shells
    static: StaticFiles
    privd: Client
    brokerd: Client
    port: PortState
    attempts: Attempts
    stopping: Stopping
    now_ms: Callable[[], int]
    log: Log

    async def ask_brokerd(self, request: Call[R]) -> R:
        return await _ask(self.brokerd, request, "brokerd")

    async def ask_privd(self, request: Call[R]) -> R:
        return await _ask(self.privd, request, "privd")


async def _ask(client: Client, request: Call[R], daemon: str) -> R:
    """Ask a daemon that may be away for a moment. Raises Refused, `stopping` when it stays away."""
    try:
        with trio.fail_after(ANSWERED_S):
            if request.repeatable:
                return await client.call(request, patience_s=PATIENCE_S)
            await client.call(Hello(), patience_s=PATIENCE_S)
            return await _ask_once(client, request, daemon)
    except Disconnected:
        raise Refused(Problem.STOPPING, f"{daemon} is away; try again in a moment") from None
    except trio.TooSlowError:
        raise Refused(Problem.FAILED, f"{daemon} has not answered within {ANSWERED_S:g} s") from None


async def _ask_once(client: Client, request: Call[R], daemon: str) -> R:
    """A request that may not be sent twice, to a daemon that has just answered."""
    try:
        return await client.call(request)
    except Disconnected:
        raise Refused(Problem.FAILED, f"{daemon} went away meanwhile; look whether it was done") from None


@dataclass(frozen=True)
class Visit:
    """A request that passed the guard: where it goes, who makes it, and what it says."""

    head: Head
    named: Mapping[str, str]
    session: Session | None = None
    body: bytes = b""

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query as it was written. Raises Refused(malformed)."""
        return parse_query(self.head.query)

    @property
    def operator(self) -> Session:
        """The session of a route that needs one."""
        if self.session is None:
            raise LookupError("this route is open to everybody: it has no session")
        return self.session

    def said(self, shape: type[S]) -> S:
        """The body as *shape*. Raises Refused(malformed)."""
        try:
            said = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refused(Problem.MALFORMED, "body is not valid JSON") from None
        try:
            return msgspec.convert(said, shape)
        except msgspec.ValidationError as error:
            raise Refused(Problem.MALFORMED, in_words(str(error))) from None

    def number(
        self, name: str, default: int | None = None, *, least: int = 0, most: int = 2**53 - 1
    ) -> int | None:
        """A number in the query. Raises Refused(malformed)."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text[:17]) <= most:
            raise Refused(Problem.MALFORMED, f"{name} is not a number between {least} and {most}")
        return int(text)

    def flag(self, name: str) -> bool:
        """Whether the query says `name=1`. Raises Refused(malformed)."""
        text = self.query.get(name, "0")
        if text not in ("0", "1"):
            raise Refused(Problem.MALFORMED, f"{name} is 0 or 1")
        return text == "1"

    def agent(self, name: str) -> str | None:
        """An agent's name in the query. Raises Refused(malformed)."""
        text = self.query.get(name)
        if text is not None and not _AGENT.match(text):
            raise Refused(Problem.MALFORMED, f"{name} is not the name of an agent")
        return text
