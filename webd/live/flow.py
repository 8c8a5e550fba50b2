"""The message flow as the dashboard keeps it: the newest messages without holes, and what waits for the operator."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from protocol.messages import DeliveryState, Message, Receipt
from protocol.names import OPERATOR
from webd.live.counts import HOUR_MS
from webd.live.rows import DeliveryRow, MessageRow, delivery_row, message_row

WINDOW_MESSAGES: Final = 100
WANTING_MAX: Final = 100
DEAD_SHOWN_MS: Final = 24 * HOUR_MS
KEPT_MAX: Final = 400
"""Messages in memory; a change to one that was let go is asked for again."""


class Flow:
    """Rows by message id. The window is what a snapshot shows; rows beside it only wait for changes."""

    def __init__(self) -> None:
        self._rows: OrderedDict[int, MessageRow] = OrderedDict()
        self._window: deque[int] = deque(maxlen=WINDOW_MESSAGES)

    def start_from(self, messages: Iterable[Message], wanting: Iterable[Message]) -> None:
        self._rows.clear()
        self._window.clear()
        for message in wanting:
            self._rows[message.id] = message_row(message)
        for message in messages:
            self.sent(message)

    def sent(self, message: Message) -> MessageRow:
        """A new message: the newest of the window."""
        row = self._rows[message.id] = message_row(message)
        if not self._window or message.id > self._window[-1]:
            self._window.append(message.id)
        self._let_go_of_some()
        return row

    def fetched(self, messages: Sequence[Message]) -> None:
        """Messages that had been let go and have changed."""
        for message in messages:
            self._rows.setdefault(message.id, message_row(message))
        self._let_go_of_some(but=frozenset(message.id for message in messages))

    def knows(self, message: int) -> bool:
        """Whether it is in memory."""
        return message in self._rows

    def changed(self, receipt: Receipt) -> MessageRow | None:
        """The message after a change of one delivery; None when it must be fetched first.

        A message that was fetched may be ahead of what is heard of it: an older state never replaces a newer one.
        """
        row = self._rows.get(receipt.message)
        if row is None:
            return None
        self._rows.move_to_end(receipt.message)
        deliveries = _with(row.deliveries, delivery_row(receipt))
        if deliveries != row.deliveries:
            row = self._rows[receipt.message] = replace(row, deliveries=deliveries)
        return row

    def newest(self) -> list[MessageRow]:
        """The window, oldest first."""
        return [self._rows[number] for number in self._window]

    def wanting(self, now_ms: int) -> list[MessageRow]:
        """What waits for the operator, oldest first."""
        waiting = [row for row in self._rows.values() if _wants(row, now_ms)]
        return sorted(waiting, key=lambda row: row.id)[:WANTING_MAX]

    def _let_go_of_some(self, but: frozenset[int] = frozenset()) -> None:
        """Forget what neither the window nor the operator needs, longest untouched first; never `but`."""
        if len(self._rows) <= KEPT_MAX:
            return
        needed = {*self._window, *but}
        beside = [(number, _unread(row)) for number, row in self._rows.items() if number not in needed]
        spare = [number for number, unread in beside if not unread]
        unread = [number for number, unread in reversed(beside) if unread]
        for number in [*spare, *unread][: len(self._rows) - KEPT_MAX]:
            del self._rows[number]


def _with(known: tuple[DeliveryRow, ...], fresh: DeliveryRow) -> tuple[DeliveryRow, ...]:
    for place, delivery in enumerate(known):
        if delivery.id == fresh.id:
            if fresh.changed_ms < delivery.changed_ms:
                return known
            return (*known[:place], fresh, *known[place + 1 :])
    return (*known, fresh)


def _unread(row: MessageRow) -> bool:
    return any(
        delivery.recipient == OPERATOR and delivery.state == DeliveryState.QUEUED
        for delivery in row.deliveries
    )


def _wants(row: MessageRow, now_ms: int) -> bool:
    return _unread(row) or any(
        delivery.state == DeliveryState.DEAD and now_ms - delivery.changed_ms < DEAD_SHOWN_MS
        for delivery in row.deliveries
    )
