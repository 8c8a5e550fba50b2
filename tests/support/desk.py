"""A real harness as a process, before a real broker in this one, with a wire between them that a test can hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from brokerd.policy.guards import Guards
from protocol.brokerd import ReadTail, TurnWithEvents
from protocol.messages import DeliveryState, Message, SystemEvent
from protocol.names import MANAGER_NAME
from protocol.privd import CageRebuilt
from protocol.settings import AgentRole, AgentSettings
from protocol.turns import Turn
from runtime.clock import now_ms
from tests.brokerd.hive import UNHURRIED, Hive, Privd
from tests.brokerd.hive import cage as known_cage
from tests.harness.cage import Cage, cage
from tests.support.relay import Relay
from tests.support.waiting import until


class Desk:
    """One agent's harness, which can be killed and started again, before a broker that is real."""

    def __init__(self, hive: Hive, agent: str) -> None:
        self.hive = hive
        self.agent = agent
        role = AgentRole.MANAGER if agent == MANAGER_NAME else AgentRole.AGENT
        self._settings = AgentSettings(agent, role=role)
        self._cages = hive.folder / "c"
        self._started = 0
        self.relay = Relay(
            self._cages / agent / "run/hive/broker/broker.sock", hive.settings.agent_socket(agent)
        )

    @asynccontextmanager
    async def harness(self) -> AsyncIterator[Cage]:
        self._started += 1
        async with cage(self._cages, self._settings) as running:
            await until(
                lambda: running.log().count("attached to brokerd") >= self._started,
                what="the harness to attach",
            )
            yield running

    async def rebuilt(self) -> Message:
        """Have the hive say that the cage was rebuilt, and find the message."""
        self.hive.privd.events.publish(CageRebuilt(self.agent, now_ms()))
        return await until(self._rebuilt, what="the message about it")

    async def _rebuilt(self) -> Message | None:
        return next((each for each in await self.hive.messages() if is_rebuilt(each, self.agent)), None)

    async def is_done(self, message: int) -> bool:
        """Whether the one delivery of a message is done."""
        return await self.hive.states(message) == [DeliveryState.DONE]

    async def turns(self, message: int) -> list[Turn]:
        """Every turn that a message drove."""
        return [item.turn for item in await self.journal() if item.turn.message == message]

    async def journal(self) -> tuple[TurnWithEvents, ...]:
        return (await self.hive.operator.call(ReadTail(agent=self.agent, limit=50))).turns


def is_rebuilt(message: Message, agent: str) -> bool:
    return message.event is SystemEvent.REBUILT and message.to == agent


@asynccontextmanager
async def desk(place: Path, agent: str, guards: Guards = UNHURRIED) -> AsyncIterator[Desk]:
    """A real broker, and a stand-in for privd that knows the agent's cage."""
    hive = Hive(place, Privd(place), guards=guards)
    for name in {MANAGER_NAME, agent}:
        hive.privd.change(known_cage(name))
    at = Desk(hive, agent)
    async with hive.privd.serving(), at.relay.open():
        try:
            with trio.fail_after(60):
                yield at
        finally:
            with trio.CancelScope(shield=True):
                await hive.forget_connections()
