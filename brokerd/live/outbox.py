"""Sends that arrive together are stored together: one job for all, and each sender gets its own answer."""

import outcome

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.policy.bodies import bytes_of
from brokerd.store import messages
from brokerd.store.messages import Draft
from protocol.problem import Refused
from protocol.tools import Sent
from runtime.later import Later, run_by_hand, soon

DRAFTS_PER_JOB_MAX = 64


class _Slot:
    """A draft that waits, and its answer."""

    __slots__ = ("answer", "draft")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.answer: Later[Sent] = Later(is_shielded=True)


class Outbox:
    """Everybody's sends."""

    def __init__(self, feed: Feed, inboxes: Inboxes) -> None:
        self._feed = feed
        self._inboxes = inboxes
        self._waiting: list[_Slot] = []

    async def send(self, draft: Draft) -> Sent:
        """Store a message; returns when it is on disk. Refused: `limit`, nothing stored; `conflict` for a misused key.

        Not to be cancelled halfway: it is stored together with the messages of others. Needs no task.
        """
        reserved = self._inboxes.reserve(draft.recipients, bytes_of(draft.body), draft.asked.sender)
        slot = _Slot(draft)
        if not self._waiting:
            soon(self._store_waiting)
        self._waiting.append(slot)
        try:
            return await slot.answer
        finally:
            self._inboxes.release(reserved)

    def _store_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), DRAFTS_PER_JOB_MAX):
            _Job(self._feed, waiting[start : start + DRAFTS_PER_JOB_MAX]).start()


class _Job:
    """Messages that are stored together."""

    def __init__(self, feed: Feed, slots: list[_Slot]) -> None:
        self._feed = feed
        self._slots = slots

    def start(self) -> None:
        run_by_hand(
            self._feed.write_new(messages.send, [slot.draft for slot in self._slots]), self._answer_each
        )

    def _answer_each(self, stored: outcome.Outcome[list[Sent | Refused]]) -> None:
        if isinstance(stored, outcome.Error):
            for slot in self._slots:
                slot.answer.end(outcome.Error(stored.error))
            return
        for slot, answer in zip(self._slots, stored.unwrap(), strict=True):
            slot.answer.end(outcome.Error(answer) if isinstance(answer, Refused) else outcome.Value(answer))
