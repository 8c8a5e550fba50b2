"""The conversation that an agent's turns continue: an id of our own, kept on disk, never "the latest one"."""

import os
import uuid
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from harness.claude.command import Conversation
from runtime.log import Log

FILE: Final = "conversation.json"

ConversationId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]


class _Kept(Struct, frozen=True, forbid_unknown_fields=True):
    conversation: ConversationId


class Conversations:
    """The current conversation of one agent. Only the harness that holds the agent's lock may make one."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._path = folder / FILE
        self._log = log
        self._current = self._read()

    def current(self) -> Conversation:
        """The conversation to continue, or a fresh one that `begun` makes the current."""
        return self._current or Conversation(str(uuid.uuid4()), begun=False)

    def begin(self, conversation: Conversation) -> None:
        """Record that the CLI is about to be told of this conversation; on disk before it starts."""
        if conversation.begun:
            return
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(_Kept(conversation.id)))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)
        self._current = Conversation(conversation.id, begun=True)

    def forget(self) -> None:
        """Start afresh with the next turn."""
        self._path.unlink(missing_ok=True)
        self._current = None

    def _read(self) -> Conversation | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            kept = msgspec.json.decode(data, type=_Kept)
        except msgspec.DecodeError as error:
            self._log.error("the kept conversation cannot be read; a fresh one begins", error=str(error))
            return None
        return Conversation(kept.conversation, begun=True)
