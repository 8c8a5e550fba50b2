"""Waiting until nothing more goes on by itself: every task waits, and no thread of a database is at work either.

A moment in which no task can run is not enough: what the writer's thread does just now wakes a task afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from trio.testing import wait_all_tasks_blocked

from runtime.store import Store

CUSHION_S = 0.01
"""What a socket may take from one end to the other."""

_stores: list[Store] = []


@contextmanager
def stores_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`settled` sees to the stores that are opened from now on."""
    real = Store.start

    def start(store: Store) -> Thread:
        _stores.append(store)
        return real(store)

    monkeypatch.setattr(Store, "start", start)
    try:
        yield
    finally:
        _stores.clear()


async def settled(cushion_s: float = CUSHION_S) -> None:
    """Needs `stores_known`. Does not wait for what is due at some later time."""
    await wait_all_tasks_blocked(cushion_s)
    while any(map(_is_at_work, _stores)):
        await wait_all_tasks_blocked(cushion_s)


def _is_at_work(store: Store) -> bool:
    return bool(store._jobs or store._is_due or store._is_writing or store._reading.borrowed_tokens)
