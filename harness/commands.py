"""What brokerd wants of the harness, watched for as long as it lives; being watched is how brokerd knows that it is."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from protocol.agent import AnyCommand, Attach, Attached, WatchCommands
from protocol.problem import Refused
from runtime import VERSION
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.clock import new_key
from runtime.log import Log

RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0


class Commands:
    """One harness's attachment to brokerd: made at the start, and again after each interruption."""

    def __init__(self, broker: Client, log: Log) -> None:
        self._broker = broker
        self._log = log
        self._instance = new_key()
        self.attached = trio.Event()

    async def follow(self, obey: Callable[[AnyCommand], None], renew: Callable[[], Awaitable[None]]) -> None:
        """Attach and pass commands on, for ever. *renew* tells a brokerd that was away what it cannot know."""
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        told = False
        while True:
            try:
                attached = await self._broker.call(Attach(self._instance, VERSION))
                async with self._broker.watch(WatchCommands()) as commands:
                    self._log.info("attached to brokerd", agent=attached.agent, requeued=attached.requeued)
                    waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
                    told = False
                    await self._welcome(attached, renew)
                    async for command in commands:
                        self._log.info("command", command=repr(command))
                        obey(command)
            except (Disconnected, Refused) as fault:
                if not told:
                    self._log.warning("not attached to brokerd; trying again", error=str(fault))
                    told = True
            await trio.sleep(next(waits))

    async def _welcome(self, attached: Attached, renew: Callable[[], Awaitable[None]]) -> None:
        if self.attached.is_set():
            await renew()
        self.attached.set()
