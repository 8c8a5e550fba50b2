"""What an agent may look up of its own messages, and that it is nothing but its own."""

import pytest

from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import Answer, Ask, OpenMatters, OpenThreads, ReadReceipt
from runtime.clock import new_key
from tests.brokerd.hive import Hive

pytestmark = pytest.mark.anyio


async def open_matters(hive: Hive, name: str) -> OpenMatters:
    return await hive.agent(name).call(OpenThreads())


async def test_a_receipt_says_what_became_of_a_message(hive: Hive) -> None:
    sent = await hive.send("iris", "atlas")

    async def state() -> DeliveryState:
        message = await hive.agent("iris").call(ReadReceipt(sent.message))
        assert (message.body, message.deliveries[0].recipient) == ("hello", "atlas")
        return message.deliveries[0].state

    assert await state() == DeliveryState.QUEUED
    delivery = await hive.taken("atlas")
    assert await state() == DeliveryState.LEASED
    turn = await hive.begin("atlas", delivery)
    assert await state() == DeliveryState.IN_TURN
    await hive.end("atlas", turn)
    assert await state() == DeliveryState.DONE


async def test_a_receipt_of_a_broadcast_has_everybody(hive: Hive) -> None:
    sent = await hive.send("hm1nd", "*")
    message = await hive.agent("hm1nd").call(ReadReceipt(sent.message))
    assert [receipt.recipient for receipt in message.deliveries] == ["atlas", "iris"]


@pytest.mark.parametrize("reader", ["atlas", "hm1nd"])
async def test_nobody_reads_the_receipts_of_others(hive: Hive, reader: str) -> None:
    """Neither who got the message nor the manager."""
    sent = await hive.send("iris", "atlas")
    with pytest.raises(Refused, match=f"{reader} sent no message {sent.message}") as refused:
        await hive.agent(reader).call(ReadReceipt(sent.message))
    assert refused.value.problem is Problem.NOT_FOUND
    with pytest.raises(Refused, match=f"{reader} sent no message 99"):
        await hive.agent(reader).call(ReadReceipt(99))


async def test_a_thread_waits_for_whoever_did_not_have_the_last_word(hive: Hive) -> None:
    first = await hive.send("iris", "atlas", "could  you\nlook?")
    (mine,) = (await open_matters(hive, "iris")).threads
    assert (mine.thread, mine.other, mine.waits_for, mine.last_message) == (
        first.thread,
        "atlas",
        "atlas",
        first.message,
    )
    assert mine.text == "could you look?"
    (theirs,) = (await open_matters(hive, "atlas")).threads
    assert (theirs.other, theirs.waits_for) == ("iris", "atlas")
    second = await hive.send("atlas", "iris", "at what?", in_reply_to=first.message)
    (mine,) = (await open_matters(hive, "iris")).threads
    assert (mine.waits_for, mine.last_message) == ("iris", second.message)
    assert (await open_matters(hive, "atlas")).threads == ()  # it answered what it was asked
    await hive.send("iris", "atlas", "at this", in_reply_to=second.message)
    assert [each.waits_for for each in (await open_matters(hive, "iris")).threads] == ["atlas"]
    assert [each.waits_for for each in (await open_matters(hive, "atlas")).threads] == ["atlas"]
    assert (await open_matters(hive, "hm1nd")) == OpenMatters((), ())


async def test_threads_stand_newest_first_and_the_manager_is_called_by_its_name(hive: Hive) -> None:
    await hive.send("operator", "iris", "one")
    await hive.send("iris", "manager", "two")
    await hive.send("iris", "*", "three")
    found = (await open_matters(hive, "iris")).threads
    assert [(each.other, each.waits_for, each.text) for each in found] == [
        ("*", "*", "three"),
        ("hm1nd", "hm1nd", "two"),
        ("operator", "iris", "one"),
    ]
    assert [each.text for each in (await open_matters(hive, "hm1nd")).threads] == ["two"]
    assert (await open_matters(hive, "atlas")).threads == ()  # a broadcast asks nobody in particular


async def test_questions_are_open_for_both_sides_until_they_end(hive: Hive) -> None:
    asked = await hive.agent("iris").call(Ask(question="which?", key=new_key(), to="atlas"))
    other = await hive.agent("iris").call(Ask(question="may I?", key=new_key()))
    assert await open_matters(hive, "iris") == OpenMatters((), (asked, other))
    assert await open_matters(hive, "atlas") == OpenMatters((), (asked,))
    assert await open_matters(hive, "hm1nd") == OpenMatters((), ())
    await hive.agent("atlas").call(Answer(asked.id, "this"))
    assert await open_matters(hive, "iris") == OpenMatters((), (other,))
    assert await open_matters(hive, "atlas") == OpenMatters((), ())


async def test_what_is_long_ago_is_not_open_any_more(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    await hive.send("iris", "atlas", "one")
    await hive.send("iris", "atlas", "two")
    await hive.send("iris", "atlas", "three")
    with monkeypatch.context() as few:
        few.setattr("brokerd.store.threads.SCANNED_ROWS_MAX", 2)
        assert [each.text for each in (await open_matters(hive, "iris")).threads] == ["three", "two"]
    with monkeypatch.context() as few:
        few.setattr("brokerd.store.threads.OPEN_MAX", 1)
        assert [each.text for each in (await open_matters(hive, "iris")).threads] == ["three"]
    monkeypatch.setattr("brokerd.store.threads.LOOKED_BACK_MS", -10_000)
    assert (await open_matters(hive, "iris")).threads == ()
