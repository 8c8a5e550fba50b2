"""Sends that arrive together are stored together: one job for all that wait, and each sender gets its own answer.

Whoever comes while fewer than JOBS_MAX jobs are under way stores all that wait. When a job is done, the first of
those who came meanwhile goes on, so no task has to live for it and nobody works for the others for long.
"""

from collections import deque
from typing import Final

import outcome
import trio

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.policy.bodies import bytes_of
from brokerd.store import messages
from brokerd.store.messages import Draft
from protocol.problem import Refused
from protocol.tools import Sent

DRAFTS_PER_JOB_MAX: Final = 64
JOBS_MAX: Final = 2
"""Jobs under way: while one is committed, the next is being collected."""


class _Slot:
    """A draft that waits, and its answer."""

    __slots__ = ("answer", "draft", "is_taken", "told")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.answer: outcome.Outcome[Sent] | None = None
        self.is_taken = False
        self.told: trio.Event | None = None
        """Set when there is an answer, or when this one may store what waits."""

    def tell(self) -> None:
        if self.told is not None:
            self.told.set()


class Outbox:
    """Everybody's sends."""

    def __init__(self, feed: Feed, inboxes: Inboxes) -> None:
        self._feed = feed
        self._inboxes = inboxes
        self._waiting: deque[_Slot] = deque()
        self._jobs = 0
        self._is_collecting = False

    async def send(self, draft: Draft) -> Sent:
        """Store a message; returns when it is on disk. Refused: `limit`, nothing stored; `conflict` for a misused key.

        Not to be cancelled halfway: what one task stores are the messages of others, too.
        """
        size = bytes_of(draft.body)
        reserved = self._inboxes.reserve(draft.recipients, size, draft.asked.sender)
        try:
            with trio.CancelScope(shield=True):
                answer = await self._answered(_Slot(draft))
        finally:
            self._inboxes.release(reserved)
        return answer.unwrap()

    async def _answered(self, slot: _Slot) -> outcome.Outcome[Sent]:
        self._waiting.append(slot)
        while slot.answer is None:
            if not slot.is_taken and not self._is_collecting and self._jobs < JOBS_MAX:
                await self._store_waiting()
            else:
                slot.told = trio.Event()
                await slot.told.wait()
        return slot.answer

    async def _store_waiting(self) -> None:
        self._is_collecting = True
        await trio.lowlevel.cancel_shielded_checkpoint()  # whoever has a request now comes along
        self._is_collecting = False
        slots = [self._waiting.popleft() for _ in range(min(len(self._waiting), DRAFTS_PER_JOB_MAX))]
        for slot in slots:
            slot.is_taken = True
        self._jobs += 1
        try:
            answers = await self._feed.write_new(messages.send, [slot.draft for slot in slots])
        except Exception as error:
            for slot in slots:
                slot.answer = outcome.Error(error)
        else:
            for slot, answer in zip(slots, answers, strict=True):
                slot.answer = outcome.Error(answer) if isinstance(answer, Refused) else outcome.Value(answer)
        finally:
            self._jobs -= 1
            for slot in slots:
                slot.tell()
            if self._waiting:
                self._waiting[0].tell()
