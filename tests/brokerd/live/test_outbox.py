"""Sends that arrive together are stored together, and nobody's answer depends on anybody else's patience."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from brokerd.live import together
from brokerd.live.feed import Feed
from brokerd.live.inboxes import Inboxes
from brokerd.live.outbox import Outbox
from brokerd.store import messages, schema
from brokerd.store.feed import FeedLog, open_feed
from protocol.problem import Refused
from protocol.tools import Sent
from runtime.log import logger
from runtime.store import Db, Store, StoreShape, open_store, quick
from tests.brokerd.store.conftest import migrated, shape
from tests.brokerd.store.drafts import draft

pytestmark = pytest.mark.anyio
__all__ = ["migrated", "shape"]


class Desk:
    """An outbox with its store, and how many drafts each job stored."""

    def __init__(self, store: Store, feed: Feed, inboxes: Inboxes) -> None:
        self.store = store
        self.inboxes = inboxes
        self.outbox = Outbox(feed, inboxes)
        self.jobs: list[int] = []


@asynccontextmanager
async def desk(shape: StoreShape, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    async with open_store(shape, schema.migrate) as store:
        place = await store.write(open_feed, "boot")
        inboxes = Inboxes({})
        made = Desk(store, Feed(store, place, inboxes.follow, logger("test")), inboxes)
        real = messages.send

        def send(db: Db, log: FeedLog, drafts: list[messages.Draft]) -> list[Sent | Refused]:
            made.jobs.append(len(drafts))
            return real(db, log, drafts)

        monkeypatch.setattr(messages, "send", quick(send))
        yield made


async def test_what_arrives_together_is_stored_together(
    shape: StoreShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Sent] = []
    async with desk(shape, monkeypatch) as made:

        async def send() -> None:
            answers.append(await made.outbox.send(draft()))

        async with trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(send)
        assert sum(made.jobs) == 150
        assert len(made.jobs) <= 6
        assert max(made.jobs) <= together.ASKED_PER_JOB_MAX
        assert sorted(sent.message for sent in answers) == list(range(1, 151))
        assert (made.inboxes.of("iris").open, made.inboxes.of("iris").reserved) == (150, 0)


async def test_a_sender_that_is_cancelled_holds_nobody_up(
    shape: StoreShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun is stored whole; everybody else gets an answer."""
    answers: list[Sent] = []
    async with desk(shape, monkeypatch) as made:

        async def give_up() -> None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await made.outbox.send(draft(body="given up"))

        async def send() -> None:
            answers.append(await made.outbox.send(draft()))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(give_up if number % 2 else send)
        assert len(answers) == 30
        stored = await made.store.read(lambda db: db.execute("SELECT count(*) FROM messages").fetchone()[0])
        assert stored == made.inboxes.of("iris").open == 60
        assert made.inboxes.of("iris").reserved == 0


async def test_a_job_that_fails_is_told_to_all_of_it_and_the_next_goes_on(
    shape: StoreShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Exception] = []
    async with desk(shape, monkeypatch) as made:
        with monkeypatch.context() as broken:

            def fail(*_: object) -> None:
                raise ZeroDivisionError

            broken.setattr(messages, "send", quick(fail))

            async def send() -> None:
                try:
                    await made.outbox.send(draft())
                except ZeroDivisionError as error:
                    failures.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(send)
        assert len(failures) == 10
        assert made.inboxes.of("iris").reserved == 0
        assert (await made.outbox.send(draft())).message == 1
