"""`hivectl tail [AGENT]`: what happens, as it happens; it goes on by itself after brokerd was away."""

import argparse
import sys

import trio

from hivectl import tables
from hivectl.progress import Absence
from protocol.brokerd import (
    AgentChanged,
    AgentGone,
    DeliveryChanged,
    FeedEvent,
    MessageSent,
    QuestionChanged,
    ReminderChanged,
    Snapshot,
    TakeSnapshot,
    ThreadParked,
    ThreadReleased,
    TurnChanged,
    TurnEventAdded,
    WatchFeed,
)
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Problem, Refused
from runtime.backoff import delays
from runtime.client import Client, Disconnected

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("tail", help="follow messages and turns as they happen")
    child.add_argument("agent", nargs="?", help="only this agent")
    child.add_argument("--messages", action="store_true", help="messages only")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    """Follow the feed for ever, resuming where it broke off."""
    async with Client(values.places.socket("brokerd")) as client:
        snapshot = await client.call(TakeSnapshot(), patience_s=5)
        _check(values.agent, snapshot)
        epoch, seq = snapshot.epoch, snapshot.seq
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        absence = Absence("brokerd")
        while True:
            try:
                async with client.watch(WatchFeed(epoch=epoch, since=seq)) as events:
                    absence.ends()
                    async for event in events:
                        seq = event.seq
                        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
                        _show(event, values)
            except Disconnected as fault:
                absence.begins(fault)
            except Refused as refused:
                if refused.problem is Problem.NOT_FOUND:
                    snapshot = await client.call(TakeSnapshot(), patience_s=5)
                    epoch, seq = snapshot.epoch, snapshot.seq
                    print("… some events were missed", file=sys.stderr)
                elif refused.problem not in (Problem.STOPPING, Problem.LIMIT, Problem.BUSY):
                    raise
            await trio.sleep(next(waits))


def _check(agent: str | None, snapshot: Snapshot) -> None:
    """Refuse a name that nothing will ever happen to."""
    known = sorted(row.agent.name for row in snapshot.agents)
    if agent is not None and agent not in {OPERATOR, SYSTEM, *known}:
        there = ", ".join(known) or "no agent at all"
        raise Refused(Problem.NOT_FOUND, f"there is no agent {agent}; there are: {there}")


def _show(event: FeedEvent, values: argparse.Namespace) -> None:
    if values.agent and values.agent not in concerns(event):
        return
    if values.messages and not isinstance(event.body, MessageSent):
        return
    text = tables.document(event) if values.json else line(event)
    if text:
        print(text, flush=True)


def concerns(event: FeedEvent) -> frozenset[str]:
    """The agents that an event is about."""
    match event.body:
        case MessageSent(message=message):
            return frozenset({message.sender, *(delivery.recipient for delivery in message.deliveries)})
        case DeliveryChanged(delivery=delivery):
            return frozenset({delivery.recipient})
        case TurnChanged(turn=turn):
            return frozenset({turn.agent})
        case TurnEventAdded(agent=agent):
            return frozenset({agent})
        case AgentChanged(agent=row):
            return frozenset({row.name})
        case AgentGone(name=name):
            return frozenset({name})
        case QuestionChanged(question=question):
            return frozenset({question.asker, question.asked_of})
        case ReminderChanged(reminder=reminder):
            return frozenset({reminder.agent})
        case ThreadParked(parked=parked):
            return frozenset(parked.agents)
        case ThreadReleased():
            return frozenset()


def line(event: FeedEvent) -> str:
    """One event as one line for people; empty when it says nothing new."""
    at = tables.clock(event.at_ms)
    match event.body:
        case MessageSent(message=message):
            return tables.message_line(message)
        case DeliveryChanged(delivery=delivery):
            turn = f" (turn {delivery.turn})" if delivery.turn else ""
            return f"{at}  #{delivery.message} at {delivery.recipient}: {tables.worded(delivery.state)}{turn}"
        case TurnChanged(turn=turn):
            if turn.outcome is None:
                return f"{at}  {turn.agent}: turn {turn.id} began, woken by {tables.printable(turn.woke_by)}"
            return (
                f"{at}  {turn.agent}: turn {turn.id} {tables.worded(turn.outcome)} "
                f"{tables.printable(turn.detail)}".rstrip()
            )
        case TurnEventAdded(agent=agent, event=added):
            return f"{at}  {agent}  {tables.event_line(added)}"
        case AgentChanged(agent=row):
            return f"{at}  {row.name} is {row.activity}" + (
                f": {tables.printable(row.status)}" if row.status else ""
            )
        case AgentGone(name=name):
            return f"{at}  {name} is gone"
        case QuestionChanged(question=question):
            return (
                f"{at}  {question.asker} asked {question.asked_of}, question {question.id}, {question.state}: "
                f"{tables.printable(question.text)}"
            )
        case ReminderChanged(reminder=reminder):
            return f"{at}  {reminder.agent}: reminder {reminder.id} is {reminder.state}"
        case ThreadParked(parked=parked):
            return (
                f"{at}  thread {parked.thread} of {' and '.join(parked.agents)} is parked: {parked.held} held"
            )
        case ThreadReleased(thread=thread):
            return f"{at}  thread {thread} goes on"
