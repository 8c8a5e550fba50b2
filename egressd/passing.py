"""One request and its reply on their way between an agent and the model API, both streamed, with a bound on each wait.

The body goes out and the reply comes in at the same time: an API may answer before it has read everything. When the
agent leaves, the request to the API is given up at once; nobody would read what it costs.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import h11
import trio

from egressd.accounts import Live, tells_in_body
from egressd.gate import Gate
from egressd.policy.answers import Answer
from egressd.policy.head import BadHead, Headers, bad_request
from egressd.policy.passage import BODY_BYTES_MAX, Passage, reply_headers, too_large
from egressd.policy.site import Key, Site, outward_headers, target_of
from egressd.upstream import Fault, Link
from protocol.egressd import Refusal

BODY_IDLE_S: Final = 30.0
"""For the next piece of a request's body."""
REPLY_TAKEN_S: Final = 60.0
"""For the agent to take one piece of a reply."""
REPLY_BYTES_MAX: Final = 256 * 1024 * 1024
DRAIN_S: Final = 5.0
"""For the rest of a body that is not passed on, so that the connection can be kept."""
READ_BYTES: Final = 64 * 1024
EVENT_BYTES_MAX: Final = 64 * 1024
"""What may wait to become one event; a head is checked before."""
DETAIL_BYTES_MAX: Final = 16 * 1024
"""Of an error's body that is read for what it says."""


class AgentLeft(Exception):
    """The agent went away, or takes or sends nothing any more."""


class Cut(Exception):
    """A reply that had begun was not brought to its end; the connection ends with it."""


class Passing:
    """The state of one exchange at the agent's side."""

    def __init__(self, stream: trio.SocketStream, gate: Gate, received: bytes) -> None:
        self.status = 0
        self.bytes_out = 0
        self.bytes_in = 0
        self._stream = stream
        self._gate = gate
        self._ahead = b""
        """What the agent sent behind its request."""
        self._broke: Exception | None = None
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=EVENT_BYTES_MAX)
        self._http.receive_data(received)

    @property
    def has_begun(self) -> bool:
        """Whether the agent has got the beginning of a reply."""
        return self.status != 0

    @property
    def may_follow(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    @property
    def rest(self) -> bytes:
        """The first bytes of the next request."""
        return self._http.trailing_data[0] + self._ahead

    def accept(self) -> None:
        """Let h11 agree with what was checked already. Raises BadHead."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise bad_request(str(error)) from None
        if not isinstance(event, h11.Request):
            raise bad_request("not a request")

    async def run(self, passage: Passage, site: Site, key: Key, link: Link, live: Live) -> None:
        """Send the request, stream the reply. Raises Fault, Cut, BadHead, AgentLeft."""
        asked_at_s = trio.current_time()
        request = h11.Request(
            method=passage.method,
            target=target_of(passage, site),
            headers=list(outward_headers(passage, site, key)),
        )

        async def outward() -> None:
            await link.send(request)
            await self._send_body(link)
            await self._until_it_leaves()

        async def inward() -> None:
            reply = await link.reply()
            headers = tuple((name.lower(), value) for name, value in reply.headers)
            await self._stream_back(reply, headers, link, live, asked_at_s)

        await self._together(outward, inward)
        await self._drain()

    async def _together(
        self, outward: Callable[[], Awaitable[None]], inward: Callable[[], Awaitable[None]]
    ) -> None:
        """Run both until the reply has ended, or one of them cannot go on: raises what it met."""
        async with trio.open_nursery() as nursery:

            async def run(task: Callable[[], Awaitable[None]]) -> None:
                try:
                    await task()
                except (Fault, Cut, BadHead, AgentLeft) as broke:
                    self._broke = self._broke or broke
                    nursery.cancel_scope.cancel()

            nursery.start_soon(run, outward)
            await run(inward)
            nursery.cancel_scope.cancel()
        if self._broke is not None:
            raise self._broke

    async def _send_body(self, link: Link) -> None:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.EndOfMessage):
                await link.send(h11.EndOfMessage())
                return
            if not isinstance(event, h11.Data):
                raise AgentLeft
            self.bytes_out += len(event.data)
            if self.bytes_out > BODY_BYTES_MAX:
                raise too_large()
            self._spend(self._gate.may_send, len(event.data))
            await link.send(h11.Data(data=event.data))

    def _spend(self, may: Callable[[int], bool], count: int) -> None:
        if not may(count):
            self._gate.note(Refusal.VOLUME)
            raise Cut("the agent has used up its bytes of this hour")

    async def _until_it_leaves(self) -> None:
        """An agent that waits for its reply says nothing; what it sends nevertheless is its next request."""
        if self._http.trailing_data[0]:
            return
        self._ahead = await self._receive()
        if not self._ahead:
            raise AgentLeft

    async def _stream_back(
        self, reply: h11.Response, headers: Headers, link: Link, live: Live, asked_at_s: float
    ) -> None:
        status = reply.status_code
        is_refusal = tells_in_body(status)
        beginning = bytearray()
        if not is_refusal:
            live.heard(status, headers, asked_at_s)
        try:
            await self._send(
                h11.Response(status_code=status, headers=list(reply_headers(headers)), reason=reply.reason)
            )
            self.status = status
            while (data := await link.more()) is not None:
                beginning += data[: DETAIL_BYTES_MAX - len(beginning)] if is_refusal else b""
                self.bytes_in += len(data)
                if self.bytes_in > REPLY_BYTES_MAX:
                    raise Cut(f"the reply is longer than {REPLY_BYTES_MAX} bytes")
                self._spend(self._gate.may_fetch, len(data))
                await self._send(h11.Data(data=data))
            await self._send(h11.EndOfMessage())
        finally:
            if is_refusal:
                live.refused(status, headers, bytes(beginning))

    async def refuse(self, given: Answer) -> None:
        """Answer for the API. What is left of the request is read away, if that is soon done."""
        if self._http.their_state is h11.IDLE:
            self.accept()
        await self._drain()
        headers = list(given.headers)
        if self._http.their_state is not h11.DONE:
            headers.append((b"connection", b"close"))
        await self._send(
            h11.Response(status_code=given.status, headers=headers, reason=given.reason.encode())
        )
        await self._send(h11.Data(data=given.body))
        await self._send(h11.EndOfMessage())
        self.status = given.status

    async def _drain(self) -> None:
        """Read away what is left of the request: who still writes would not hear the answer of a closed connection."""
        with trio.move_on_after(DRAIN_S):
            while self._http.their_state is h11.SEND_BODY:
                if isinstance(await self._next_event(), h11.ConnectionClosed):
                    raise AgentLeft

    async def _next_event(self) -> h11.Event:
        """The next piece of the request's body. Raises BadHead for its form, AgentLeft when it does not come."""
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Event):
                    return event
                data = await self._receive(BODY_IDLE_S)
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise bad_request(f"the body: {error}") from None

    async def _receive(self, within_s: float = float("inf")) -> bytes:
        try:
            with trio.fail_after(within_s):
                return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise AgentLeft from None

    async def _send(self, event: h11.Event) -> None:
        try:
            data = self._http.send(event)
            if data:
                with trio.fail_after(REPLY_TAKEN_S):
                    await self._stream.send_all(data)
        except h11.LocalProtocolError as error:
            raise Fault(f"the reply cannot be passed on: {error}") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise AgentLeft from None
