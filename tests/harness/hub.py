"""A broker for the harness's tests: the real request structs on real sockets, with memory instead of a disk.

It keeps what brokerd promises of a turn (lease, begin, end, redelivery, numbered events, idempotency keys) and can be
taken away and brought back, with what it knows, as a restarted brokerd would be.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Struct

from protocol import agent as wire
from protocol import tools
from protocol.limits import BROKER_FRAME_BYTES_MAX, LEASE_MS
from protocol.messages import DeliveryState, Message, Receipt, SystemEvent
from protocol.names import EVERYONE, OPERATOR
from protocol.problem import Problem, Refused
from protocol.questions import Question, QuestionState
from protocol.reminders import Cron, Every, Once, Reminder, ReminderRollup, ReminderState
from protocol.rpc import AGENTS, Caller, Role, Route
from protocol.settings import AgentRole, Runner
from protocol.turns import AnyTurnEvent
from runtime.clock import new_key, now_ms
from runtime.log import logger
from runtime.session import Session, Surface
from runtime.sockets import bind_unix
from runtime.stopping import Stopping

CONNECTION: ContextVar[trio.SocketStream] = ContextVar("CONNECTION")


class TurnRecord:
    """A turn as the hub keeps it."""

    def __init__(self, turn: int, agent: str, delivery: wire.Delivery) -> None:
        self.id = turn
        self.agent = agent
        self.delivery = delivery
        self.events: dict[int, AnyTurnEvent] = {}
        self.pulled: list[wire.Delivery] = []
        self.end: wire.EndTurn | None = None

    def kinds(self) -> list[str]:
        return [type(self.events[n]).__name__ for n in sorted(self.events)]

    def texts(self) -> str:
        return "\n".join(str(getattr(event, "text", "")) for event in self.events.values())


class Inbox:
    """One agent's deliveries."""

    def __init__(self) -> None:
        self.queued: deque[wire.Delivery] = deque()
        self.leased: wire.Delivery | None = None
        self.open: TurnRecord | None = None
        self.changed = trio.Event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Asked(Struct, frozen=True):
    """One request as it arrived."""

    agent: str
    request: Any


class Hub:
    """A small hive of agents and the operator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[Asked] = []
        self.inboxes: dict[str, Inbox] = {}
        self.turns: dict[int, TurnRecord] = {}
        self.messages: list[Message] = []
        self.by_key: dict[tuple[str, str], Any] = {}
        self.questions: dict[int, Question] = {}
        self.reminders: dict[int, Reminder] = {}
        self.skipped: list[wire.SkipDelivery] = []
        self.status: dict[str, str] = {}
        self.models: dict[str, str] = {}
        """What the operator chose for an agent's turns."""
        self.parked: dict[str, wire.ReportParked] = {}
        self.instances: dict[str, str] = {}
        self.health: list[tuple[str, wire.ReportHealth]] = []
        self.commands: dict[str, list[trio.MemorySendChannel[wire.AnyCommand]]] = defaultdict(list)
        self.refuse: Callable[[str, Any], Refused | None] = lambda agent, request: None
        """A test's own answer to a request."""
        self.lose_reply: Callable[[Any], bool] = lambda request: False
        """Whether the connection breaks after a request was done and before its reply."""
        self.forbidden: set[tuple[str, str]] = set()
        self._happened = trio.Event()
        self._ids = iter(range(1, 1_000_000))

    def socket(self, agent: str) -> Path:
        return self.folder / agent / "run/hive/broker/broker.sock"

    # The operator's side

    def write(
        self,
        to: str,
        body: str,
        *,
        sender: str = OPERATOR,
        in_reply_to: int | None = None,
        event: SystemEvent | None = None,
        about: int | None = None,
        only_if: str | None = None,
    ) -> Message:
        """Put a message into the inboxes of its recipients."""
        number = next(self._ids)
        thread = next((m.thread for m in self.messages if m.id == in_reply_to), number)
        message = Message(
            id=number,
            thread=thread,
            in_reply_to=in_reply_to,
            sender=sender,
            to=to,
            broadcast=to == EVERYONE,
            body=body,
            sent_ms=now_ms(),
            event=event,
            about=about,
        )
        self.messages.append(message)
        for name in [name for name in self.inboxes if name != sender] if to == EVERYONE else [to]:
            if name != OPERATOR:
                self.inboxes[name].queued.append(
                    wire.Delivery(next(self._ids), new_key(), 1, now_ms() + LEASE_MS, message, only_if)
                )
                self.inboxes[name].wake()
        return message

    def received(self, name: str = OPERATOR) -> list[Message]:
        return [message for message in self.messages if message.to == name]

    def ended(self, agent: str | None = None) -> list[TurnRecord]:
        return [turn for turn in self.turns.values() if turn.end and agent in {None, turn.agent}]

    def command(self, agent: str, command: wire.AnyCommand) -> None:
        for channel in self.commands[agent]:
            channel.send_nowait(command)

    async def sees(self, condition: Callable[[], object]) -> None:
        """Wait until a request makes *condition* true; the test's own deadline bounds it."""
        while not condition():
            await self._happened.wait()

    # Life

    @asynccontextmanager
    async def up(self, *agents: str) -> AsyncIterator[None]:
        """Serve the agents' sockets inside the block; leaving it drops every connection, as a killed brokerd would."""
        for name in agents:
            self.inboxes.setdefault(name, Inbox())
            self.socket(name).parent.mkdir(parents=True, exist_ok=True)
        async with trio.open_nursery() as nursery:
            for name in agents:
                listener = bind_unix(self.socket(name))
                nursery.start_soon(self._serve, name, listener)
            yield
            nursery.cancel_scope.cancel()
        self.commands.clear()
        for name in agents:
            self.socket(name).unlink()

    async def _serve(self, name: str, listener: trio.SocketListener) -> None:
        surface = Surface(self._routes(), self, frame_bytes_max=BROKER_FRAME_BYTES_MAX)
        caller = Caller(Role.AGENT, 0, name)

        async def connection(stream: trio.SocketStream) -> None:
            CONNECTION.set(stream)
            await Session(stream, surface, caller, stopping=Stopping(), log=logger("hub")).serve()

        await trio.serve_listeners(connection, [listener])

    def _routes(self) -> tuple[Route["Hub"], ...]:
        handlers: dict[Any, Any] = {
            wire.Attach: attach,
            wire.TakeDelivery: take_delivery,
            wire.ExtendLease: extend_lease,
            wire.ReleaseDelivery: release_delivery,
            wire.SkipDelivery: skip_delivery,
            wire.BeginTurn: begin_turn,
            wire.EndTurn: end_turn,
            wire.PublishEvents: publish_events,
            wire.ReportParked: report_parked,
            wire.ReportHealth: report_health,
            tools.Send: send,
            tools.Recv: recv,
            tools.ReadReceipt: read_receipt,
            tools.Ask: ask,
            tools.Answer: answer,
            tools.OpenThreads: open_threads,
            tools.Remind: remind,
            tools.ListReminders: list_reminders,
            tools.CancelReminder: cancel_reminder,
            tools.RollUpReminders: roll_up_reminders,
            tools.SetStatus: set_status,
            tools.WhoAmI: who_am_i,
            tools.ListAgents: list_agents,
        }
        calls = tuple(
            request.answered_by(self._observed(handler), callers=AGENTS)
            for request, handler in handlers.items()
        )
        return (*calls, wire.WatchCommands.answered_by(watch_commands, callers=AGENTS))

    def _observed(self, handler: Any) -> Any:
        async def observed(request: Any, caller: Caller, hub: "Hub") -> Any:
            agent = str(caller.agent)
            self.asked.append(Asked(agent, request))
            refused = self.refuse(agent, request)
            if refused is not None:
                raise refused
            reply = await handler(request, agent, hub)
            self._happened.set()
            self._happened = trio.Event()
            if self.lose_reply(request):
                await CONNECTION.get().aclose()
            return reply

        return observed


async def attach(request: wire.Attach, agent: str, hub: Hub) -> wire.Attached:
    inbox = hub.inboxes[agent]
    requeued = 0
    if hub.instances.get(agent) != request.instance and inbox.open is not None:
        inbox.queued.appendleft(_again(inbox.open.delivery))
        inbox.open = None
        requeued = 1
    hub.instances[agent] = request.instance
    return wire.Attached(agent, AgentRole.AGENT, requeued)


async def take_delivery(request: wire.TakeDelivery, agent: str, hub: Hub) -> wire.Taken:
    inbox = hub.inboxes[agent]
    with trio.move_on_after(request.wait_s):
        while not inbox.queued and inbox.leased is None:
            await inbox.changed.wait()
    if inbox.leased is None and inbox.queued:
        inbox.leased = inbox.queued.popleft()
    return wire.Taken(inbox.leased)


async def extend_lease(request: wire.ExtendLease, agent: str, hub: Hub) -> wire.Lease:
    return wire.Lease(now_ms() + LEASE_MS)


async def release_delivery(request: wire.ReleaseDelivery, agent: str, hub: Hub) -> None:
    inbox = hub.inboxes[agent]
    if inbox.leased is None or inbox.leased.token != request.token:
        raise Refused(Problem.CONFLICT, "not leased")
    inbox.queued.appendleft(inbox.leased)
    inbox.leased = None


async def begin_turn(request: wire.BeginTurn, agent: str, hub: Hub) -> wire.TurnBegun:
    inbox = hub.inboxes[agent]
    if inbox.open is not None and inbox.open.delivery.token == request.token:
        return wire.TurnBegun(inbox.open.id)
    if inbox.leased is None or inbox.leased.token != request.token:
        raise Refused(Problem.CONFLICT, "the lease was lost")
    inbox.open = TurnRecord(next(hub._ids), agent, inbox.leased)
    hub.turns[inbox.open.id] = inbox.open
    inbox.leased = None
    return wire.TurnBegun(inbox.open.id, hub.models.get(agent))


async def end_turn(request: wire.EndTurn, agent: str, hub: Hub) -> wire.TurnClosed:
    inbox = hub.inboxes[agent]
    turn = hub.turns[request.turn]
    if turn.end is None:
        turn.end = request
        inbox.open = None
        if request.outcome not in {"done", "cancelled", "max_turns", "budget"}:
            for delivery in reversed([turn.delivery, *turn.pulled]):
                inbox.queued.appendleft(_again(delivery))
            inbox.wake()
    return wire.TurnClosed(1, 0, 0)


async def publish_events(request: wire.PublishEvents, agent: str, hub: Hub) -> None:
    turn = hub.turns[request.turn]
    if turn.end is not None:
        raise Refused(Problem.CONFLICT, "the turn is over")
    for event in request.events:
        known = turn.events.setdefault(event.n, event)
        if known != event or event.n > len(turn.events) - 1:
            raise AssertionError(f"event {event.n} has another content or leaves a hole")


async def report_parked(request: wire.ReportParked, agent: str, hub: Hub) -> None:
    hub.parked[agent] = request


async def report_health(request: wire.ReportHealth, agent: str, hub: Hub) -> None:
    hub.health.append((agent, request))


@asynccontextmanager
async def watch_commands(
    request: wire.WatchCommands, caller: Caller, hub: Hub
) -> AsyncIterator[AsyncIterator[wire.AnyCommand]]:
    sender, receiver = trio.open_memory_channel[wire.AnyCommand](16)
    hub.commands[str(caller.agent)].append(sender)
    yield receiver


async def send(request: tools.Send, agent: str, hub: Hub) -> tools.Sent:
    known = hub.by_key.get((agent, request.key))
    if isinstance(known, tools.Sent):
        return known
    if (agent, request.to) in hub.forbidden:
        raise Refused(Problem.DENIED, f"{agent} may not write to {request.to}")
    if request.to not in {*hub.inboxes, OPERATOR, EVERYONE}:
        raise Refused(Problem.NOT_FOUND, f"there is no agent {request.to}")
    message = hub.write(request.to, request.body, sender=agent, in_reply_to=request.in_reply_to)
    sent = tools.Sent(message.id, message.thread, (request.to,), message.id)
    hub.by_key[agent, request.key] = sent
    return sent


async def recv(request: tools.Recv, agent: str, hub: Hub) -> tools.Received:
    inbox = hub.inboxes[agent]
    with trio.move_on_after(request.wait_s):
        while not inbox.queued:
            await inbox.changed.wait()
    taken = [inbox.queued.popleft() for _ in range(min(request.limit, len(inbox.queued)))]
    hub.turns[request.turn].pulled += taken
    return tools.Received(tuple(delivery.message for delivery in taken))


async def skip_delivery(request: wire.SkipDelivery, agent: str, hub: Hub) -> None:
    inbox = hub.inboxes[agent]
    if inbox.leased is None or inbox.leased.token != request.token:
        raise Refused(Problem.CONFLICT, "not leased")
    inbox.leased = None
    hub.skipped.append(request)


async def read_receipt(request: tools.ReadReceipt, agent: str, hub: Hub) -> Message:
    found = next((message for message in hub.messages if message.id == request.message), None)
    if found is None or found.sender != agent:
        raise Refused(Problem.NOT_FOUND, f"you sent no message {request.message}")
    receipt = Receipt(1, found.id, found.to, DeliveryState.DONE, 7, 2, found.sent_ms)
    return msgspec.structs.replace(found, deliveries=(receipt,))


async def ask(request: tools.Ask, agent: str, hub: Hub) -> Question:
    known = hub.by_key.get((agent, request.key))
    if isinstance(known, Question):
        return known
    ttl_ms = None if request.ttl_s is None else now_ms() + request.ttl_s * 1000
    question = Question(
        next(hub._ids),
        agent,
        request.to,
        request.question,
        request.options,
        request.multi,
        QuestionState.OPEN,
        now_ms(),
        ttl_ms,
    )
    hub.questions[question.id] = hub.by_key[agent, request.key] = question
    if request.to != OPERATOR:
        hub.write(request.to, request.question, sender=agent, event=SystemEvent.QUESTION, about=question.id)
    return question


async def answer(request: tools.Answer, agent: str, hub: Hub) -> Question:
    question = hub.questions.get(request.question)
    if question is None or question.asked_of != agent:
        raise Refused(Problem.NOT_FOUND, f"no question {request.question} was asked of {agent}")
    answered = msgspec.structs.replace(
        question,
        state=QuestionState.ANSWERED,
        answer=request.answer,
        choices=request.choices,
        answered_by=agent,
    )
    hub.questions[question.id] = answered
    words = " ".join([*request.choices, request.answer]).strip()
    hub.write(question.asker, words, sender=agent, event=SystemEvent.ANSWERED, about=question.id)
    return answered


async def open_threads(request: tools.OpenThreads, agent: str, hub: Hub) -> tools.OpenMatters:
    mine = tuple(each for each in hub.questions.values() if agent in {each.asker, each.asked_of})
    return tools.OpenMatters((), tuple(each for each in mine if each.state is QuestionState.OPEN))


async def remind(request: tools.Remind, agent: str, hub: Hub) -> Reminder:
    known = hub.by_key.get((agent, request.key))
    if isinstance(known, Reminder):
        return known
    when: Once | Every | Cron
    if request.cron is not None:
        when = Cron(request.cron, request.zone)
    elif request.every_s is not None:
        when = Every(request.every_s, now_ms())
    elif request.in_s is not None:
        when = Once(now_ms() + request.in_s * 1000)
    else:
        raise Refused(Problem.MALFORMED, "give one of in_s, at, every_s and cron")
    reminder = Reminder(
        next(hub._ids),
        request.agent or agent,
        agent,
        request.text,
        when,
        ReminderState.ACTIVE,
        now_ms(),
        request.only_if,
        now_ms(),
    )
    hub.reminders[reminder.id] = hub.by_key[agent, request.key] = reminder
    return reminder


async def list_reminders(request: tools.ListReminders, agent: str, hub: Hub) -> tools.ReminderPage:
    return tools.ReminderPage(tuple(each for each in hub.reminders.values() if each.agent == agent))


async def cancel_reminder(request: tools.CancelReminder, agent: str, hub: Hub) -> Reminder:
    reminder = hub.reminders.pop(request.reminder, None)
    if reminder is None:
        raise Refused(Problem.NOT_FOUND, f"{agent} has no reminder {request.reminder}")
    return msgspec.structs.replace(reminder, state=ReminderState.CANCELLED, next_ms=None)


async def roll_up_reminders(request: tools.RollUpReminders, agent: str, hub: Hub) -> ReminderRollup:
    return ReminderRollup(now_ms() - request.since_s * 1000, 3, 2, 1, 0, len(hub.reminders))


async def set_status(request: tools.SetStatus, agent: str, hub: Hub) -> None:
    hub.status[agent] = request.text


async def who_am_i(request: tools.WhoAmI, agent: str, hub: Hub) -> tools.Identity:
    return tools.Identity(agent, AgentRole.AGENT, Runner.DEMO, "demo", None)


async def list_agents(request: tools.ListAgents, agent: str, hub: Hub) -> tuple[tools.AgentCard, ...]:
    return tuple(
        tools.AgentCard(name, AgentRole.AGENT, "idle", hub.status.get(name, "")) for name in hub.inboxes
    )


def _again(delivery: wire.Delivery) -> wire.Delivery:
    attempt, until_ms = delivery.attempt + 1, now_ms() + LEASE_MS
    return wire.Delivery(delivery.id, new_key(), attempt, until_ms, delivery.message, delivery.only_if)
