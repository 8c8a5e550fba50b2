"""A connection between two requests, and during those that need no task (runtime.later).

A session is a task only while it has something to do that must wait for trio. Between two requests it is parked here:
the reactor tells when the peer speaks. A whole frame with a request whose handler is `light` is then decoded, done
and answered on the spot; everything else (part of a frame, a second frame, what is no request or not this caller's,
any other handler, a reply that the peer does not take) goes back to the session, with the bytes as they came. So all
that is refused is refused there, and only what is allowed takes the short way.
"""

import os
from collections.abc import Coroutine
from typing import Any, Final, Generic, Protocol, TypeVar

import trio

from protocol.frames import encode_refusal
from protocol.problem import Problem, Refused
from protocol.rpc import Request
from runtime.later import ByHand, GivenUp, run_by_hand, soon
from runtime.outcomes import Error, Outcome
from runtime.reactor import this_reactor
from runtime.session import OutOfTurn, Session

H = TypeVar("H")

READ_BYTES: Final = 16 * 1024
"""A request that fills this goes to a task: more of it may be there, and would not be told a second time."""


class Keeper(Protocol):
    """Whoever parked a connection."""

    def again(self) -> None:
        """It needs a task again."""

    def over(self) -> None:
        """It ended here."""


class Parked(Generic[H]):
    """One connection."""

    __slots__ = (
        "_fd",
        "_given_up",
        "_has_spoken",
        "_keeper",
        "_reactor",
        "_request",
        "_rest",
        "_session",
        "_socket",
    )

    def __init__(
        self,
        session: Session[H],
        stream: trio.SocketStream,
        keeper: Keeper,
    ) -> None:
        self._session = session
        self._keeper = keeper
        self._request: Request | None = None
        """What is being done."""
        self._rest: ByHand | None = None
        self._given_up: Refused | None = None
        """What is told to a peer whose request is given up; None when it left."""
        self._has_spoken = False
        """Whether something came while a request was being done."""
        self._socket = stream.socket
        self._fd = stream.socket.fileno()
        self._reactor = this_reactor()
        self._reactor.watch(self._fd, self)
        if session.unheard:
            soon(self._hear_first)

    def stop(self) -> None:
        """The daemon goes down: what waits is told so, work in hand is finished."""
        if self._request is None:
            self.end()
        elif self._request.waits:
            self._give_up(Refused(Problem.STOPPING, "the daemon is going down; ask again"))

    def end(self) -> None:
        """Close it, whatever is being done."""
        if self._fd < 0:
            return
        self._leave_reactor()
        self._socket.close()
        self._keeper.over()
        if self._rest is not None:
            self._rest.give_up()

    def _leave_reactor(self) -> None:
        self._reactor.forget(self._fd)
        self._fd = -1

    def readable(self) -> None:
        """The peer said something, or left."""
        if self._request is None:
            self._hear()
        elif self._request.waits:
            self._interrupted()
        else:
            self._has_spoken = True

    def _hear_first(self) -> None:
        """The light request that the session left."""
        if self._fd >= 0 and self._request is None:
            unheard, self._session.unheard = self._session.unheard, b""
            self._ask(unheard, self._session.asked_lightly(unheard))

    def _hear(self) -> None:
        if self._fd < 0 or self._request is not None:
            return
        if self._session.unheard:
            self._has_spoken = True
            return
        try:
            untrusted = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            untrusted = b""
        if not untrusted:
            self.end()
            return
        self._ask(untrusted, self._session.asked_lightly(untrusted) if len(untrusted) < READ_BYTES else None)

    def _ask(self, untrusted: bytes, asked: tuple[Request, Coroutine[Any, Any, Any]] | None) -> None:
        if asked is None:
            self._to_task(untrusted, b"")
            return
        request, work = asked
        self._request = request
        self._rest = run_by_hand(work, self._answer)
        if self._has_spoken and request.waits and self._request is request:
            self._interrupted()

    def _interrupted(self) -> None:
        """The peer left or spoke while it should have waited."""
        try:
            heard = os.read(self._fd, 1)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        self._give_up(OutOfTurn() if heard else None)

    def _give_up(self, told: Refused | None) -> None:
        self._given_up = told
        if self._rest is not None:
            self._rest.give_up()

    def _answer(self, how: Outcome[Any]) -> None:
        request, self._request, self._rest = self._request, None, None
        if self._fd < 0 or request is None:
            return
        if isinstance(how, Error) and isinstance(how.error, GivenUp):
            self._say_farewell()
            return
        reply = self._session.reply_to(request, how)
        try:
            sent = os.write(self._fd, reply)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end()
            return
        if sent < len(reply):
            self._to_task(b"", reply[sent:])
        elif self._session.is_stopping:
            self.end()
        elif self._has_spoken:
            self._has_spoken = False
            soon(self._hear)

    def _say_farewell(self) -> None:
        """A few bytes to somebody who waits for an answer and so has room for them."""
        if self._given_up is not None:
            try:
                os.write(self._fd, encode_refusal(self._given_up))
            except OSError:
                self._session.log.debug("the peer left before its refusal")
        self.end()

    def _to_task(self, heard: bytes, unsent: bytes) -> None:
        self._leave_reactor()
        self._session.resume(heard, unsent)
        self._keeper.again()
