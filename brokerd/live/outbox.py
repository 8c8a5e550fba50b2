"""Sends that arrive together are stored together, each once there is room for it in its inboxes."""

from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.together import Together
from brokerd.policy.bodies import bytes_of
from brokerd.store import messages
from brokerd.store.messages import Draft
from protocol.tools import Sent


class Outbox:
    """Everybody's sends."""

    def __init__(self, feed: Feed, inboxes: Inboxes) -> None:
        self._inboxes = inboxes
        self._sends: Together[Draft, Sent] = Together(feed.write_new, lambda: messages.send)

    async def send(self, draft: Draft) -> Sent:
        """Store a message; returns when it is on disk. Refused: `limit`, nothing stored; `conflict` for a misused key.

        Not to be cancelled halfway: it is stored together with the messages of others. Needs no task.
        """
        reserved = self._inboxes.reserve(draft.recipients, bytes_of(draft.body), draft.asked.sender)
        try:
            return await self._sends.ask(draft)
        finally:
            self._inboxes.release(reserved)
