"""What happened in turns, event by event. In events.sqlite: many, large, and no message depends on them."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from brokerd.store import rows, turns
from brokerd.store.feed import FeedLog
from protocol.brokerd import TurnEventAdded
from protocol.turns import AnyTurnEvent, Failed
from runtime.store import Db, quick

INSERT: Final = "INSERT OR FAIL INTO turn_events (turn, n, body) VALUES"
KNOWN: Final = "SELECT n FROM turn_events WHERE turn = ? AND n BETWEEN ? AND ?"
NEWEST: Final = "SELECT n, body FROM turn_events WHERE turn = ? ORDER BY n DESC"
COUNT: Final = "SELECT count(*) FROM turn_events WHERE turn = ?"

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyTurnEvent] = msgspec.json.Decoder(AnyTurnEvent)


@quick
def publish(db: Db, log: FeedLog, agent: str, turn: int, events: Sequence[AnyTurnEvent]) -> None:
    """Add events to an open turn, in the order of their numbers; ones that are there already are left alone."""
    turns.check_open(db, turn, agent)
    ordered = sorted(events, key=lambda event: event.n)
    known = {row["n"] for row in db.execute(KNOWN, (turn, ordered[0].n, ordered[-1].n))}
    new: list[tuple[Any, ...]] = []
    for event in ordered:
        if event.n not in known:
            known.add(event.n)
            new.append((turn, event.n, _encoder.encode(event)))
            log.append(agent, TurnEventAdded(agent, turn, event))
    rows.insert(db, INSERT, new)


class Tail(msgspec.Struct, frozen=True):
    """The newest events of one turn, oldest first; `cut` older ones did not fit, `faults` could not be read."""

    events: tuple[AnyTurnEvent, ...]
    cut: int
    size: int
    faults: tuple[str, ...] = ()


def newest(db: Db, turn: int, bytes_max: int) -> Tail:
    """As many of a turn's newest events as fit into `bytes_max`. One that cannot be read is shown as broken."""
    events: list[AnyTurnEvent] = []
    faults: list[str] = []
    size = 0
    total: int = db.execute(COUNT, (turn,)).fetchone()[0]
    for row in db.execute(NEWEST, (turn,)):
        size += len(row["body"]) + 1
        if size > bytes_max:
            size -= len(row["body"]) + 1
            break
        event = _event(row["n"], row["body"], faults)
        events.append(event)
    return Tail(tuple(reversed(events)), total - len(events), size, tuple(faults))


def _event(n: int, body: bytes, faults: list[str]) -> AnyTurnEvent:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        faults.append(f"event {n}: {error}")
        return Failed(n=n, at_ms=0, text="this event cannot be read; brokerd's log says why")
