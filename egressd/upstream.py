"""Connections to one account's model API: TLS, one request at a time, kept for the next one for a little while.

A request is never sent a second time from here: whether the API has begun to work on it cannot be known, and the agent
CLI retries by itself.
"""

import select
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import h11
import trio

from egressd.connect import RESOLVING_MAX, LeadsInside, Unreachable, connect
from egressd.policy.site import Key, KeyKind, NotAKey, Site, parse_key

HANDSHAKE_S: Final = 10.0
FIRST_BYTE_S: Final = 600.0
"""From the request to the reply's head: an answer that is not streamed is made whole before."""
REPLY_IDLE_S: Final = 300.0
TAKEN_S: Final = 60.0
"""For the API to take one piece of a request."""
REPLY_HEAD_BYTES_MAX: Final = 64 * 1024
READ_BYTES: Final = 64 * 1024
LINKS_MAX: Final = 128
"""Connections of one account at a time."""
LINKS_PER_AGENT_MAX: Final = 32
"""Of those, for one agent: requests that it never brings to their end keep nobody else from the account."""
LINKS_WAIT_S: Final = 10.0
IDLE_LINKS_MAX: Final = 8
IDLE_S: Final = 30.0
"""Servers close idle connections, too; a request on one that just goes is lost, so ours go first."""
KEY_BYTES_MAX: Final = 8 * 1024

Encrypted = trio.SSLStream[trio.SocketStream]


class Fault(Exception):
    """The API could not be asked, or its reply not be followed to the end; one line says why."""


class Slow(Fault):
    """It took longer than it may."""


class Busy(Fault):
    """Too many requests of this account are under way."""


class NoKey(Exception):
    """The account's key cannot be used; one line for the operator, without the key."""


class Link:
    """One connection to the API."""

    def __init__(self, stream: Encrypted) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=REPLY_HEAD_BYTES_MAX)
        self._idle_since_s = 0.0

    async def send(self, event: h11.Event) -> None:
        """Send a part of the request. Raises Fault."""
        try:
            data = self._http.send(event)
            if data:
                with trio.fail_after(TAKEN_S):
                    await self._stream.send_all(data)
        except h11.LocalProtocolError as error:
            raise Fault(f"the request cannot be sent on: {error}") from None
        except trio.TooSlowError:
            raise Slow(f"the model API took nothing for {TAKEN_S:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Fault("the model API closed the connection") from None

    async def reply(self) -> h11.Response:
        """The head of the reply. Raises Fault."""
        while True:
            event = await self._next_event(FIRST_BYTE_S)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise Fault("the model API answered out of turn")

    async def more(self) -> bytes | None:
        """The next piece of the reply's body; None at its end. Raises Fault."""
        event = await self._next_event(REPLY_IDLE_S)
        if isinstance(event, h11.EndOfMessage):
            return None
        if not isinstance(event, h11.Data):
            raise Fault("the model API broke off")
        return bytes(event.data)

    async def _next_event(self, within_s: float) -> h11.Event:
        try:
            with trio.fail_after(within_s):
                while True:
                    event = self._http.next_event()
                    if isinstance(event, h11.Event):
                        return event
                    if event is h11.PAUSED:
                        raise Fault("the model API answered out of turn")
                    self._http.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
        except h11.RemoteProtocolError:
            raise Fault("the model API's reply is not whole or not HTTP") from None
        except trio.TooSlowError:
            raise Slow(f"the model API said nothing for {within_s:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Fault("the model API closed the connection") from None

    def rests(self) -> bool:
        """Whether another request may follow; from here on it is idle."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._idle_since_s = trio.current_time()
        return True

    def is_fresh(self) -> bool:
        """Whether an idle connection can be used again: young, and nothing came, not even its end."""
        if trio.current_time() - self._idle_since_s > IDLE_S:
            return False
        poll = select.poll()
        poll.register(self._stream.transport_stream.socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


class Upstream:
    """One account's API: where it is, its key, and the connections that wait for another request."""

    def __init__(
        self, site: Site, kind: KeyKind, key_file: Path, tls: ssl.SSLContext, *, judged: bool
    ) -> None:
        self.site = site
        self._kind = kind
        self._key_file = key_file
        self._tls = tls
        self._judged = judged
        self._lookups = trio.CapacityLimiter(RESOLVING_MAX)
        self._places = trio.CapacityLimiter(LINKS_MAX)
        self._idle: deque[Link] = deque()

    def key(self) -> Key:
        """The key as its file holds it now, so that a new one counts from the next request on. Raises NoKey."""
        try:
            with self._key_file.open("rb") as file:
                return parse_key(self._kind, file.read(KEY_BYTES_MAX))
        except OSError as error:
            raise NoKey(f"its key file cannot be read: {error.strerror}") from None
        except NotAKey as fault:
            raise NoKey(f"its key file cannot be used: {fault}") from None

    @asynccontextmanager
    async def link(self, share: trio.CapacityLimiter) -> AsyncIterator[Link]:
        """A connection for one request, of the agent's share. Raises Fault when none comes about."""
        async with _place(share, "agent"), _place(self._places, "account"):
            link = await self._waiting() or await self._connect()
            try:
                yield link
            finally:
                await self._put_back(link)

    async def _waiting(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if link.is_fresh():
                return link
            await link.close()
        return None

    async def _put_back(self, link: Link) -> None:
        if link.rests():
            self._idle.append(link)
            if len(self._idle) <= IDLE_LINKS_MAX:
                return
            link = self._idle.popleft()
        await link.close()

    async def _connect(self) -> Link:
        target = self.site.target
        try:
            stream = await connect(target, judged=self._judged, lookups=self._lookups)
        except LeadsInside as inside:
            raise Fault(f"{target} leads inside: its address is {inside}") from None
        except Unreachable as fault:
            raise Fault(f"{target} cannot be reached: {fault}") from None
        encrypted = trio.SSLStream(stream, self._tls, server_hostname=target.host, https_compatible=True)
        try:
            with trio.fail_after(HANDSHAKE_S):
                await encrypted.do_handshake()
        except trio.TooSlowError:
            await trio.aclose_forcefully(stream)
            raise Slow(f"{target} did not finish its TLS handshake within {HANDSHAKE_S:g} s") from None
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise Fault(f"no TLS with {target}: {_why(error)}") from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return Link(encrypted)

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()


@asynccontextmanager
async def _place(places: trio.CapacityLimiter, whose: str) -> AsyncIterator[None]:
    token = object()
    with trio.move_on_after(LINKS_WAIT_S) as patience:
        await places.acquire_on_behalf_of(token)
    if patience.cancelled_caught:
        raise Busy(f"{places.total_tokens} requests of this {whose} are under way")
    try:
        yield
    finally:
        places.release_on_behalf_of(token)


def _why(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    return "the handshake failed"


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """TLS that verifies: the machine's authorities, and the hive's own in addition. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
