"""Messages over the sockets: who is the sender, who gets them, what is refused, what a repeat does."""

import msgspec
import pytest
import trio
from msgspec import structs

from brokerd.policy.guards import Guards
from protocol.brokerd import ListMessages, Marked, MarkRead
from protocol.limits import BODY_BYTES_MAX, PAGE_BYTES_MAX
from protocol.messages import DeliveryState
from protocol.problem import Problem, Refused
from protocol.tools import Ask, Send, Sent
from runtime.clock import new_key
from tests.brokerd.hive import UNHURRIED, Hive, cage
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("sender", "to", "recipients"),
    [
        ("operator", "iris", ("iris",)),
        ("iris", "atlas", ("atlas",)),
        ("iris", "manager", ("hm1nd",)),
        ("iris", "operator", ("operator",)),
        ("hm1nd", "*", ("atlas", "iris")),
        ("operator", "*", ("atlas", "hm1nd", "iris")),
    ],
)
async def test_the_sender_is_the_socket_and_the_message_is_there(
    hive: Hive, sender: str, to: str, recipients: tuple[str, ...]
) -> None:
    sent = await hive.send(sender, to, "how are you?")
    assert sent.recipients == recipients
    (message,) = await hive.messages()
    assert (message.id, message.sender, message.to, message.body) == (
        sent.message,
        sender,
        to,
        "how are you?",
    )
    assert message.broadcast == (to == "*")
    assert [receipt.recipient for receipt in message.deliveries] == list(recipients)
    assert {receipt.state for receipt in message.deliveries} == {DeliveryState.QUEUED}


REFUSED = [
    ("iris", "nobody", "x", Problem.NOT_FOUND, "there is no agent nobody; there are: atlas, hm1nd, iris"),
    ("iris", "system", "x", Problem.NOT_FOUND, "there is no agent system"),
    ("iris", "iris", "x", Problem.DENIED, "a message to yourself: use a reminder"),
    ("operator", "operator", "x", Problem.DENIED, "a message to yourself"),
    ("iris", "atlas", "a\0b", Problem.MALFORMED, "the body has a NUL character"),
    ("iris", "atlas", "", Problem.MALFORMED, "length >= 1"),
    ("iris", "atlas", "€" * 30_000, Problem.LIMIT, "the body has 90000 bytes, at most 65536"),
    ("iris", "At las", "x", Problem.MALFORMED, "an agent's name"),
]


@pytest.mark.parametrize(("sender", "to", "body", "problem", "words"), REFUSED)
async def test_what_is_refused_is_not_stored(
    hive: Hive, sender: str, to: str, body: str, problem: Problem, words: str
) -> None:
    with pytest.raises(Refused) as refused:
        await hive.send(sender, to, body)
    assert refused.value.problem is problem
    assert words in refused.value.detail
    assert await hive.messages() == ()


async def test_the_longest_body_arrives_whole(hive: Hive) -> None:
    body = "\x01" * (BODY_BYTES_MAX - 4) + "🐝"
    await hive.send("iris", "atlas", body)
    assert (await hive.taken("atlas")).message.body == body


async def test_settings_decide_who_may_write_to_whom(hive: Hive) -> None:
    hive.privd.change(cage("iris", allowed_recipients=()))
    await until(lambda: _is_denied(hive, "iris", "atlas"), what="the new settings")
    assert (await hive.send("iris", "operator")).recipients == ("operator",)
    assert (await hive.send("iris", "manager")).recipients == ("hm1nd",)
    with pytest.raises(Refused, match="iris may not write to everyone"):
        await hive.send("iris", "*")
    assert (await hive.send("hm1nd", "iris")).recipients == ("iris",)


async def _is_denied(hive: Hive, sender: str, to: str) -> bool:
    try:
        await hive.send(sender, to)
    except Refused as refused:
        return refused.detail == f"{sender} may not write to {to}"
    return False


async def test_whoever_wrote_may_be_answered_in_that_thread_only(hive: Hive) -> None:
    hive.privd.change(cage("iris", allowed_recipients=()))
    await until(lambda: _is_denied(hive, "iris", "atlas"), what="the new settings")
    asked = await hive.send("atlas", "iris", "are you there?")
    unrelated = await hive.send("operator", "iris")
    answer = await hive.send("iris", "atlas", "yes", in_reply_to=asked.message)
    assert answer.thread == asked.thread
    with pytest.raises(Refused, match="iris may not write to atlas"):
        await hive.send("iris", "atlas", "and?", in_reply_to=unrelated.message)
    with pytest.raises(Refused, match="iris may not write to atlas"):
        await hive.send("iris", "atlas", "and?", in_reply_to=999)


async def test_a_repeat_gets_the_first_answer_whatever_changed_since(hive: Hive) -> None:
    key = new_key()
    first = await hive.send("iris", "atlas", "once", key=key)
    assert await hive.send("iris", "atlas", "once", key=key) == first
    hive.privd.change(cage("iris", allowed_recipients=()))
    await until(lambda: _is_denied(hive, "iris", "atlas"), what="the new settings")
    assert await hive.send("iris", "atlas", "once", key=key) == first
    assert [message.id for message in await hive.messages() if message.body == "once"] == [first.message]


@pytest.mark.parametrize("other", [{"body": "other"}, {"to": "hm1nd"}, {"in_reply_to": 1}])
async def test_a_key_is_for_one_message(hive: Hive, other: dict[str, object]) -> None:
    key = new_key()
    await hive.send("iris", "atlas", key=key)
    request = msgspec.structs.replace(Send(to="atlas", body="hello", key=key), **other)
    with pytest.raises(Refused, match="this key was used for another message") as refused:
        await hive.agent("iris").call(request)
    assert refused.value.problem is Problem.CONFLICT


async def test_two_senders_may_use_the_same_key(hive: Hive) -> None:
    key = new_key()
    sent = {(await hive.send(sender, "hm1nd", key=key)).message for sender in ("iris", "atlas", "operator")}
    assert len(sent) == 3


async def test_many_senders_at_once_each_get_their_own_answer(hive: Hive) -> None:
    answers: dict[str, Sent] = {}

    async def send(number: int) -> None:
        body = f"message {number}"
        answers[body] = await hive.send(("operator", "iris", "hm1nd")[number % 3], "atlas", body)

    async with trio.open_nursery() as nursery:
        for number in range(90):
            nursery.start_soon(send, number)
    assert {message.body: message.id for message in await hive.messages()} == {
        body: sent.message for body, sent in answers.items()
    }
    assert len({sent.seq for sent in answers.values()}) == 90


@pytest.mark.parametrize("guards", [Guards(inbox_deliveries_max=3)])
async def test_a_full_inbox_takes_nothing_more_from_anybody(hive: Hive) -> None:
    refusals: list[Refused] = []

    async def send() -> None:
        try:
            await hive.send("operator", "iris")
        except Refused as refused:
            refusals.append(refused)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(send)
    assert len(await hive.messages()) == 3
    assert {refused.problem for refused in refusals} == {Problem.LIMIT}
    with pytest.raises(Refused, match="iris has 3 messages waiting; nothing was stored"):
        await hive.send("hm1nd", "*")  # all or nothing: atlas gets none either
    assert len(await hive.messages()) == 3
    _, turn = await hive.begun("iris")
    await hive.end("iris", turn)
    assert (await hive.send("operator", "iris")).recipients == ("iris",)


@pytest.mark.parametrize("guards", [Guards(inbox_deliveries_max=2)])
async def test_a_repeat_does_not_count_against_the_inbox(hive: Hive) -> None:
    key = new_key()
    for _ in range(5):
        await hive.send("operator", "iris", key=key)
    await hive.send("operator", "iris")
    with pytest.raises(Refused, match="2 messages waiting"):
        await hive.send("operator", "iris")


@pytest.mark.parametrize("guards", [structs.replace(UNHURRIED, share_deliveries_max=5)])
async def test_no_agent_alone_fills_the_inbox_of_another(hive: Hive) -> None:
    for _ in range(5):
        await hive.send("iris", "atlas")
    for _ in range(3):
        with pytest.raises(Refused, match="5 messages of iris wait for atlas; nothing was stored") as refusal:
            await hive.send("iris", "atlas")
        assert refusal.value.problem is Problem.LIMIT
    with pytest.raises(Refused, match="5 messages of iris wait for atlas"):
        await hive.agent("iris").call(Ask(question="may I?", to="atlas", key=new_key()))
    with pytest.raises(Refused, match="5 messages of iris wait for atlas"):
        await hive.send("iris", "*")
    assert len(await hive.messages()) == 5
    for sender in ("hm1nd", "operator"):
        for _ in range(7):
            await hive.send(sender, "atlas")
    await hive.send("iris", "hm1nd")
    _, turn = await hive.begun("atlas")
    await hive.end("atlas", turn)
    await hive.send("iris", "atlas")
    with pytest.raises(Refused, match="5 messages of iris wait for atlas"):
        await hive.send("iris", "atlas")


@pytest.mark.parametrize("guards", [structs.replace(UNHURRIED, share_bytes_max=BODY_BYTES_MAX)])
async def test_nor_by_long_messages(hive: Hive) -> None:
    half = "x" * (BODY_BYTES_MAX // 2)
    for _ in range(2):
        await hive.send("iris", "atlas", half)
    with pytest.raises(Refused, match=f"{BODY_BYTES_MAX} bytes of iris's messages wait for atlas"):
        await hive.send("iris", "atlas", "x")
    assert (await hive.send("hm1nd", "atlas", half)).recipients == ("atlas",)


async def test_lists_lead_to_the_first_message(hive: Hive) -> None:
    sent = [(await hive.send("operator", "iris", str(number))).message for number in range(7)]
    read: list[int] = []
    before: int | None = None
    while True:
        page = await hive.operator.call(ListMessages(before=before, limit=3))
        read += [message.id for message in page.messages]
        before = page.before
        if before is None:
            break
    assert read == sent[::-1]


async def test_lists_of_an_agent_and_of_a_thread(hive: Hive) -> None:
    asked = await hive.send("atlas", "iris", "question")
    await hive.send("operator", "hm1nd")
    answered = await hive.send("iris", "atlas", "answer", in_reply_to=asked.message)
    both = [answered.message, asked.message]
    for request in (
        ListMessages(agent="iris"),
        ListMessages(thread=asked.thread),
        ListMessages(agent="atlas", thread=1),
    ):
        page = await hive.operator.call(request)
        assert [message.id for message in page.messages] == both


async def test_a_page_is_bounded_in_bytes_and_leads_on(hive: Hive) -> None:
    sent = [(await hive.send("operator", "iris", "\x01" * 60_000)).message for _ in range(3)]
    page = await hive.operator.call(ListMessages())
    assert [message.id for message in page.messages] == sent[:1:-1]
    assert len(msgspec.json.encode(page)) <= PAGE_BYTES_MAX
    assert page.before == sent[2]
    older = await hive.operator.call(ListMessages(before=page.before))
    assert older.messages[0].id == sent[1]


async def test_the_operator_marks_what_was_read(hive: Hive) -> None:
    sent = await hive.send("iris", "operator")
    assert (await hive.snapshot()).operator_unread == 1
    marked = await hive.operator.call(MarkRead((sent.message, 999)))
    assert await hive.states(sent.message) == [DeliveryState.DONE]
    assert (await hive.snapshot()).operator_unread == 0
    assert await hive.operator.call(MarkRead((sent.message,))) == Marked(marked.seq)
