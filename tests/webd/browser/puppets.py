"""Agents without a running cage whose harness is the test: what real ones need minutes for takes no time."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from protocol.agent import Attach, BeginTurn, Delivery, EndTurn, TakeDelivery
from protocol.privd import DestroyCage, PurgeAgent, StopCage
from protocol.rpc import Call
from protocol.settings import Runner
from protocol.tools import Send, Sent
from protocol.turns import Outcome
from runtime.client import Client
from runtime.clock import new_key
from tests.support.hive import RunningHive
from tests.support.spawning import ended, spawn

TAKE_S = 10
ATTACH_S = 10.0
T = TypeVar("T")
R = TypeVar("R")


class Puppet:
    """One such agent. `run` is given a client of its broker socket."""

    def __init__(self, name: str, harness_uid: int, door: Path) -> None:
        self.name = name
        self._harness_uid = harness_uid
        self._door = door

    def run(self, play: Callable[[Client], Awaitable[T]]) -> T:
        """Play the harness for a while, under its uid: nobody else may come by that socket."""

        async def played() -> T:
            async with Client(self._door) as client:
                return await play(client)

        with self._as_harness():
            return trio.run(played)

    def call(self, request: Call[R]) -> R:
        async def once(client: Client) -> R:
            return await client.call(request, patience_s=ATTACH_S)

        return self.run(once)

    def attach(self) -> None:
        self.call(Attach(instance=new_key(), version="test"))

    def takes_all(self, count: int) -> None:
        """A whole turn for each of the next so many deliveries."""

        async def turns(client: Client) -> None:
            for _ in range(count):
                delivery = await taken(client)
                turn = (await client.call(BeginTurn(delivery.id, delivery.token))).turn
                await client.call(EndTurn(turn, Outcome.DONE))

        self.run(turns)

    def drain(self) -> None:
        """Read whatever mail is left, so that none of it is dead when the agent goes."""

        async def turns(client: Client) -> None:
            while (delivery := (await client.call(TakeDelivery(wait_s=0))).delivery) is not None:
                turn = (await client.call(BeginTurn(delivery.id, delivery.token))).turn
                await client.call(EndTurn(turn, Outcome.DONE))

        self.run(turns)

    def passes_on(self, to: str, body: str) -> Sent:
        """Take the next delivery, and write to somebody in its turn."""

        async def turn(client: Client) -> Sent:
            delivery = await taken(client)
            turn = (await client.call(BeginTurn(delivery.id, delivery.token))).turn
            sent = await client.call(Send(to=to, body=body, key=new_key()))
            await client.call(EndTurn(turn, Outcome.DONE))
            return sent

        return self.run(turn)

    @contextmanager
    def _as_harness(self) -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        gid = self._door.parent.stat().st_gid
        os.setegid(gid)
        os.seteuid(self._harness_uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)


async def spawned(hive: RunningHive, name: str) -> None:
    """An agent whose own harness is about to make room for the test."""
    async with Client(hive.socket("privd")) as privd:
        await ended(privd, await spawn(privd, name, runner=Runner.DEMO))


async def taken(client: Client) -> Delivery:
    delivery = (await client.call(TakeDelivery(wait_s=TAKE_S))).delivery
    assert delivery is not None, "nothing was delivered"
    return delivery


@contextmanager
def puppet(hive: RunningHive, ask: Callable[[str, Call[Any]], Any], name: str) -> Iterator[Puppet]:
    """A puppet that is there for one test; nothing of it is kept."""
    trio.run(spawned, hive, name)
    cage = ask("privd", StopCage(agent=name))
    made = Puppet(name, cage.harness_uid, hive.places.run / "agents" / name / "broker" / "broker.sock")
    try:
        made.attach()
        yield made
    finally:
        made.drain()
        ask("privd", DestroyCage(agent=name))
        ask("privd", PurgeAgent(agent=name, confirm=name))
