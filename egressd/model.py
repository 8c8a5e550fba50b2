"""One connection at an agent's model socket: requests to the model API, passed on with the account's key.

Each request is checked (policy.passage), sent to the account's API over TLS (upstream) and its reply streamed back; a
request that is not passed on is answered here in the API's own error shape. One line in the log for each.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import trio

from egressd.accounts import Accounts, Live
from egressd.gate import Crowded, Gate
from egressd.passing import AgentLeft, Cut, Passing
from egressd.policy.answers import OVERLOADED, Answer, answer, on_the_wire
from egressd.policy.head import BadHead, Head, HeadReader, bad_request, parse_head
from egressd.policy.passage import MODEL_HEAD_BYTES_MAX, TARGET_CHARS_SHOWN, NotOffered, Passage, passage_of
from egressd.upstream import Busy, Fault, NoKey, Slow, Upstream
from protocol.egressd import Refusal
from protocol.limits import REPLY_TAKEN_S
from protocol.problem import Problem, Refused
from runtime.log import Log
from runtime.stopping import Stopping

HEAD_S: Final = 5.0
"""For a whole request head, from its first byte."""
KEPT_S: Final = 60.0
"""For the next request on a connection."""
READ_BYTES: Final = 16 * 1024
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True)
class ModelApis:
    """Every account of the hive: what is known of it, and its API."""

    accounts: Accounts
    upstreams: dict[str, Upstream]


class Rejected(Exception):
    """A request that is answered here; `why` is what watchers are told of it."""

    def __init__(self, given: Answer, reason: str, why: Refusal | None = None) -> None:
        super().__init__(reason)
        self.answer = given
        self.why = why


class ModelVisit:
    """One connection from its first byte to its last."""

    def __init__(self, stream: trio.SocketStream, gate: Gate, apis: ModelApis, log: Log) -> None:
        self._stream = stream
        self._gate = gate
        self._apis = apis
        self._log = log
        self._rest = b""

    async def serve(self, stopping: Stopping) -> None:
        """Answer requests until either side has had enough. Never raises for what the agent or the API did."""
        try:
            with self._gate.visited():
                while await self._exchange(stopping):
                    pass
        except Crowded as crowded:
            self._gate.note(Refusal.CONNECTIONS)
            self._gate.log_refusal(self._log, "model", status=OVERLOADED, reason=str(crowded))
            await self._say(answer(OVERLOADED, Problem.BUSY, f"{crowded}; close some", retries=True))
        except BadHead as bad:
            self._gate.log_refusal(self._log, "model", status=int(bad.status), reason=bad.reason)
            await self._turn_away(bad)
        except (AgentLeft, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._log.debug("the agent left its model socket", agent=self._gate.agent)

    async def _exchange(self, stopping: Stopping) -> bool:
        """One request and its reply; whether another may follow. Raises BadHead, AgentLeft."""
        raw = await self._next_head(stopping)
        if raw is None:
            await self._gate.take_turn()
            return False
        head = parse_head(raw)
        passing = Passing(self._stream, self._gate, raw + _END + self._rest)
        began_s = trio.current_time()
        reason = "cut short: egressd stopped, or the cage has no such socket any more"
        try:
            reason = await self._answer(head, passing)
        except AgentLeft:
            reason = "the agent left"
            raise
        finally:
            self._record(head, passing, reason, began_s)
        self._rest = passing.rest
        return passing.may_follow and not stopping

    async def _answer(self, head: Head, passing: Passing) -> str:
        """Pass the request on or refuse it; why it came to no good end, or nothing. Raises AgentLeft."""
        try:
            await self._pass_on(passage_of(head), passing)
        except NotOffered as fault:
            self._gate.note(Refusal.MODEL_PATH)
            await self._refuse(passing, answer(HTTPStatus.FORBIDDEN, Problem.DENIED, str(fault)))
            return str(fault)
        except Rejected as rejected:
            if rejected.why is not None:
                self._gate.note(rejected.why)
            await self._refuse(passing, rejected.answer)
            return str(rejected)
        except Cut as cut:
            if not passing.has_begun:
                await self._refuse(passing, self._used_up())
            return str(cut)
        except BadHead as bad:
            if passing.has_begun:
                return bad.reason
            passing.status = bad.status
            await self._turn_away(bad)
            return bad.reason
        return ""

    async def _refuse(self, passing: Passing, given: Answer) -> None:
        await self._gate.take_turn()
        await passing.refuse(given)

    async def _turn_away(self, bad: BadHead) -> None:
        """The end of a connection whose next bytes cannot be told apart any more."""
        self._gate.note(Refusal.MALFORMED, bad.authority)
        await self._say(answer(bad.status, bad.problem, bad.reason))

    async def _next_head(self, stopping: Stopping) -> bytes | None:
        """The next request's head; None when none comes. Raises BadHead."""
        reader = HeadReader(MODEL_HEAD_BYTES_MAX)
        untrusted: bytes | bytearray = self._rest
        deadline = trio.current_time() + HEAD_S
        with stopping.ends():
            if not untrusted:
                with trio.move_on_after(KEPT_S):
                    untrusted = await self._stream.receive_some(READ_BYTES)
                deadline = trio.current_time() + HEAD_S
            with trio.move_on_at(deadline):
                while untrusted:
                    raw = reader.feed(untrusted)
                    if raw is not None:
                        self._rest = reader.rest
                        return raw
                    untrusted = await self._stream.receive_some(READ_BYTES)
                return None
            raise bad_request(f"no whole request head within {HEAD_S:g} s", HTTPStatus.REQUEST_TIMEOUT)
        return None

    async def _pass_on(self, passage: Passage, passing: Passing) -> None:
        """Ask the API and stream its reply. Raises Rejected, Cut, BadHead, AgentLeft."""
        passing.accept()
        name = self._gate.account
        live, upstream = self._account(name)
        self._check_limits(name, live)
        try:
            key = upstream.key()
        except NoKey as no_key:
            live.unusable(str(no_key))
            text = f"account {name}: {no_key}"
            raise Rejected(answer(HTTPStatus.FORBIDDEN, Problem.FAILED, text), text) from None
        try:
            async with upstream.link(self._gate.links) as link:
                await passing.run(passage, upstream.site, key, link, live)
        except Fault as fault:
            if passing.has_begun:
                raise Cut(str(fault)) from None
            raise Rejected(_fault_answer(fault), str(fault)) from None

    def _account(self, name: str) -> tuple[Live, Upstream]:
        upstream = self._apis.upstreams.get(name)
        if upstream is None:
            known = ", ".join(sorted(self._apis.upstreams)) or "none at all"
            text = f"this hive has no model account {name}; there are: {known}"
            raise Rejected(answer(HTTPStatus.FORBIDDEN, Problem.NOT_FOUND, text), text)
        return self._apis.accounts[name], upstream

    def _check_limits(self, name: str, live: Live) -> None:
        if self._gate.wait_s():
            raise Rejected(self._used_up(), "the agent has used up its bytes of this hour", Refusal.VOLUME)
        wait_s = live.held_back_s()
        if wait_s:
            # The agent CLI, and the harness after it, know an end of a limit by these words.
            until_s = (live.known.limited_until_ms or 0) // 1000
            text = f"account {name}: usage limit reached|{until_s} {live.known.detail}".rstrip()
            given = answer(HTTPStatus.TOO_MANY_REQUESTS, Problem.LIMIT, text, again_s=wait_s)
            raise Rejected(given, f"account {name} is limited for {wait_s} s")

    def _used_up(self) -> Answer:
        text = f"{self._gate.agent} has used up its bytes of this hour"
        again_s = max(1, self._gate.wait_s())
        return answer(HTTPStatus.TOO_MANY_REQUESTS, Problem.LIMIT, text, again_s=again_s)

    async def _say(self, given: Answer) -> None:
        await self._gate.take_turn()
        with trio.move_on_after(REPLY_TAKEN_S):
            try:
                await self._stream.send_all(on_the_wire(given))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._log.debug("it left before it was told", agent=self._gate.agent)

    def _record(self, head: Head, passing: Passing, reason: str, began_s: float) -> None:
        fields = {
            "account": self._gate.account,
            "method": head.method,
            "path": head.target.partition("?")[0][:TARGET_CHARS_SHOWN],
            "status": int(passing.status),
            "bytes_out": passing.bytes_out,
            "bytes_in": passing.bytes_in,
            "ms": round((trio.current_time() - began_s) * 1000),
            "reason": reason,
        }
        if reason:
            self._gate.log_refusal(self._log, "model", **fields)
        else:
            self._log.info("model", agent=self._gate.agent, **fields)


def _fault_answer(fault: Fault) -> Answer:
    """How an API that could not be asked looks to the agent: worth another try."""
    match fault:
        case Busy():
            return answer(OVERLOADED, Problem.BUSY, str(fault), retries=True)
        case Slow():
            return answer(HTTPStatus.GATEWAY_TIMEOUT, Problem.FAILED, str(fault), retries=True)
        case _:
            return answer(HTTPStatus.BAD_GATEWAY, Problem.FAILED, str(fault), retries=True)


def model_refusal_at_the_door(refused: Refused) -> bytes:
    """How too many connections are answered."""
    return on_the_wire(answer(OVERLOADED, refused.problem, refused.detail, retries=True))
