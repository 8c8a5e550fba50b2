"""The shape of every request, and the tie between a request, its handler and who may ask.

`Call[R]` asks for one reply of type R; `Watch[E]` asks for a stream of E until either side leaves. A subclass is
the whole declaration: its class name in snake case is the operation on the wire (`StartCage` → `start_cage`),
its docstring the documentation, its fields the arguments. No request says who is asking.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Flag, auto
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args

from msgspec import Struct

R = TypeVar("R")
E = TypeVar("E")
H = TypeVar("H")


class Role(Flag):
    """Who is asking, decided by the listening socket and the peer's uid."""

    OPERATOR = auto()
    BROKER = auto()
    EGRESS = auto()
    AGENT = auto()
    MANAGER = auto()


AGENTS = Role.AGENT | Role.MANAGER
EVERY_ROLE = Role.OPERATOR | Role.BROKER | Role.EGRESS | Role.AGENT | Role.MANAGER


class Caller(Struct, frozen=True):
    """The one who asks: role and uid from the socket, `agent` when the socket belongs to one."""

    role: Role
    uid: int
    agent: str | None = None


def operation_name(class_name: str) -> str:
    """`StartCage` → `start_cage`; runs of capitals stay one word (`WhoAmI` → `who_am_i`)."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()


class Route(Struct, Generic[H], frozen=True):
    """One line of a daemon's authority: this request, done by this handler, for these callers."""

    request: "type[Request]"
    handler: Callable[[Any, Caller, H], Any]
    callers: Role


class Request(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag=operation_name):
    """What every request shares."""

    repeatable: ClassVar[bool] = True
    """Whether sending it twice has the effect of sending it once, so that a client may ask again after a loss."""
    waits: ClassVar[bool] = False
    """Whether it mostly waits (a long poll), so that it is given up when the peer leaves or the daemon stops."""

    @classmethod
    def operation(cls) -> str:
        """The name on the wire."""
        return operation_name(cls.__name__)

    @classmethod
    def answer_type(cls) -> Any:
        """The R of `Call[R]` or the E of `Watch[E]`."""
        for base in getattr(cls, "__orig_bases__", ()):
            arguments = get_args(base)
            if arguments:
                return arguments[0]
        raise TypeError(f"{cls.__name__} does not say what it answers: derive it from Call[R] or Watch[E]")


class Call(Request, Generic[R], frozen=True):
    """A request with one reply."""

    @classmethod
    def answered_by(cls, handler: Callable[[Self, Caller, H], Awaitable[R]], *, callers: Role) -> Route[H]:
        """Tie this request to the handler that does it and to the roles that may ask."""
        return Route(cls, handler, callers)


class Watch(Request, Generic[E], frozen=True):
    """A request answered by a stream."""

    @classmethod
    def answered_by(
        cls,
        handler: Callable[[Self, Caller, H], AbstractAsyncContextManager[AsyncIterator[E]]],
        *,
        callers: Role,
    ) -> Route[H]:
        """Tie this watch to the handler that opens its stream and to the roles that may ask."""
        return Route(cls, handler, callers)
