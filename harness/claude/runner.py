"""Turns driven by Claude Code: a process for each, continuing one conversation by its id."""

import os
import sys
from secrets import token_hex
from typing import Final

import msgspec
from msgspec import Struct

from harness.claude.command import Conversation, Paths, command
from harness.claude.conversation import Conversations
from harness.cli import Command, run_cli
from harness.look import CA_NAME, KEY_NAME
from harness.places import Places
from harness.policy.outcomes import Verdict
from harness.prompt import startup_prompt
from harness.runner import Emit, Report, Run, added, run_once
from harness.spawn import Spawner
from harness.stop import TurnStop
from harness.wake import draw_mark, wake_prompt
from protocol.agent import Delivery
from protocol.settings import AgentSettings, Credential
from protocol.turns import Noted, Outcome
from runtime.clock import now_ms
from runtime.log import Log

COMPACT: Final = "/compact"


class Look(Struct, frozen=True):
    """What `harness.look` found among the agent's own files."""

    notes: str = ""
    fault: str = ""
    profile: bool = True
    api_key: bool = False
    ca: bool = False


class ClaudeRunner:
    """The runner of one agent."""

    def __init__(
        self,
        settings: AgentSettings,
        places: Places,
        spawner: Spawner,
        conversations: Conversations,
        log: Log,
    ) -> None:
        self._settings = settings
        self._places = places
        self._spawner = spawner
        self._conversations = conversations
        self._log = log
        self._model: str | None = None
        """Of the running turn, where the operator chose one."""

    async def run(self, delivery: Delivery, emit: Emit, stop: TurnStop, model: str | None = None) -> Report:
        """One turn: one run, and a second one when the conversation was unknown, or full and now compacted.

        The CLI compacts by itself when it can; this is for when it could not.
        """
        self._model = model
        look = await self._look()
        if look.fault:
            emit(Noted(0, now_ms(), f"the notes could not be read: {look.fault}"))
        run = await self._turn(delivery, look, emit, stop)
        if stop.reason is None and run.verdict.conversation_unknown:
            emit(
                Noted(
                    0, now_ms(), "the agent CLI does not know the conversation any more; a fresh one begins"
                )
            )
            self._conversations.forget()
            run = _both(run, await self._turn(delivery, look, emit, stop))
        elif stop.reason is None and run.verdict.outcome is Outcome.CONTEXT_FULL:
            run = _both(run, await self._after_compaction(run.verdict, delivery, look, emit, stop))
        conversation = self._conversations.current().id
        if run.verdict.outcome is Outcome.CONTEXT_FULL:
            emit(Noted(0, now_ms(), "the conversation stays full; the next turn begins a fresh one"))
            self._conversations.forget()
        return Report(run.verdict, run.usage, conversation)

    async def _turn(self, delivery: Delivery, look: Look, emit: Emit, stop: TurnStop) -> Run:
        conversation = self._conversations.current()
        notes = "" if conversation.begun else self._notes(look)
        mark = draw_mark((delivery.message.body, notes), token_hex)
        # Asked at its first turn ever, and again where that one did not end well or came to nothing.
        is_known = look.profile or self._settings.pronouns
        asked = not is_known and (not conversation.begun or delivery.attempt > 1)
        prompt = wake_prompt(
            delivery.message,
            attempt=delivery.attempt,
            mark=mark,
            notes=notes,
            profile_wanted=str(self._places.profile) if asked else None,
        )
        self._conversations.begin(conversation)
        return await run_once(self._spawner, self._command(conversation, look), prompt, emit, stop)

    async def _after_compaction(
        self, full: Verdict, delivery: Delivery, look: Look, emit: Emit, stop: TurnStop
    ) -> Run:
        emit(Noted(0, now_ms(), f"the conversation is full ({full.detail}); it is compacted"))
        conversation = self._conversations.current()
        compacting = await run_once(self._spawner, self._command(conversation, look), COMPACT, emit, stop)
        if compacting.verdict.outcome is not Outcome.DONE or stop.reason is not None:
            return compacting
        return _both(compacting, await self._turn(delivery, look, emit, stop))

    def _command(self, conversation: Conversation, look: Look) -> Command:
        places = self._places
        paths = Paths(
            program=str(places.claude),
            search=os.environ.get("PATH", os.defpath),
            home=str(places.state),
            config=str(places.credentials),
            mcp_config=str(places.mcp_config),
            role_prompt=str(places.role_prompt),
            api_key=str(places.credentials / KEY_NAME) if look.api_key else None,
            ca=str(places.credentials / CA_NAME) if look.ca else None,
            model_socket=str(places.model_socket) if self._holds_no_key else None,
        )
        return command(self._settings, paths, conversation, self._model)

    @property
    def _holds_no_key(self) -> bool:
        return self._settings.credential is Credential.EGRESS

    def _notes(self, look: Look) -> str:
        return startup_prompt(self._settings, look.notes, str(self._places.notes)).notes

    async def _look(self) -> Look:
        """Look at the agent's own files, as the agent. A look that fails says so in `fault`."""
        argv = (
            sys.executable,
            "-I",
            "-m",
            "harness.look",
            str(self._places.notes),
            str(self._places.credentials),
        )
        lines = _Collected()
        ended = await run_cli(self._spawner, Command(argv, {}, "/"), "", lines, TurnStop())
        try:
            return msgspec.json.decode(lines.untrusted_line, type=Look)
        except msgspec.DecodeError as error:
            self._log.error(
                "the look at the agent's files failed", error=str(error), stderr=ended.stderr_tail
            )
            return Look(fault=f"the look at them failed with code {ended.exit_code}")


class _Collected:
    """The first line of an output; more of it is not what `harness.look` prints."""

    def __init__(self) -> None:
        self.untrusted_line = b""

    def line(self, untrusted_line: bytes) -> None:
        self.untrusted_line = self.untrusted_line or untrusted_line

    def too_long(self) -> None:
        """Nothing is kept of it, so that it cannot be decoded, which is logged."""


def _both(first: Run, second: Run) -> Run:
    return Run(second.verdict, added(first.usage, second.usage))
