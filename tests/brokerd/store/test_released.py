"""Every released version's databases become this version's, with all that is in them.

Until a version is released its files are written anew whenever its schema changes:
`HIVE_GOLDEN=write python -m pytest tests/brokerd/store/test_released.py`.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from brokerd.handlers import deliveries, messages, questions, reminders, turns
from brokerd.store import schema
from protocol.agent import BeginTurn, EndTurn, PublishEvents, TakeDelivery
from protocol.messages import DeliveryState
from protocol.tools import Ask, Remind, Send
from protocol.turns import Outcome, Said
from runtime import VERSION
from tests.brokerd.campaign.test_power_cuts import OPERATOR, agent, running
from tests.brokerd.store import released
from tests.brokerd.store.conftest import shape_in

pytestmark = pytest.mark.anyio


async def live(state: Path) -> None:
    """A small life: what a released version leaves behind."""
    iris = agent("iris")
    async with running(state, "boot") as host:
        await messages.send(Send(to="iris", body="done before", key="1" * 32), OPERATOR, host)
        delivery = (await deliveries.take(TakeDelivery(wait_s=0), iris, host)).delivery
        assert delivery is not None
        turn = (await turns.begin(BeginTurn(delivery.id, delivery.token), iris, host)).turn
        await turns.publish(PublishEvents(turn, (Said(0, 1, "words"),)), iris, host)
        await turns.end(EndTurn(turn, Outcome.DONE), iris, host)
        await messages.send(Send(to="iris", body="still to do", key="2" * 32), OPERATOR, host)
        await questions.ask(Ask(question="which?", key="3" * 32, options=("this", "that")), iris, host)
        await reminders.remind(Remind(text="later", key="4" * 32, every_s=3_600), iris, host)


async def test_the_present_version_is_kept_as_it_is(tmp_path: Path) -> None:
    await live(tmp_path)
    if os.environ.get("HIVE_GOLDEN") == "write":
        released.FOLDER.mkdir(exist_ok=True)
        for file in released.FILES:
            released.script_of(VERSION, file).write_text("\n".join(released.written(tmp_path / file)) + "\n")
    kept = tmp_path / "kept"
    kept.mkdir()
    released.lay(VERSION, kept)
    for file in released.FILES:
        with closing(sqlite3.connect(kept / file)) as db, closing(sqlite3.connect(tmp_path / file)) as now:
            assert released.schema_of(db) == released.schema_of(now), (
                "the schema changed after it was kept: add a step, or write it anew if it was never released"
            )


@pytest.mark.parametrize("version", released.versions())
async def test_a_released_database_is_brought_up_to_date_with_all_that_is_in_it(
    version: str, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    released.lay(version, old)
    for state in (old, new):
        shape = shape_in(state)
        schema.migrate(shape.path, shape)
    for file in released.FILES:
        with closing(sqlite3.connect(old / file)) as grown, closing(sqlite3.connect(new / file)) as fresh:
            assert released.schema_of(grown) == released.schema_of(fresh)
            assert grown.execute("PRAGMA user_version").fetchone() == (schema.number_of(VERSION),)
    async with running(old, "another boot") as host:
        waiting = (await deliveries.take(TakeDelivery(wait_s=0), agent("iris"), host)).delivery
        assert waiting is not None
        assert waiting.message.body == "still to do"
        first = await messages.send(Send(to="iris", body="done before", key="1" * 32), OPERATOR, host)
        assert first.message < waiting.message.id
        page = await host.store.read(messages_of)
        assert page["done before"] == [DeliveryState.DONE.value]


def messages_of(db: sqlite3.Connection) -> dict[str, list[str]]:
    rows = db.execute(
        "SELECT body, state FROM messages AS m JOIN deliveries AS d ON d.id >> 7 = m.id"
    ).fetchall()
    return {body: [state for each, state in rows if each == body] for body, _ in rows}
