"""No agent alone fills another's inbox: what waits of one sender for one recipient has a bound of its own.

It is counted in the database when an inbox is deep enough to matter, and then only when what was left is used up: what
one sender has waiting grows by its own messages alone.
"""

from collections.abc import Sequence

from msgspec import Struct

from brokerd.live.inboxes import Inboxes
from brokerd.policy.guards import Guards, check_share
from brokerd.store import deliveries
from brokerd.swarm.roster import Roster
from protocol.names import OPERATOR, SYSTEM
from protocol.settings import AgentRole
from runtime.store import Store


class _Left(Struct):
    """How much more one sender may have waiting for one recipient, at least."""

    deliveries: int
    size: int


class Shares:
    """Everybody's, but for the manager's, the operator's and the hive's own."""

    def __init__(self, store: Store, inboxes: Inboxes, roster: Roster, guards: Guards) -> None:
        self._store = store
        self._inboxes = inboxes
        self._roster = roster
        self._guards = guards
        self._left: dict[tuple[str, str], _Left] = {}

    def check(self, sender: str, recipients: Sequence[str], size: int) -> None:
        """Refused (`limit`): too much of this sender waits for one of the recipients already."""
        if sender in (OPERATOR, SYSTEM) or self._roster.roles.get(sender) is AgentRole.MANAGER:
            return
        for recipient in recipients:
            self._check_one(sender, recipient, size)

    def _check_one(self, sender: str, recipient: str, size: int) -> None:
        guards, inbox = self._guards, self._inboxes.of(recipient)
        if inbox.open < guards.share_deliveries_max and inbox.size + size <= guards.share_bytes_max:
            self._left.pop((sender, recipient), None)
            return
        left = self._left.get((sender, recipient))
        if left is None or left.deliveries < 1 or left.size < size:
            waiting, waiting_size = self._store.look(deliveries.waiting_of, recipient, sender)
            check_share(sender, recipient, waiting, waiting_size, size, guards)
            left = self._left[sender, recipient] = _Left(
                guards.share_deliveries_max - waiting, guards.share_bytes_max - waiting_size
            )
        left.deliveries -= 1
        left.size -= size
