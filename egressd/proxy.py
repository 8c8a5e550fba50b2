"""One connection at an agent's egress socket: head → scope → address → tunnel, and one line in the log.

A refusal is an HTTP answer with a line of text and our problem code in `X-Hive-Problem`.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Final

import trio

from egressd.connect import LeadsInside, Unreachable, connect
from egressd.gate import Crowded, Gate
from egressd.policy.head import BadHead, HeadReader, parse_connect
from egressd.policy.target import Target
from egressd.tunnel import Ended, Tunnel
from protocol.egressd import Refusal
from protocol.limits import REPLY_TAKEN_S
from protocol.problem import Problem, Refused
from runtime.log import Log
from runtime.stopping import Stopping

HEAD_S: Final = 5.0
"""For the whole request head, from the moment of the connection."""
READ_BYTES: Final = 4 * 1024
ESTABLISHED: Final = b"HTTP/1.1 200 Connection Established\r\n\r\n"


class Verdict(StrEnum):
    """What became of one connection; a word of the log."""

    CONNECTED = "connected"
    DENIED = "denied"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"
    LIMITED = "limited"
    """The agent has as many connections, or moved as many bytes, as it may."""
    LEFT = "left"
    """The agent went away, or egressd stopped, before there was an answer."""


class Turned(Exception):
    """A refusal on its way to the agent; `why` is what watchers are told of it."""

    def __init__(
        self, verdict: Verdict, status: int, problem: Problem, text: str, *, why: Refusal | None = None
    ) -> None:
        super().__init__(text)
        self.why = why
        self.verdict = verdict
        self.status = status
        self.problem = problem
        self.text = text


class Visit:
    """One connection from its first byte to its line in the log."""

    def __init__(self, stream: trio.SocketStream, gate: Gate, log: Log) -> None:
        self._stream = stream
        self._gate = gate
        self._log = log
        self._began = trio.current_time()
        self._target: Target | None = None
        self._authority = ""
        """What stood in the target's place, when it was none."""
        self._tunnel: Tunnel | None = None
        self._verdict = Verdict.LEFT
        self._reason = ""

    async def serve(self, stopping: Stopping) -> None:
        """Answer one request. Never raises for what the agent or the host did."""
        try:
            with self._gate.visited():
                await self._converse(stopping)
        except Crowded as crowded:
            self._verdict, self._reason = Verdict.LIMITED, str(crowded)
            self._note(Refusal.CONNECTIONS)
            text = f"egress: {crowded}; close some"
            await self._tell(refusal(HTTPStatus.SERVICE_UNAVAILABLE, Problem.BUSY, text))
        except Turned as turned:
            self._verdict, self._reason = turned.verdict, turned.text
            self._note(turned.why)
            await self._tell(refusal(turned.status, turned.problem, turned.text))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._reason = "the agent went away"
            if self._tunnel is None:
                await self._gate.take_turn()
        finally:
            self._record()

    async def _converse(self, stopping: Stopping) -> None:
        reached = await self._prepare(stopping)
        if reached is None:
            self._reason = "egressd stopped"
            return
        target, host_side, first = reached
        async with host_side:
            gate = self._gate
            self._tunnel = Tunnel(self._stream, host_side, gate.may_send, gate.may_fetch)
            with gate.holds(target, self._tunnel):
                await self._send(ESTABLISHED)
                self._verdict = Verdict.CONNECTED
                await self._tunnel.run(first, stopping)
            if self._tunnel.ended is Ended.VOLUME:
                self._note(Refusal.VOLUME)

    async def _prepare(self, stopping: Stopping) -> tuple[Target, trio.SocketStream, bytes] | None:
        """Where to, the connection there, and what it is told first; None when egressd stops meanwhile."""
        reached: tuple[Target, trio.SocketStream, bytes] | None = None
        with stopping.ends():
            self._target, first = await self._read_request()
            stream = await self._reach(self._target)
            reached = self._target, stream, first
        return reached  # noqa: RET504 — stays None when the scope is cancelled

    async def _read_request(self) -> tuple[Target, bytes]:
        """The target, and the bytes that came behind the head."""
        reader = HeadReader()
        head: bytes | None = None
        try:
            with trio.move_on_after(HEAD_S):
                while head is None:
                    untrusted = await self._stream.receive_some(READ_BYTES)
                    if not untrusted:
                        raise trio.BrokenResourceError("left before its request was whole")
                    head = reader.feed(untrusted)
            if head is None:
                raise BadHead(
                    HTTPStatus.REQUEST_TIMEOUT,
                    Problem.MALFORMED,
                    f"no whole request head within {HEAD_S:g} s",
                )
            return parse_connect(head), reader.rest
        except BadHead as bad:
            self._authority = bad.authority
            text = f"egress: {bad.reason}"
            raise Turned(Verdict.MALFORMED, bad.status, bad.problem, text, why=Refusal.MALFORMED) from None

    async def _reach(self, target: Target) -> trio.SocketStream:
        gate = self._gate
        if not gate.admits(target):
            raise self._denied(target)
        wait_s = gate.wait_s()
        if wait_s:
            text = f"egress: {gate.agent} has used up its bytes of this hour; again in {wait_s} s"
            raise Turned(
                Verdict.LIMITED, HTTPStatus.TOO_MANY_REQUESTS, Problem.LIMIT, text, why=Refusal.VOLUME
            )
        try:
            stream = await connect(target, judged=target not in gate.private, lookups=gate.lookups)
        except LeadsInside as inside:
            raise self._denied(target, f": its address is {inside}", Refusal.LEADS_INSIDE) from None
        except Unreachable as fault:
            text = f"egress: {target} cannot be reached: {fault}"
            raise Turned(Verdict.UNREACHABLE, HTTPStatus.BAD_GATEWAY, Problem.FAILED, text) from None
        if not gate.admits(target):  # the settings changed meanwhile
            await trio.aclose_forcefully(stream)
            raise self._denied(target)
        return stream

    def _denied(self, target: Target, detail: str = "", why: Refusal = Refusal.NOT_ALLOWED) -> Turned:
        text = f"egress: {self._gate.agent} may not connect to {target}{detail}"
        return Turned(Verdict.DENIED, HTTPStatus.FORBIDDEN, Problem.DENIED, text, why=why)

    def _note(self, why: Refusal | None) -> None:
        if why is None:
            return
        target = self._target
        self._gate.note(why, target.host if target else self._authority, target.port if target else 0)

    async def _tell(self, text: bytes) -> None:
        await self._gate.take_turn()
        try:
            await self._send(text)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._reason += " (it left before it was told)"

    async def _send(self, data: bytes) -> None:
        with trio.fail_after(REPLY_TAKEN_S):
            await self._stream.send_all(data)

    def _record(self) -> None:
        tunnel, target = self._tunnel, self._target
        fields = {
            "host": target.host if target else None,
            "port": target.port if target else None,
            "verdict": self._verdict,
            "ended": tunnel.ended if tunnel else None,
            "bytes_out": tunnel.bytes_out if tunnel else 0,
            "bytes_in": tunnel.bytes_in if tunnel else 0,
            "ms": round((trio.current_time() - self._began) * 1000),
            "reason": self._reason,
        }
        if self._verdict is Verdict.CONNECTED:
            self._log.info("egress", agent=self._gate.agent, **fields)
        else:
            self._gate.log_refusal(self._log, "egress", **fields)


def refusal(status: int, problem: Problem, text: str) -> bytes:
    """A whole HTTP answer; the connection ends with it."""
    body = f"{text}\n".encode("ascii", "backslashreplace")
    allow = "Allow: CONNECT\r\n" if status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: text/plain; charset=us-ascii\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{allow}X-Hive-Problem: {problem}\r\n\r\n"
    )
    return head.encode("ascii") + body


def refusal_at_the_door(refused: Refused) -> bytes:
    """How too many connections are answered."""
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, refused.problem, f"egress: {refused.detail}")
