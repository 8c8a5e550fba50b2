"""Deliveries with their messages, as their recipient gets them: the oldest one, or several into a running turn."""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from brokerd.policy.pages import fitting
from brokerd.store import deliveries, keys, messages, turns
from brokerd.store.deliveries import Bound
from brokerd.store.feed import FeedLog
from brokerd.store.keys import Asked, First
from protocol.brokerd import DeliveryChanged
from protocol.limits import PAGE_BYTES_MAX
from protocol.messages import Message, Receipt
from protocol.tools import Received, Recv
from runtime.store import Db

HOPS_OF_LAST: Final = (
    "SELECT t.agent, m.hops FROM turns AS t CROSS JOIN messages AS m ON m.id = t.message "
    "WHERE t.id IN (SELECT max(id) FROM turns GROUP BY agent)"
)
HOPS_IN_TURN: Final = (
    "SELECT d.recipient AS agent, max(m.hops) AS hops FROM deliveries AS d "
    f"CROSS JOIN messages AS m ON m.id = d.id >> {deliveries.PLACE_BITS} WHERE d.state = 'in_turn' GROUP BY d.recipient"
)

_encoder = msgspec.json.Encoder()
_ids_decoder = msgspec.json.Decoder(tuple[int, ...])


class Waiting(Struct, frozen=True):
    """A delivery that waits, with its message."""

    delivery: int
    attempts: int
    message: Message


def oldest_waiting(db: Db, recipient: str) -> Waiting | None:
    for receipt in deliveries.queued(db, recipient, 1):
        return _waiting(db, receipt)
    return None


def hops_of_last(db: Db) -> dict[str, int]:
    """The highest hops in each agent's last turn; of one that ended, those of the message that drove it."""
    hops = {row["agent"]: row["hops"] for row in db.execute(HOPS_OF_LAST)}
    for row in db.execute(HOPS_IN_TURN):
        hops[row["agent"]] = max(row["hops"], hops.get(row["agent"], 0))
    return hops


def waiting_of(db: Db, delivery: int) -> Waiting:
    """One delivery, wherever it stands."""
    return _waiting(db, deliveries.read(db, delivery))


def _waiting(db: Db, receipt: Receipt) -> Waiting:
    return Waiting(receipt.id, receipt.attempts, messages.read(db, receipt.message))


def pull(db: Db, log: FeedLog, agent: str, request: Recv) -> Received:
    """Put waiting deliveries into the agent's open turn. A repeat returns the same messages, if there were any."""
    turns.check_open(db, request.turn, agent)
    asked, digest = Asked(agent, bytes.fromhex(request.key)), keys.digest_of(request)
    first = keys.find(db, [asked]).get(asked)
    if first is not None:
        ids = _ids_decoder.decode(keys.check_same(first, digest))
        return Received(tuple(messages.read(db, each) for each in ids))
    waiting = deliveries.queued(db, agent, request.limit)
    found = tuple(fitting(_read(db, [receipt.message for receipt in waiting]), PAGE_BYTES_MAX))
    bound = [Bound(each.id, agent, request.turn, each.attempts + 1) for each in waiting[: len(found)]]
    for receipt in deliveries.bind(db, bound, log.at_ms):
        log.append(agent, DeliveryChanged(receipt))
    if found:
        answer = _encoder.encode([message.id for message in found])
        keys.remember(db, [(asked, First(digest, answer))], log.at_ms)
    return Received(found)


def _read(db: Db, ids: list[int]) -> Iterator[Message]:
    return (messages.read(db, each) for each in ids)
