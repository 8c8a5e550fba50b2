"""One connection: heads and bodies in, answers out, with h11 for the grammar and a deadline on every wait.

Not here: what an answer says (the site), who may connect and how many (the server).

A request whose body was not wanted is answered first; the rest of it is then read away for a moment, because closing on
unread bytes would make the kernel throw the answer away with them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11
import trio

from runtime.clock import now_ms
from runtime.log import Log
from runtime.stopping import Stopping
from webd.http.answers import Answer, Asked, BodyFault, Feed, Gone, Headers, Site, TurnAway
from webd.http.server import Place
from webd.policy.guard import BODY_BYTES_MAX, Head, Turned

HEAD_BYTES_MAX: Final = 32 * 1024
HEAD_READ_BYTES: Final = 8 * 1024
"""Read at once while a head is expected, so that the bound on heads is met by this much."""
READ_BYTES: Final = 64 * 1024
LINGER_BYTES_MAX: Final = 4 * 1024 * 1024
LINGER_S: Final = 1.0
_LENGTH: Final = re.compile(rb"^content-length[ \t]*:([^\n]*)", re.IGNORECASE | re.MULTILINE)
_FOLDED: Final = re.compile(rb"^[ \t]+[^\s]", re.MULTILINE)


@dataclass(frozen=True)
class Patience:
    """How long a browser may take for each step, in seconds."""

    head_s: float = 5.0
    idle_s: float = 15.0
    """Between two requests of one connection."""
    body_s: float = 10.0
    taken_s: float = 30.0
    """For one piece of an answer to be taken."""


class Left(Exception):
    """Nothing more comes from the browser, and nothing is owed to it."""


class Connection:
    """Serves the requests of one browser's connection, one after the other."""

    def __init__(
        self,
        stream: trio.SocketStream,
        place: Place,
        site: Site,
        *,
        patience: Patience,
        standing: Headers,
        turn_away: TurnAway,
        stopping: Stopping,
        log: Log,
    ) -> None:
        self._stream = stream
        self._place = place
        self._site = site
        self._patience = patience
        self._standing = standing
        self._turn_away = turn_away
        self._stopping = stopping
        self._log = log
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._address = place.address

    async def serve(self) -> None:
        """Until either side has had enough. Never raises for what the browser did."""
        try:
            while await self._exchange():
                self._h11.start_next_cycle()
            await self._linger()
        except (Left, Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _exchange(self) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            head = await self._next_head()
        except (BodyFault, h11.RemoteProtocolError) as fault:
            turned = (
                Turned(fault.status, fault.reason)
                if isinstance(fault, BodyFault)
                else Turned(fault.error_status_hint, "not a request")
            )
            await self._write(self._turn_away(None, turned), ends=True, bodyless=False)
            return False
        answer = await self._site(Asked(head, self._read_body))
        is_feed = not isinstance(answer.body, bytes)
        ends = answer.ends_connection or is_feed or bool(self._stopping) or not self._request_is_read()
        await self._write(answer, ends=ends, bodyless=head.method == "HEAD")
        return not ends and self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    def _request_is_read(self) -> bool:
        """Whether the request has ended, so that another can follow it; a body in flight ends the connection."""
        try:
            while self._h11.their_state is h11.SEND_BODY:
                if not isinstance(self._h11.next_event(), h11.EndOfMessage):
                    return False
        except h11.RemoteProtocolError:
            return False
        return True

    async def _next_head(self) -> Head:
        self._place.waits()
        with self._stopping.ends():
            event = await self._next_event(self._patience.idle_s if self._between_requests() else None)
            self._place.is_answered()
            if not isinstance(event, h11.Request):
                raise Left
            return Head(
                method=event.method.decode("ascii"),
                target=event.target.decode("latin-1"),
                version=event.http_version.decode("ascii"),
                headers=tuple(
                    (name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers
                ),
                address=self._address,
            )
        raise Left

    def _between_requests(self) -> bool:
        return not self._h11.trailing_data[0]

    async def _next_event(self, idle_s: float | None) -> h11.Event:
        """The next event within head_s of its first byte, which may take idle_s to come."""
        deadline = trio.current_time() + self._patience.head_s
        head = bytearray(self._h11.trailing_data[0])
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Event):
                _check_framing(head[: len(head) - len(self._h11.trailing_data[0])])
                return event
            with trio.move_on_at(deadline if idle_s is None else trio.current_time() + idle_s) as scope:
                data = await self._stream.receive_some(HEAD_READ_BYTES)
            if scope.cancelled_caught:
                if idle_s is None:
                    raise BodyFault(408, "no whole head in time")
                raise Left
            if idle_s is not None:
                idle_s, deadline = None, trio.current_time() + self._patience.head_s
            head += data
            self._h11.receive_data(data)

    async def _read_body(self) -> bytes:
        """The whole body, at most BODY_BYTES_MAX bytes of it within body_s."""
        body = bytearray()
        with trio.move_on_after(self._patience.body_s):
            if self._h11.they_are_waiting_for_100_continue:
                await self._send(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
            while True:
                try:
                    event = self._h11.next_event()
                except h11.RemoteProtocolError:
                    raise BodyFault(400, "the body ended early") from None
                if isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > BODY_BYTES_MAX:
                        raise BodyFault(413, "body is larger than 64 KiB")
                elif event is h11.NEED_DATA:
                    self._place.waits()
                    self._h11.receive_data(await self._more())
                    self._place.is_answered()
                else:
                    return bytes(body)
        raise BodyFault(408, f"request body took longer than {self._patience.body_s:g} s")

    async def _more(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _write(self, answer: Answer, *, ends: bool, bodyless: bool) -> None:
        body = answer.body
        length = (
            (("content-length", str(len(body))),)
            if isinstance(body, bytes) and _has_length(answer.status)
            else ()
        )
        kind = (("content-type", answer.kind),) if answer.kind else ()
        close = (("connection", "close"),) if ends else ()
        date = (("date", formatdate(now_ms() / 1000, usegmt=True)),)
        headers = _encoded((*date, *kind, *length, *answer.headers, *self._standing_for(answer), *close))
        reason = HTTPStatus(answer.status).phrase.encode()
        start = self._h11.send(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        if bodyless or isinstance(body, bytes):
            data = b"" if bodyless or not isinstance(body, bytes) else self._h11.send(h11.Data(data=body))
            await self._send(start + data + self._h11.send(h11.EndOfMessage()))
            return
        await self._send(start)
        if not await self._feed(body):
            raise Left
        await self._send(self._h11.send(h11.EndOfMessage()))

    async def _feed(self, feed: Feed) -> bool:
        """Write a feed to its end; false when the browser left before."""
        ended = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_it_leaves, nursery.cancel_scope)
            try:
                await feed(self._send_data)
                ended = True
            except Gone:
                self._log.debug("the browser left its stream", address=self._address)
            nursery.cancel_scope.cancel()
        return ended

    def _standing_for(self, answer: Answer) -> Headers:
        """What every answer says, unless this one says otherwise."""
        said = {name for name, _ in answer.headers}
        return tuple((name, value) for name, value in self._standing if name not in said)

    async def _until_it_leaves(self, scope: trio.CancelScope) -> None:
        """A browser that is being fed says nothing more: bytes or an end both mean that it has left."""
        try:
            await self._stream.receive_some(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._log.debug("the browser broke the connection")
        scope.cancel()

    async def _send_data(self, data: bytes) -> None:
        await self._send(self._h11.send(h11.Data(data=data)))

    async def _send(self, data: bytes | None) -> None:
        self._place.waits()
        with trio.move_on_after(self._patience.taken_s) as scope:
            try:
                await self._stream.send_all(data or b"")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Gone from None
        self._place.is_answered()
        if scope.cancelled_caught:
            self._log.info("a browser stopped reading", address=self._address)
            raise Gone

    async def _linger(self) -> None:
        """Say that nothing more comes, and read away what the browser is still sending, for a moment."""
        self._place.waits()
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            left_bytes = LINGER_BYTES_MAX
            while left_bytes > 0 and (data := await self._stream.receive_some(READ_BYTES)):
                left_bytes -= len(data)


def _check_framing(head: bytearray) -> None:
    """What the grammar would mend silently. Raises BodyFault.

    Another reader of the same bytes may mend it in another way, and take the body for a second request.
    """
    lengths = _LENGTH.findall(head)
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        raise BodyFault(400, "more than one content-length header")
    if _FOLDED.search(head):
        raise BodyFault(400, "a header goes on in another line")


def _has_length(status: int) -> bool:
    return status >= 200 and status not in (204, 304)


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
