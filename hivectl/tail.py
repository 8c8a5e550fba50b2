"""`hivectl tail [AGENT]`: what happens, as it happens; it goes on by itself after brokerd was away."""

import argparse
import sys

import trio

from hivectl import tables
from hivectl.events import concerns, line
from hivectl.progress import Absence
from protocol.brokerd import FeedEvent, MessageSent, Snapshot, TakeSnapshot, WatchFeed
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
    print(tables.document(event) if values.json else line(event), flush=True)
