"""One connection, from its first frame to its last: frame → decode → role → policy → act → reply.

Each stage has its own kind of no. A refusal is told to the peer with its code; anything else is a defect, logged
with an incident id that is all the peer sees. Whatever happens on one connection stays on it.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

import trio

from protocol import frames
from protocol.limits import (
    FIRST_FRAME_S,
    FRAME_BODY_S,
    FRAME_BYTES_MAX,
    REPLY_BYTES_MAX,
    REPLY_TAKEN_S,
)
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Request, Role, Route, Watch
from runtime.clock import new_key
from runtime.later import is_light
from runtime.log import Log
from runtime.outcomes import Error, Outcome
from runtime.sockets import receive, send_at_once
from runtime.stopping import Stopping

H = TypeVar("H")
T = TypeVar("T")

Handler = Callable[[Any, Caller, Any], Coroutine[Any, Any, Any]]

READ_BYTES: Final = 64 * 1024
WATCH_TAKEN_S: Final = 30.0
"""How long one event of a watch may take to be taken by the peer."""


class Surface(Generic[H]):
    """The requests that one kind of socket serves, and the host that their handlers act on."""

    def __init__(
        self,
        routes: Iterable[Route[H]],
        host: H,
        *,
        canonical: bool = False,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self.routes = {route.request: route for route in routes}
        self._light: dict[Role, dict[type[Request], Handler]] = {}
        self.host = host
        self.codec = frames.RequestCodec(self.routes, canonical=canonical)
        self.frame_bytes_max = frame_bytes_max

    def light_for(self, role: Role) -> "dict[type[Request], Handler]":
        """The handlers of those requests that need no task (runtime.later), as far as this role may ask for them."""
        found = self._light.get(role)
        if found is None:
            routes = (
                route for route in self.routes.values() if role & route.callers and is_light(route.handler)
            )
            found = self._light[role] = {route.request: route.handler for route in routes}
        return found

    def route(self, request: Request, caller: Caller) -> Route[H]:
        """The role stage: Refused(denied) when this caller may not ask for it."""
        route = self.routes[type(request)]
        if not caller.role & route.callers:
            raise Refused(
                Problem.DENIED,
                f"{(caller.role.name or 'nobody').lower()} may not ask for {request.operation()}",
            )
        return route


class PeerLeft(Exception):
    """The peer went away, or does not take what it is told; nothing is left to say to it."""


class OutOfTurn(Refused):
    """The peer sent a second frame before the reply to the first; where frames begin is no longer known."""

    def __init__(self) -> None:
        super().__init__(Problem.MALFORMED, "a second frame was sent before the reply to the first")


class Session(Generic[H]):
    """Serves one accepted connection until the peer leaves, breaks the rules, or the process stops."""

    __slots__ = (
        "_caller",
        "_has_spoken",
        "_light",
        "_splitter",
        "_stopping",
        "_stream",
        "_surface",
        "_unbound_log",
        "_unsent",
        "unheard",
    )

    def __init__(
        self, stream: trio.abc.Stream, surface: Surface[H], caller: Caller, *, stopping: Stopping, log: Log
    ) -> None:
        self._stream = stream
        self._surface = surface
        self._caller = caller
        self._light = surface.light_for(caller.role)
        self._stopping = stopping
        self._unbound_log = log
        self._splitter = frames.Splitter(surface.frame_bytes_max)
        self._unsent = b""
        self._has_spoken = False
        self.unheard = b""
        """A light request that is left to the one who parks this."""

    @property
    def log(self) -> Log:
        caller = self._caller
        return self._unbound_log.bind(caller=caller.agent or (caller.role.name or "").lower(), uid=caller.uid)

    @property
    def is_stopping(self) -> bool:
        return bool(self._stopping)

    async def serve(self, *, parks: bool = False) -> bool:
        """Answer requests one after the other. Never raises for what the peer did.

        True when it may be parked until the next request (runtime.parked), which is done only where that is asked
        for; otherwise the connection is over and closed.
        """
        is_parked = False
        try:
            if self._unsent:
                unsent, self._unsent = self._unsent, b""
                await self._send(unsent)
            while not self._stopping:
                frame = await self._next_frame(math.inf if self._has_spoken else FIRST_FRAME_S)
                if frame is None:
                    return False
                self._has_spoken = True
                if parks and not self._splitter and self._is_light(frame):
                    self.unheard = frame + frames.END
                elif not await self._answer(frame):
                    return False
                if parks and self._light and not self._stopping:
                    is_parked = True
                    return True
        except PeerLeft as left:
            self.log.debug("the peer left", reason=str(left))
        except Refused as refused:
            await self._try_send(frames.encode_refusal(refused))
        finally:
            if not is_parked:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await self._stream.aclose()
        return False

    def resume(self, heard: bytes, unsent: bytes) -> None:
        """Take up what a parked session left: what it heard and cannot do itself, what the peer did not take yet."""
        self._splitter.feed(heard)
        self._unsent = unsent

    def _is_light(self, untrusted_frame: bytes) -> bool:
        asked = self.asked_lightly(untrusted_frame + frames.END)
        if asked is not None:
            asked[1].close()
        return asked is not None

    def asked_lightly(self, untrusted: bytes) -> tuple[Request, Coroutine[Any, Any, Any]] | None:
        """The one whole request that these bytes are, and the work of its handler; None unless it needs no task."""
        length = len(untrusted) - 1
        if untrusted.find(frames.END) != length or length > self._surface.frame_bytes_max:
            return None
        try:
            request = self._surface.codec.decode(untrusted[:length])
        except Refused:
            return None
        handler = self._light.get(type(request))
        return None if handler is None else (request, handler(request, self._caller, self._surface.host))

    def reply_to(self, request: Request, how: Outcome[Any]) -> bytes:
        """What is said when a request was done, refused, or met a defect."""
        if isinstance(how, Error):
            no = how.error if isinstance(how.error, Refused) else self._incident(request, how.error)
            return frames.encode_refusal(no)
        reply = frames.encode_ok(how.unwrap())
        return reply if len(reply) <= REPLY_BYTES_MAX else frames.encode_refusal(_too_long(reply))

    async def _next_frame(self, within_s: float) -> bytes | None:
        """The next frame; None when the peer left between two, or the process stops.

        A frame that has begun must be whole within FRAME_BODY_S: a byte now and then keeps no connection.
        """
        begun = bool(self._splitter)
        limit_s = FRAME_BODY_S if begun else within_s
        with self._stopping.ends() as scope:
            scope.deadline = trio.current_time() + limit_s
            while (frame := self._splitter.next_frame()) is None:
                data = await self._receive(READ_BYTES)
                if not data:
                    return None
                self._splitter.feed(data)
                if not begun:
                    begun, limit_s = True, FRAME_BODY_S
                    scope.deadline = trio.current_time() + limit_s
            return frame
        if self._stopping:
            return None
        raise Refused(Problem.MALFORMED, f"no whole frame within {limit_s:g} s")

    async def _answer(self, untrusted_frame: bytes) -> bool:
        """Do one request; False ends the connection."""
        try:
            request = self._surface.codec.decode(untrusted_frame)
            del untrusted_frame
            if self._splitter:
                raise OutOfTurn
        except Refused as refused:
            await self._send(frames.encode_refusal(refused))
            return False
        more = not isinstance(request, Watch)
        try:
            reply = await self._do(request)
        except Refused as refused:
            reply = frames.encode_refusal(refused)
            more = more and not isinstance(refused, OutOfTurn)
        except PeerLeft:
            raise
        except Exception as defect:
            reply = frames.encode_refusal(self._incident(request, defect))
        await self._send(reply)
        return more

    async def _do(self, request: Request) -> bytes:
        """The role stage, then the request itself; what is left to send."""
        route = self._surface.route(request, self._caller)
        if issubclass(route.request, Watch):
            return await self._watch(request, route)
        return await self._act(request, route)

    async def _act(self, request: Request, route: Route[H]) -> bytes:
        async def act() -> bytes:
            return frames.encode_ok(await route.handler(request, self._caller, self._surface.host))

        if request.waits:
            with self._stopping.ends() as scope:
                reply = await self._while_peer_stays(act)
            if scope.cancelled_caught:
                raise Refused(Problem.STOPPING, "the daemon is going down; ask again")
        else:
            reply = await act()
        if len(reply) > REPLY_BYTES_MAX:
            raise _too_long(reply)
        return reply

    async def _watch(self, request: Request, route: Route[H]) -> bytes:
        ended: list[PeerLeft | Refused] = []

        async def stream() -> None:
            opened: AbstractAsyncContextManager[AsyncIterator[Any]] = route.handler(
                request, self._caller, self._surface.host
            )
            async with opened as events:
                try:
                    await self._tell_all(events)
                except (
                    PeerLeft,
                    Refused,
                ) as end:  # kept from the handler: a nursery of its own would wrap it
                    ended.append(end)

        with self._stopping.ends() as scope:
            await self._while_peer_stays(stream)
        if ended:
            raise ended[0]
        if scope.cancelled_caught:
            raise Refused(Problem.STOPPING, "the daemon is going down; watch again from where you were")
        return b""

    async def _tell_all(self, events: AsyncIterator[Any]) -> None:
        try:
            await self._send(frames.encode_ok(None))
            async for event in events:
                await self._send(frames.encode_event(event), WATCH_TAKEN_S)
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def _while_peer_stays(self, act: Callable[[], Awaitable[T]]) -> T:
        """Run `act`, and give it up when the peer leaves (PeerLeft) or speaks out of turn (Refused)."""
        left: list[Exception] = []
        result: list[T] = []
        fault: list[Exception] = []

        async def listen(scope: trio.CancelScope) -> None:
            data = await self._receive(1)
            left.append(OutOfTurn() if data else PeerLeft("left while it waited"))
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, nursery.cancel_scope)
            try:
                result.append(await act())
            except Exception as error:
                fault.append(error)
            nursery.cancel_scope.cancel()
        if fault:
            raise fault[0]
        if result:
            return result[0]
        if left:
            raise left[0]
        raise PeerLeft("left while it waited")

    def _incident(self, request: Request, defect: BaseException) -> Refused:
        incident = new_key()[:12]
        self.log.error("a request met a defect", incident=incident, op=request.operation(), exc_info=defect)
        return Refused(Problem.INTERNAL, f"incident {incident}: see the daemon's log")

    async def _receive(self, bytes_max: int) -> bytes | bytearray:
        """What the peer says next; nothing when it left, however it left."""
        try:
            return await receive(self._stream, bytes_max)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _send(self, data: bytes, within_s: float = REPLY_TAKEN_S) -> None:
        """Raises PeerLeft when the peer is gone or does not take it in time."""
        rest = send_at_once(self._stream, data)
        if not rest:
            return
        with trio.move_on_after(within_s) as scope:
            try:
                await self._stream.send_all(rest)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise PeerLeft("left before its reply") from None
        if scope.cancelled_caught:
            self.log.info("the peer did not take its reply in time", within_s=within_s)
            raise PeerLeft("did not take its reply")

    async def _try_send(self, data: bytes) -> None:
        try:
            await self._send(data)
        except PeerLeft as left:
            self.log.debug("the peer left before its refusal", reason=str(left))


def _too_long(reply: bytes) -> Refused:
    return Refused(
        Problem.LIMIT, f"the reply has {len(reply)} bytes, at most {REPLY_BYTES_MAX}: ask for less"
    )
