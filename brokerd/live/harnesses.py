"""The harnesses that listen: commands go to them, and whether one is there is told to the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from brokerd.live.feed import Feed
from brokerd.store import agents
from protocol.agent import AnyCommand
from runtime.fanout import Fanout


class Harnesses:
    """One fan-out of commands for each agent whose harness listens, and when each harness came."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._commands: dict[str, Fanout[AnyCommand]] = {}
        self._came_ms: dict[str, int] = {}
        self._changed: set[str] = set()
        self._some_changed = trio.Event()

    def came(self, agent: str, at_ms: int) -> None:
        """A harness says that it serves the agent."""
        self._came_ms[agent] = at_ms

    def came_after(self, agent: str, at_ms: int) -> bool:
        """Whether the agent's harness came later than that: what ended then was the cage of an earlier one."""
        return self._came_ms.get(agent, 0) > at_ms

    def forget(self, agent: str) -> None:
        self._came_ms.pop(agent, None)

    def is_listening(self, agent: str) -> bool:
        return agent in self._commands

    def command(self, agent: str, command: AnyCommand) -> bool:
        """Hand a command to the agent's harness; False when none listens."""
        commands = self._commands.get(agent)
        if commands is None:
            return False
        commands.publish(command)
        return True

    @asynccontextmanager
    async def listening(self, agent: str) -> AsyncIterator[AsyncIterator[AnyCommand]]:
        """One harness listens, for as long as its connection lasts."""
        commands = self._commands.setdefault(agent, Fanout())
        try:
            with commands.subscribed() as watcher:
                self._tell(agent)
                yield watcher
        finally:
            if not len(commands):
                self._commands.pop(agent, None)
                self._tell(agent)

    def _tell(self, agent: str) -> None:
        self._changed.add(agent)
        self._some_changed.set()

    async def tell_presence(self) -> None:
        """For ever: write down whose harness is there; nobody waits for that."""
        while True:
            await self._some_changed.wait()
            self._some_changed = trio.Event()
            changed, self._changed = self._changed, set()
            for agent in changed:
                is_there = self.is_listening(agent)
                await self._feed.write_surely(agents.change_if_known, agent, attached=is_there)
                if self.is_listening(agent) != is_there:
                    self._tell(agent)
