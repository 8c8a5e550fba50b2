"""What a tool call does: it becomes a request of this agent at brokerd, and the reply becomes small JSON."""

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from harness.mcp.tools import CARDS
from harness.policy.budget import cut_chars
from protocol.limits import TURN_LABEL_CHARS_MAX, TURN_TEXT_CHARS_MAX
from protocol.problem import Problem, Refused
from protocol.tools import Received, Send, Tool
from protocol.turns import TurnEvent, Woken
from runtime.client import Client, Disconnected
from runtime.clock import new_key, now_ms

KEY_DIGITS: Final = 32
PATIENCE_S: Final = 30.0
"""How long a tool waits for a brokerd that is being restarted."""


class Answer(Struct, frozen=True):
    """A tool's result as the model reads it."""

    text: str
    is_error: bool = False


class OpenTurn(Struct, frozen=True):
    """The running turn, as far as a tool needs it."""

    id: int
    delivery: int
    emit: Callable[[TurnEvent], None]
    sent: Counter[bytes]
    """How often this turn sent the same words."""


class Toolbox:
    """The tools of one agent. `turn` is set while a turn runs."""

    def __init__(self, broker: Client) -> None:
        self._broker = broker
        self.turn: OpenTurn | None = None

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Do one call. What goes wrong is an answer that says so, never an exception."""
        try:
            reply = await self._ask(name, arguments)
        except Refused as refused:
            return Answer(f"{refused.problem}: {refused.detail}", is_error=True)
        except Disconnected:
            return Answer(f"{Problem.BUSY}: the hive's broker is away; try again in a minute", is_error=True)
        self._note(reply)
        return Answer(result_json(reply))

    async def _ask(self, name: str, arguments: Mapping[str, Any]) -> object:
        card = CARDS.get(name)
        if card is None:
            raise Refused(Problem.NOT_FOUND, f"there is no tool {cut_chars(name, 60)!a}")
        supplied = {field: self._supply(field, card.request, arguments) for field in card.request.supplied}
        try:
            # Not strict: models write numbers as strings, and `"12"` can only mean 12.
            fields = {**arguments, **supplied, "op": card.request.operation()}
            given = msgspec.convert(fields, card.request, strict=False)
        except msgspec.ValidationError as error:
            raise Refused(Problem.MALFORMED, str(error)) from None
        reply: object = await self._broker.call(given, patience_s=PATIENCE_S)
        return reply

    def _supply(self, field: str, request: type[Tool[Any]], arguments: Mapping[str, Any]) -> object:
        if field == "key":
            return self._send_key(self.turn, arguments) if request is Send and self.turn else new_key()
        if field == "turn":
            if self.turn is None:
                raise Refused(Problem.CONFLICT, "no turn is running")
            return self.turn.id
        raise TypeError(f"the harness knows nothing to supply for {field!r}")

    def _send_key(self, turn: OpenTurn, arguments: Mapping[str, Any]) -> str:
        """A key of the delivery and the words: a turn that comes again and repeats them does not send twice."""
        said = msgspec.json.encode([turn.delivery, arguments], order="deterministic")
        turn.sent[said] += 1
        return sha256(b"%d %s" % (turn.sent[said], said)).hexdigest()[:KEY_DIGITS]

    def _note(self, reply: object) -> None:
        """Messages pulled into the turn belong to its record, as the one that woke it does."""
        if self.turn is None or not isinstance(reply, Received):
            return
        for message in reply.messages:
            sender = cut_chars(message.sender, TURN_LABEL_CHARS_MAX)
            text = cut_chars(message.body, TURN_TEXT_CHARS_MAX)
            self.turn.emit(Woken(0, now_ms(), message.id, sender, text))


class Pulled(Struct, frozen=True, omit_defaults=True):
    """A message as `recv` shows it: what the agent needs, without the fate of its deliveries."""

    id: int
    thread: int
    sender: str
    body: str
    in_reply_to: int | None = None
    broadcast: bool = False


def result_json(reply: object) -> str:
    """A reply as small JSON. Bodies stay inside JSON strings, so none can pass for the frame around it."""
    if isinstance(reply, Received):
        pulled = [
            Pulled(each.id, each.thread, each.sender, each.body, each.in_reply_to, each.broadcast)
            for each in reply.messages
        ]
        return msgspec.json.encode({"messages": pulled}).decode()
    return msgspec.json.encode({"ok": True} if reply is None else reply).decode()
