"""Turns driven by the demo CLI: started as Claude Code is, with nothing to continue and nothing to pay."""

import os
import sys
from secrets import token_hex

from harness.cli import Command
from harness.places import Places
from harness.runner import Emit, Report, run_once
from harness.spawn import Spawner
from harness.stop import TurnStop
from harness.wake import draw_mark, wake_prompt
from protocol.agent import Delivery
from protocol.settings import AgentSettings


class DemoRunner:
    """The runner of one agent."""

    def __init__(self, settings: AgentSettings, places: Places, spawner: Spawner) -> None:
        self._spawner = spawner
        argv = (
            *(sys.executable, "-I", "-m", "harness.demo"),
            *("--name", settings.name),
            *("--state", str(places.state)),
            *("--mcp-config", str(places.mcp_config)),
        )
        environment = settings.environment | {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(places.state),
        }
        self._command = Command(argv, environment, str(places.state))

    async def run(self, delivery: Delivery, emit: Emit, stop: TurnStop, model: str | None = None) -> Report:
        """One turn: one run. There is no model, whichever was chosen."""
        mark = draw_mark((delivery.message.body,), token_hex)
        prompt = wake_prompt(delivery.message, attempt=delivery.attempt, mark=mark)
        run = await run_once(self._spawner, self._command, prompt, emit, stop)
        return Report(run.verdict, run.usage)
