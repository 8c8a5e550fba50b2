"""The life of the harness: what it opens, what runs beside the turn loop, and how it goes down.

SIGTERM lets the running turn end within the grace; then the agent CLI is ended and the delivery comes again. A task
beside the loop that fails ends the harness, and with it the cage, loudly.
"""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from harness import forwarder
from harness.claude.command import MODEL_VARIABLE, WAY_OUT, mcp_config
from harness.claude.conversation import Conversations
from harness.claude.runner import ClaudeRunner
from harness.commands import Commands
from harness.demo.runner import DemoRunner
from harness.errands import AgentErrands, check_environment
from harness.mcp.listener import serve_tools
from harness.mcp.toolbox import Toolbox
from harness.places import Places
from harness.prompt import startup_prompt
from harness.runner import Runner
from harness.settings import agent_uid, stop_grace_s
from harness.spawn import Spawner, spawner_from_environment
from harness.turn import TurnLoop
from protocol import settings as deployed
from protocol.settings import AgentSettings
from runtime.client import Client
from runtime.log import Log
from runtime.stopping import Stopping

READABLE: Final = 0o644
LOCK_NAME: Final = "lock"


class HarnessRuns(Exception):
    """Another harness serves this agent: two would branch its conversation and lose one of the branches."""


async def serve(settings: AgentSettings, places: Places, log: Log, *, port: int = forwarder.PORT) -> None:
    """Be the harness of one agent until SIGTERM or SIGINT."""
    stopping = Stopping()
    grace_s = stop_grace_s(os.environ)
    with _locked(places.harness / LOCK_NAME):
        write_start_files(settings, places, log)
        spawner = spawner_from_environment(os.environ, log)
        async with Client(places.broker_socket) as broker, trio.open_nursery() as beside:
            toolbox = Toolbox(broker, settings.role)
            runner = runner_for(settings, places, spawner, log)
            given = {**settings.environment, MODEL_VARIABLE: settings.model}
            environment = check_environment(given, places, WAY_OUT)
            errands = AgentErrands(spawner, places, environment, program_of(settings, places))
            loop = TurnLoop(broker, runner, toolbox, errands, stopping, log)
            commands = Commands(broker, log)
            await beside.start(_on_signals, stopping, loop, grace_s, log)
            beside.start_soon(spawner.serve)
            await beside.start(serve_tools, places.tools_socket, toolbox, agent_uid(), log)
            await beside.start(
                lambda task_status: forwarder.forward(
                    places.egress_socket, log, port=port, task_status=task_status
                )
            )
            beside.start_soon(loop.answer_health)
            beside.start_soon(commands.follow, loop.obey, loop.tell_parked)
            log.info("ready", agent=settings.name, runner=settings.runner)
            with stopping.ends():
                await commands.attached.wait()
            await loop.serve()
            beside.cancel_scope.cancel()
    log.info("stopped")


def runner_for(settings: AgentSettings, places: Places, spawner: Spawner, log: Log) -> Runner:
    match settings.runner:
        case deployed.Runner.CLAUDE:
            return ClaudeRunner(settings, places, spawner, Conversations(places.harness, log), log)
        case deployed.Runner.DEMO:
            return DemoRunner(settings, places, spawner)


def program_of(settings: AgentSettings, places: Places) -> Path | None:
    """The agent CLI, where it is not a part of the harness."""
    return places.claude if settings.runner is deployed.Runner.CLAUDE else None


def write_start_files(settings: AgentSettings, places: Places, log: Log) -> None:
    """Write what every run of the CLI is pointed at; the agent may read it."""
    if deployed.OWN_SERVER in settings.mcp_servers:
        log.warning("an MCP server is left out: the hive's own has its name", server=deployed.OWN_SERVER)
    prompt = startup_prompt(settings, "", str(places.notes))
    _write(places.role_prompt, prompt.role.encode())
    _write(places.mcp_config, mcp_config(sys.executable, str(places.tools_socket), settings.mcp_servers))


async def _on_signals(
    stopping: Stopping,
    loop: TurnLoop,
    grace_s: float,
    log: Log,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Stop at the first signal: nothing new begins; after the grace the running turn is ended."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            log.info("stopping", signal=signal.Signals(number).name, grace_s=grace_s)
            break
        stopping.set()
        await trio.sleep(grace_s)
        loop.stop_turn()
        await (
            trio.sleep_forever()
        )  # still ours: a second signal must not end us in the middle of the last words


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the agent's lock, so that one harness alone continues its conversation."""
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HarnessRuns(f"{path} is held: another harness runs for this agent") from None
        yield


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(READABLE)
