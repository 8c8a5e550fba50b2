"""What a tool call does: it becomes a request of this agent at brokerd, and the reply becomes small JSON.

A tool with an effect works in a turn only. What an agent left running after a turn must not speak for it: nobody
would see in which turn, and the messages it pulled would belong to none.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct, field

from harness.mcp.answers import result_json
from harness.mcp.tools import REPEATED, ToolCard, cards_of
from harness.policy.budget import cut_chars
from protocol.limits import AGENT_CONNECTIONS_MAX, TURN_LABEL_CHARS_MAX, TURN_TEXT_CHARS_MAX
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole
from protocol.tools import Received, Tool
from protocol.turns import TurnEvent, Woken
from runtime.client import Client, Disconnected
from runtime.clock import new_request_key, now_ms

HASH_DIGITS: Final = 16
PATIENCE_S: Final = 30.0
"""How long a tool waits for a brokerd that is being restarted."""
CALLS_MAX: Final = AGENT_CONNECTIONS_MAX // 2
"""Calls at brokerd at once, each on a connection of its own; the turn loop needs some, whatever the agent asks for."""
OUTSIDE: Final = (
    "{tool} works only in a turn, and none is running: a program that outlives a turn may write a file "
    "that the agent reads in its next one, or the agent sets a reminder to look at it"
)


class Answer(Struct, frozen=True):
    """A tool's result as the model reads it."""

    text: str
    is_error: bool = False


class OpenTurn(Struct, frozen=True):
    """The running turn, as far as a tool needs it."""

    id: int
    delivery: int
    emit: Callable[[TurnEvent], None]
    done: dict[bytes, set[int]] = field(default_factory=dict)
    """Digests of what this turn asked for with a key of its words, each with the repetitions that were or are done."""


class Toolbox:
    """The tools of one agent. `turn` is set while a turn runs."""

    def __init__(self, broker: Client, role: AgentRole = AgentRole.AGENT) -> None:
        self.cards = cards_of(role)
        self._broker = broker
        self._room = trio.CapacityLimiter(CALLS_MAX)
        self.turn: OpenTurn | None = None

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Do one call. What goes wrong is an answer that says so, never an exception."""
        turn = self.turn
        try:
            request = _request(self.cards.get(name), name, arguments, turn)
            async with self._room:
                reply = await self._ask(request, turn)
        except Refused as refused:
            return Answer(f"{refused.problem}: {refused.detail}", is_error=True)
        except Disconnected:
            return Answer(f"{Problem.BUSY}: the hive's broker is away; try again in a minute", is_error=True)
        if turn is not None and isinstance(reply, Received):
            _note(reply, turn)
        return Answer(result_json(reply))

    async def _ask(self, request: Tool[Any], turn: OpenTurn | None) -> object:
        if turn is None or type(request) not in REPEATED:
            return await self._broker.call(request, patience_s=PATIENCE_S)
        with _keyed(request, turn) as keyed:
            return await self._broker.call(keyed, patience_s=PATIENCE_S)


def _request(
    card: ToolCard | None, name: str, arguments: Mapping[str, Any], turn: OpenTurn | None
) -> Tool[Any]:
    if card is None:
        raise Refused(Problem.NOT_FOUND, f"there is no tool {cut_chars(name, 60)!a}")
    if turn is None and not card.is_reading:
        raise Refused(Problem.CONFLICT, OUTSIDE.format(tool=name))
    _check_fixed(card, arguments)
    supplied = {each: _supplied(each, turn) for each in card.request.supplied}
    try:
        # Not strict: models write numbers as strings, and `"12"` can only mean 12.
        fields = {**arguments, **card.fixed, **supplied, "op": card.request.operation()}
        given: Tool[Any] = msgspec.convert(fields, card.request, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(Problem.MALFORMED, str(error)) from None
    return given


def _check_fixed(card: ToolCard, arguments: Mapping[str, Any]) -> None:
    for name, value in card.fixed.items():
        if arguments.get(name, value) != value:
            raise Refused(
                Problem.MALFORMED,
                f"{card.name} takes no {name!r}, it is always {value!r}: use {card.request.tool_name}",
            )


def _supplied(name: str, turn: OpenTurn | None) -> object:
    if name == "key":
        return new_request_key()
    if name == "turn" and turn is not None:
        return turn.id
    raise TypeError(f"the harness knows nothing to supply for {name!r}")


@contextmanager
def _keyed(given: Tool[Any], turn: OpenTurn) -> Iterator[Tool[Any]]:
    """The request under a key of the delivery and the words: a turn that comes again does not do it twice.

    The delivery's number comes first, so that the keys of a moment lie together where brokerd keeps them.
    The same words said twice are two requests, told apart by a number. One that failed gives its number back: said
    again, it is the same request, which may have been done without our hearing of it.
    """
    words = msgspec.to_builtins(given)
    del words["key"]
    said = sha256(msgspec.json.encode([turn.delivery, words], order="deterministic")).digest()
    taken = turn.done.setdefault(said, set())
    number = next(each for each in count(1) if each not in taken)
    taken.add(number)
    try:
        words_key = sha256(b"%d %s" % (number, said)).hexdigest()[:HASH_DIGITS]
        yield msgspec.structs.replace(given, key=f"{turn.delivery:016x}{words_key}")
    except BaseException:
        taken.discard(number)
        raise


def _note(reply: Received, turn: OpenTurn) -> None:
    """Messages pulled into the turn belong to its record, as the one that woke it does."""
    for message in reply.messages:
        sender = cut_chars(message.sender, TURN_LABEL_CHARS_MAX)
        text = cut_chars(message.body, TURN_TEXT_CHARS_MAX)
        turn.emit(Woken(0, now_ms(), message.id, sender, text))
