"""Numbers that move with time: turns of the last hour in bins, messages of the last hour, open deliveries."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from protocol.messages import DeliveryState, Receipt
from webd.live.rows import PULSE_BIN_MS, PULSE_BINS

HOUR_MS: Final = 3_600_000
SLICE_MS: Final = 10_000
TURNS_KEPT_MAX: Final = 500
DELIVERIES_KEPT_MAX: Final = 8_192

OPEN: Final = frozenset({DeliveryState.QUEUED, DeliveryState.LEASED, DeliveryState.IN_TURN})


def pulse(began_ms: Iterable[int], now_ms: int) -> tuple[int, ...]:
    """How many turns began in each 2.5 minutes of the last hour, oldest first; bins lie on the clock."""
    newest = now_ms // PULSE_BIN_MS
    bins = [0] * PULSE_BINS
    for at_ms in began_ms:
        place = PULSE_BINS - 1 - (newest - at_ms // PULSE_BIN_MS)
        if 0 <= place < PULSE_BINS:
            bins[place] += 1
    return tuple(bins)


class HourCount:
    """How many messages the last hour saw, in slices of SLICE_MS."""

    def __init__(self) -> None:
        self._slices: deque[tuple[int, int]] = deque()
        self._total = 0

    def start_from(self, total: int, known_ms: Iterable[int], now_ms: int) -> None:
        """Begin with `total` messages, of which only the newest have a known time: the rest lie evenly before them."""
        self._slices.clear()
        self._total = 0
        known = sorted(at_ms for at_ms in known_ms if now_ms - at_ms < HOUR_MS)[-total:] if total else []
        older = total - len(known)
        first_ms, last_ms = now_ms - HOUR_MS + SLICE_MS, known[0] if known else now_ms
        spread = [first_ms + (max(0, last_ms - first_ms) * place) // max(1, older) for place in range(older)]
        for at_ms in [*spread, *known]:
            self.add(at_ms)

    def add(self, at_ms: int) -> None:
        number = at_ms // SLICE_MS
        if self._slices and self._slices[-1][0] >= number:
            number, count = self._slices.pop()
            self._slices.append((number, count + 1))
        else:
            self._slices.append((number, 1))
        self._total += 1

    def at(self, now_ms: int) -> int:
        while self._slices and (self._slices[0][0] + 1) * SLICE_MS <= now_ms - HOUR_MS:
            self._total -= self._slices.popleft()[1]
        return self._total


class Inboxes:
    """Open deliveries of each recipient: begun from counts, kept by what happens to each delivery."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._open: OrderedDict[int, bool] = OrderedDict()

    def start_from(self, counts: dict[str, int], receipts: Iterable[Receipt]) -> None:
        """`counts` is the truth; receipts only say how deliveries stand that are heard of again."""
        self._counts = dict(counts)
        self._open.clear()
        for receipt in receipts:
            self._note(receipt.id, is_open=receipt.state in OPEN)

    def sent(self, receipt: Receipt) -> None:
        """A new delivery."""
        if receipt.id not in self._open:
            self._note(receipt.id, is_open=False)
        self.changed(receipt)

    def changed(self, receipt: Receipt) -> None:
        """A delivery that is heard of for the first time was open before: only open ones change."""
        before, after = self._open.get(receipt.id, True), receipt.state in OPEN
        self._counts[receipt.recipient] = max(0, self.of(receipt.recipient) + int(after) - int(before))
        self._note(receipt.id, is_open=after)

    def of(self, recipient: str) -> int:
        return self._counts.get(recipient, 0)

    def forget(self, recipient: str) -> None:
        self._counts.pop(recipient, None)

    def _note(self, delivery: int, *, is_open: bool) -> None:
        self._open[delivery] = is_open
        self._open.move_to_end(delivery)
        if len(self._open) > DELIVERIES_KEPT_MAX:
            self._open.popitem(last=False)
