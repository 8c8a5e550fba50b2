"""Idempotency: the first answer to each keyed request, kept in the transaction that earned it.

The table is in the order of the keys. Our clients begin them with what grows with time (runtime.clock.new_request_key,
harness.mcp.toolbox), so that those of a moment lie on one page of it; with keys that were nothing but chance each send
would write a page of its own.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from brokerd.store import rows
from protocol.problem import Problem, Refused
from protocol.rpc import Request
from runtime.store import Db

INSERT: Final = "INSERT OR FAIL INTO keys (sender, key, digest, answer, at_ms) VALUES"
FIND_HEAD: Final = "WITH asked (sender, key) AS (VALUES"
FIND_TAIL: Final = (
    ") SELECT k.sender, k.key, k.digest, k.answer FROM asked AS a "
    "CROSS JOIN keys AS k ON k.sender = a.sender AND k.key = a.key"
)
DIGEST_BYTES: Final = 16

_encoder = msgspec.json.Encoder()


class Asked(NamedTuple):
    """Who asked, with which key."""

    sender: str
    key: bytes


class First(Struct, frozen=True):
    """The first request with a key, and what it was answered."""

    digest: bytes
    answer: bytes


def digest_of(request: Request) -> bytes:
    """What a repeat must have in common with the first: everything."""
    return hashlib.blake2b(_encoder.encode(request), digest_size=DIGEST_BYTES).digest()


def find(db: Db, asked: Sequence[Asked]) -> dict[Asked, First]:
    """The first answers to those of *asked* that were used before."""
    found: dict[Asked, First] = {}
    if not asked:
        return found
    for part in rows.parts(asked):
        statement = rows.values(FIND_HEAD, len(part), 2) + FIND_TAIL
        for row in db.execute(statement, tuple(chain.from_iterable(part))):
            found[Asked(row["sender"], row["key"])] = First(row["digest"], row["answer"])
    return found


def check_same(first: First, digest: bytes) -> bytes:
    """The first answer; `conflict` when the key was used for something else."""
    if first.digest != digest:
        raise Refused(Problem.CONFLICT, "this key was used for another message")
    return first.answer


def remember(db: Db, answered: Sequence[tuple[Asked, First]], at_ms: int) -> None:
    """Keep the answers of requests that were done just now."""
    new: list[tuple[Any, ...]] = [(*asked, first.digest, first.answer, at_ms) for asked, first in answered]
    rows.insert(db, INSERT, new)
