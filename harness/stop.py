"""How a running turn is asked to end, and by whom; the first who asks is the one who is named."""

import trio

from harness.policy.outcomes import Stop


class TurnStop:
    """One turn's stop: `ask` from anywhere, `wait` where the turn runs."""

    def __init__(self) -> None:
        self._asked = trio.Event()
        self.reason: Stop | None = None

    def ask(self, reason: Stop) -> None:
        if self.reason is None:
            self.reason = reason
            self._asked.set()

    async def wait(self) -> None:
        await self._asked.wait()
