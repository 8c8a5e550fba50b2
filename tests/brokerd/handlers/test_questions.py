"""Questions over the sockets: who is asked, who may answer, how the answer travels, what a repeat does."""

from contextlib import closing

import pytest
from trio.testing import MockClock

from brokerd.live.alarm import CLOCK_LOOK_S
from brokerd.policy.guards import MINUTE_S, Guards
from brokerd.policy.settling import CRASHES_MAX
from brokerd.store.schema import shape_of
from protocol.brokerd import CloseThread, FeedEvent, ListQuestions, QuestionChanged, WatchFeed
from protocol.limits import QUESTION_CHARS_MAX, QUESTIONS_OPEN_MAX
from protocol.messages import SystemEvent
from protocol.privd import Power
from protocol.problem import Problem, Refused
from protocol.questions import Question, QuestionState
from protocol.tools import Answer, Ask
from protocol.turns import Outcome
from runtime.clock import new_key
from runtime.store import connect
from tests.brokerd.conftest import Wall
from tests.brokerd.hive import Hive, cage
from tests.support.quiet import settled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def ask(hive: Hive, asker: str, text: str = "which one?", **more: object) -> Question:
    key = more.pop("key", None) or new_key()
    return await hive.agent(asker).call(Ask(question=text, key=key, **more))  # type: ignore[arg-type]  # what a test varies


async def answer(
    hive: Hive, by: str, question: Question, text: str = "", choices: tuple[str, ...] = ()
) -> Question:
    client = hive.operator if by == "operator" else hive.agent(by)
    return await client.call(Answer(question=question.id, answer=text, choices=choices))


async def listed(hive: Hive, **more: object) -> tuple[Question, ...]:
    return (await hive.operator.call(ListQuestions(**more))).questions  # type: ignore[arg-type]  # what a test varies


async def test_a_question_to_the_operator_is_in_the_list_and_its_answer_comes_as_a_message(
    hive: Hive,
) -> None:
    asked = await ask(hive, "iris", "may I?")
    assert (asked.asker, asked.asked_of, asked.text, asked.state) == ("iris", "operator", "may I?", "open")
    assert asked.deadline_ms is None
    assert await listed(hive) == (asked,) == (await hive.snapshot()).questions
    assert await hive.messages() == ()
    answered = await answer(hive, "operator", asked, "yes\nplease")
    assert (answered.state, answered.answer, answered.answered_by) == ("answered", "yes\nplease", "operator")
    assert await listed(hive) == () == (await hive.snapshot()).questions
    assert await listed(hive, open=False) == (answered,)
    told = (await hive.taken("iris")).message
    assert (told.sender, told.to, told.event, told.about) == (
        "operator",
        "iris",
        SystemEvent.ANSWERED,
        asked.id,
    )
    assert told.body == "You asked operator (question 1):\n> may I?\n\nyes\nplease"


async def test_a_question_to_an_agent_comes_as_a_message_and_so_does_its_answer(hive: Hive) -> None:
    asked = await ask(hive, "iris", "which?", to="atlas", options=("red", "blue", "green"), multi=True)
    message = (await hive.taken("atlas")).message
    assert (message.sender, message.to, message.event, message.about) == (
        "iris",
        "atlas",
        SystemEvent.QUESTION,
        asked.id,
    )
    assert message.body == "which?\n\nChoose one or more of these:\n- red\n- blue\n- green"
    answered = await answer(hive, "atlas", asked, "not green", ("blue", "red"))
    assert answered.choices == ("red", "blue")
    told = (await hive.taken("iris")).message
    assert (told.sender, told.in_reply_to, told.thread) == ("atlas", message.id, message.id)
    assert told.body == "You asked atlas (question 1):\n> which?\n\n- red\n- blue\nnot green"
    assert told.event is SystemEvent.ANSWERED


async def test_the_manager_is_asked_by_its_alias(hive: Hive) -> None:
    asked = await ask(hive, "iris", to="manager")
    assert asked.asked_of == "hm1nd"
    assert (await hive.taken("hm1nd")).message.to == "manager"
    assert (await answer(hive, "hm1nd", asked, "that one")).answered_by == "hm1nd"


UNASKABLE = [
    ({"to": "iris"}, Problem.DENIED, "a message to yourself"),
    ({"to": "*"}, Problem.MALFORMED, "not of everyone"),
    ({"to": "nobody"}, Problem.NOT_FOUND, "there are: atlas, hm1nd, iris"),
    ({"text": " \n"}, Problem.MALFORMED, "the question is empty"),
    ({"text": "a\0b"}, Problem.MALFORMED, "NUL"),
    ({"text": "x" * (QUESTION_CHARS_MAX + 1)}, Problem.MALFORMED, "length <= 8000"),
    ({"multi": True}, Problem.MALFORMED, "multi needs options"),
    ({"options": ("a", "a")}, Problem.MALFORMED, "the option 'a' is there twice"),
    ({"options": ("a", "b\nc")}, Problem.MALFORMED, "option 2 is not one line"),
    ({"options": ("a",) * 21}, Problem.MALFORMED, "length <= 20"),
    ({"ttl_s": 1}, Problem.MALFORMED, ">= 30"),
]


@pytest.mark.parametrize(("more", "problem", "words"), UNASKABLE)
async def test_what_cannot_be_asked_is_not_stored(
    hive: Hive, more: dict[str, object], problem: Problem, words: str
) -> None:
    with pytest.raises(Refused) as refused:
        await ask(hive, "iris", **more)  # type: ignore[arg-type]  # what is varied
    assert refused.value.problem is problem
    assert words in refused.value.detail
    assert await listed(hive, open=False) == ()
    assert await hive.messages() == ()


async def test_whom_one_may_not_write_to_one_may_not_ask(hive: Hive) -> None:
    hive.privd.change(cage("iris", allowed_recipients=()))

    async def is_denied() -> bool:
        try:
            await ask(hive, "iris", to="atlas")
        except Refused as refused:
            return (refused.problem, refused.detail) == (Problem.DENIED, "iris may not write to atlas")
        return False

    await until(is_denied, what="the new settings")
    assert (await ask(hive, "iris")).asked_of == "operator"
    assert (await ask(hive, "iris", to="manager")).asked_of == "hm1nd"
    asked = await ask(hive, "atlas", to="iris")
    assert (await answer(hive, "iris", asked, "to whom I may not write")).state == "answered"


@pytest.mark.parametrize("by", ["operator", "hm1nd", "iris"])
async def test_nobody_answers_for_another(hive: Hive, by: str) -> None:
    asked = await ask(hive, "iris", to="atlas")
    with pytest.raises(Refused) as refused:
        await answer(hive, by, asked, "yes")
    # Who has no part in it does not even learn that it is there.
    assert refused.value.problem is (Problem.NOT_FOUND if by == "hm1nd" else Problem.DENIED)
    assert await listed(hive) == (asked,)


async def test_nobody_answers_what_was_never_asked(hive: Hive) -> None:
    with pytest.raises(Refused, match="there is no question 7"):
        await hive.operator.call(Answer(7, "yes"))


UNANSWERABLE = [
    ({}, "", (), "the answer is empty"),
    ({}, " \n", (), "the answer is empty"),
    ({}, "a\0", (), "NUL"),
    ({}, "yes", ("yes",), "has no options: answer it in words"),
    (
        {"options": ("a", "b")},
        "a",
        (),
        "0 of the options are chosen; question 1: choose exactly one of 'a', 'b'",
    ),
    ({"options": ("a", "b")}, "", ("c",), "'c' is no option of question 1; choose exactly one of 'a', 'b'"),
    ({"options": ("a", "b")}, "", ("a", "b"), "2 of the options are chosen"),
    ({"options": ("a", "b"), "multi": True}, "", (), "choose one or more of 'a', 'b'"),
    ({"options": ("a", "b"), "multi": True}, "", ("a", "a"), "chosen twice"),
]


@pytest.mark.parametrize(("form", "text", "choices", "words"), UNANSWERABLE)
async def test_an_answer_fits_the_form_of_its_question(
    hive: Hive, form: dict[str, object], text: str, choices: tuple[str, ...], words: str
) -> None:
    asked = await ask(hive, "iris", **form)  # type: ignore[arg-type]  # what is varied
    with pytest.raises(Refused) as refused:
        await answer(hive, "operator", asked, text, choices)
    assert refused.value.problem is Problem.MALFORMED
    assert words in refused.value.detail
    assert await listed(hive) == (asked,)
    assert await hive.messages() == ()


async def test_the_same_answer_again_is_harmless_and_another_is_not(hive: Hive) -> None:
    asked = await ask(hive, "iris", options=("a", "b"), multi=True)
    first = await answer(hive, "operator", asked, "both", ("a", "b"))
    assert await answer(hive, "operator", asked, "both", ("b", "a")) == first
    with pytest.raises(Refused, match="question 1 was answered already") as refused:
        await answer(hive, "operator", asked, "both", ("a",))
    assert refused.value.problem is Problem.CONFLICT
    assert await listed(hive, open=False) == (first,)
    assert len(await hive.messages()) == 1


async def test_a_repeated_question_is_the_same_question(hive: Hive) -> None:
    key = new_key()
    asked = await ask(hive, "iris", to="atlas", key=key)
    assert await ask(hive, "iris", to="atlas", key=key) == asked
    answered = await answer(hive, "atlas", asked, "yes")
    hive.privd.change(cage("iris", allowed_recipients=()))  # whatever changed since
    assert await ask(hive, "iris", to="atlas", key=key) == answered
    with pytest.raises(Refused, match="this key was used") as refused:
        await ask(hive, "iris", "another", to="atlas", key=key)
    assert refused.value.problem is Problem.CONFLICT
    assert [message.event for message in await hive.messages()] == [
        SystemEvent.QUESTION,
        SystemEvent.ANSWERED,
    ]


async def ask_many(hive: Hive, clock: MockClock, asker: str, count: int, **more: object) -> list[Question]:
    """Slowly enough for the guards."""
    asked: list[Question] = []
    for number in range(count):
        if number % 20 == 0:
            clock.jump(MINUTE_S)
        asked.append(await ask(hive, asker, str(number), **more))
    return asked


async def test_one_agent_asks_so_much_and_no_more(hive: Hive, clock: MockClock) -> None:
    asked = await ask_many(hive, clock, "iris", QUESTIONS_OPEN_MAX)
    clock.jump(MINUTE_S)
    with pytest.raises(Refused, match="iris has 50 questions open") as refused:
        await ask(hive, "iris")
    assert refused.value.problem is Problem.LIMIT
    await ask(hive, "atlas")
    await answer(hive, "operator", asked[0], "yes")
    assert (await ask(hive, "iris")).state == "open"


async def test_what_happens_to_a_question_is_in_the_feed(hive: Hive) -> None:
    start = await hive.snapshot()
    asked = await ask(hive, "iris")
    answered = await answer(hive, "operator", asked, "yes")
    found: list[FeedEvent] = []
    async with hive.operator.watch(WatchFeed(start.epoch, start.seq)) as events:
        async for event in events:
            found.append(event)
            if isinstance(event.body, QuestionChanged) and event.body.question.state == "answered":
                break
    changes = [event.body.question for event in found if isinstance(event.body, QuestionChanged)]
    assert changes == [asked, answered]


async def test_lists_lead_to_the_first_question(hive: Hive) -> None:
    asked = [await ask(hive, ("iris", "atlas")[number % 2], str(number)) for number in range(7)]
    for agent, expected in ((None, asked), ("iris", asked[::2]), ("operator", asked)):
        found: list[Question] = []
        before: int | None = None
        while True:
            page = await hive.operator.call(ListQuestions(agent=agent, before=before, limit=2))
            found += page.questions
            before = page.before
            if before is None:
                break
        assert found == expected[::-1]


async def test_a_page_is_bounded_in_bytes_and_leads_on(hive: Hive) -> None:
    text = "\x01" * QUESTION_CHARS_MAX  # six bytes each, as JSON
    asked = [await ask(hive, "iris", text) for _ in range(15)]
    page = await hive.operator.call(ListQuestions())
    assert 0 < len(page.questions) < 15
    older = await hive.operator.call(ListQuestions(before=page.before))
    assert page.questions + older.questions == tuple(asked[::-1])
    assert older.before is None


async def test_agents_questions_do_not_crowd_out_the_operators(hive: Hive, clock: MockClock) -> None:
    for name in ("iris", "hm1nd"):
        await ask_many(hive, clock, name, QUESTIONS_OPEN_MAX, to="atlas")
    for_operator = await ask(hive, "atlas")
    shown = (await hive.snapshot()).questions
    assert len(shown) == 2 * QUESTIONS_OPEN_MAX + 1
    assert for_operator in shown


@pytest.mark.parametrize(
    "damage",
    [
        "form = x'7b'",
        "form = x'ff'",
        """form = CAST('{"text":"x","other":1}' AS BLOB)""",
        "state = 'perhaps'",
        "reply = x'5b'",
    ],
)
async def test_one_bad_row_hides_no_other(
    unserved: Hive, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hive = unserved
    async with hive.broker():
        first, bad, last = [await ask(hive, "iris", str(number)) for number in range(3)]
    with closing(connect(shape_of(hive.settings.database, hive.settings.events_database))) as db:
        db.execute(f"UPDATE questions SET {damage} WHERE id = ?", (bad.id,))
    async with hive.broker():
        taken = await hive.snapshot()
        assert taken.questions == (first, last)
        assert [broken.id for broken in taken.broken_questions] == [bad.id]
        for open_only in (True, False):
            page = await hive.operator.call(ListQuestions(open=open_only))
            assert page.questions == (last, first)
            assert page.broken == taken.broken_questions
        with pytest.raises(Refused, match="question 2 is stored but cannot be read") as refused:
            await answer(hive, "operator", bad, "yes")
        assert refused.value.problem is Problem.FAILED
        assert (await answer(hive, "operator", last, "yes")).state is QuestionState.ANSWERED
    assert "a question cannot be read" in "".join(capsys.readouterr())


async def test_questions_survive_a_restart(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        asked = await ask(hive, "iris", to="atlas", options=("a", "b"))
    async with hive.broker():
        assert await listed(hive) == (asked,)
        answered = await answer(hive, "atlas", asked, choices=("b",))
    async with hive.broker():
        assert await listed(hive, open=False) == (answered,)
        assert (await hive.taken("iris")).message.event is SystemEvent.ANSWERED


@pytest.mark.parametrize("guards", [Guards()])
async def test_what_is_true_of_messages_is_true_of_questions_to_agents(hive: Hive, clock: MockClock) -> None:
    """The guards count them, and whoever goes on too long among agents is held."""
    asked = [await ask(hive, "iris", to="atlas") for _ in range(Guards().pair_messages_per_minute)]
    with pytest.raises(Refused, match="iris to atlas: at most 20 messages in a minute") as refused:
        await ask(hive, "iris", to="atlas")
    assert refused.value.problem is Problem.LIMIT
    assert len(await listed(hive)) == len(asked)
    clock.jump(MINUTE_S)
    with pytest.raises(Refused, match="NUL"):
        await ask(hive, "iris", "\0", to="atlas")  # what was refused costs nothing
    assert (await ask(hive, "iris", to="atlas")).state == "open"


@pytest.mark.parametrize("guards", [Guards(hops_max=10)])
async def test_agents_that_only_ask_and_answer_come_to_an_end(hive: Hive, guards: Guards) -> None:
    """An answer counts as a message of the chain, but is never held itself."""
    hops_max = guards.hops_max
    asker, asked_of = "iris", "atlas"
    hops: list[int] = []
    await hive.send("operator", "iris", "go")
    for _ in range(hops_max):
        _, turn = await hive.begun(asker)
        asked = await ask(hive, asker, to=asked_of)
        await hive.end(asker, turn)
        delivery = await hive.take(asked_of)
        if delivery is None:
            break
        hops.append(delivery.message.hops)
        answering = await hive.begin(asked_of, delivery)
        await answer(hive, asked_of, asked, "and you?")
        await hive.end(asked_of, answering)
    assert hops == list(range(1, hops_max + 1, 2))
    (parked,) = (await hive.snapshot()).parked
    assert parked.held == 1


async def test_a_question_expires_and_its_asker_is_told(hive: Hive, clock: MockClock, wall: Wall) -> None:
    never = await ask(hive, "iris", "for ever?")
    asked = await ask(hive, "iris", "in time?", to="atlas", ttl_s=60)
    assert asked.deadline_ms == asked.asked_ms + 60_000
    wall.set_by_s += 50
    clock.jump(CLOCK_LOOK_S)
    await settled()
    assert await listed(hive) == (asked, never)
    wall.set_by_s += 11
    clock.jump(CLOCK_LOOK_S)
    told = (await hive.taken("iris", wait_s=20)).message
    assert (told.sender, told.event, told.about) == ("system", SystemEvent.EXPIRED, asked.id)
    assert told.body == "expired: atlas did not answer question 2 in time:\n> in time?"
    assert await listed(hive) == (never,)
    ended = (await listed(hive, open=False))[0]
    assert (ended.state, ended.answered_by) == ("expired", None)
    with pytest.raises(Refused, match="the time to answer question 2 is over"):
        await answer(hive, "atlas", asked, "too late")


async def test_an_answer_after_the_deadline_is_too_late_even_before_anybody_noticed(
    hive: Hive, wall: Wall
) -> None:
    asked = await ask(hive, "iris", ttl_s=60)
    await settled()  # the alarm sleeps
    wall.set_by_s += 60
    with pytest.raises(Refused, match="is over") as refused:
        await answer(hive, "operator", asked, "yes")
    assert refused.value.problem is Problem.CONFLICT
    assert await listed(hive) == (asked,)


async def test_many_expire_in_batches_and_one_bad_row_stops_none(
    unserved: Hive, wall: Wall, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("brokerd.live.deadlines.EXPIRED_PER_JOB_MAX", 3)
    hive = unserved
    async with hive.broker():
        asked = [await ask(hive, "iris", str(number), ttl_s=60 + number) for number in range(8)]
    with closing(connect(shape_of(hive.settings.database, hive.settings.events_database))) as db:
        db.execute("UPDATE questions SET form = x'ff' WHERE id = 5")
    wall.set_by_s += 3_600  # while brokerd was down
    async with hive.broker():

        async def all_told() -> bool:
            return {message.about for message in await hive.messages()} == {each.id for each in asked}

        await until(all_told, what="every asker to be told, the one of the bad row too")
        assert len(await hive.messages()) == 8
        assert {message.event for message in await hive.messages()} == {SystemEvent.EXPIRED}
        page = await hive.operator.call(ListQuestions(open=False))
        assert {question.state for question in page.questions} == {"expired"}
        assert [broken.id for broken in page.broken] == [5]
        assert (await hive.snapshot()).broken_questions == ()
    assert "a question that ended cannot be read" in "".join(capsys.readouterr())


async def test_who_is_purged_leaves_no_question_open(hive: Hive) -> None:
    of_atlas = await ask(hive, "atlas", "mine?")
    to_atlas = await ask(hive, "iris", "yours?", to="atlas")
    other = await ask(hive, "iris", "the operator's?")
    hive.privd.remove("atlas")
    told = (await hive.taken("iris", wait_s=20)).message
    assert (told.sender, told.event, told.about) == ("system", SystemEvent.EXPIRED, to_atlas.id)
    assert told.body == "expired: atlas was removed and cannot answer question 2 any more:\n> yours?"
    assert await listed(hive) == (other,)
    assert {each.id: each.state for each in await listed(hive, open=False)} == {
        of_atlas.id: "closed",
        to_atlas.id: "closed",
        other.id: "open",
    }
    with pytest.raises(Refused, match="question 1 is closed: nobody waits for the answer"):
        await answer(hive, "operator", of_atlas, "yes")


async def test_a_question_whose_delivery_is_given_up_ends(hive: Hive) -> None:
    asked = await ask(hive, "iris", "yours?", to="atlas")
    other = await ask(hive, "iris", "the operator's?")
    for _ in range(CRASHES_MAX):
        _, turn = await hive.begun("atlas")
        await hive.end("atlas", turn, Outcome.CRASHED)
    told = (await hive.taken("iris", wait_s=20)).message
    assert (told.sender, told.event, told.about) == ("system", SystemEvent.EXPIRED, asked.id)
    assert told.body.startswith(f"expired: question {asked.id} was given up before atlas answered it")
    assert await listed(hive) == (other,)
    with pytest.raises(Refused, match="is closed: nobody waits for the answer"):
        await answer(hive, "atlas", asked, "too late")


@pytest.mark.parametrize("guards", [Guards(hops_max=1)])
async def test_a_question_in_a_thread_that_is_closed_ends(hive: Hive) -> None:
    await hive.send("operator", "iris")
    _, turn = await hive.begun("iris")
    await hive.send("iris", "atlas")
    await hive.end("iris", turn)
    _, turn = await hive.begun("atlas")
    asked = await ask(hive, "atlas", "still there?", to="iris")
    (thread,) = (await hive.snapshot()).parked
    await hive.operator.call(CloseThread(thread.thread))
    await hive.end("atlas", turn)
    told = (await hive.taken("atlas", wait_s=20)).message
    assert (told.event, told.about) == (SystemEvent.EXPIRED, asked.id)
    assert await listed(hive) == ()


async def test_what_was_given_up_when_brokerd_ended_is_told_by_the_next(unserved: Hive) -> None:
    hive = unserved
    async with hive.broker():
        asked = await ask(hive, "iris", "yours?", to="atlas")
    with closing(connect(shape_of(hive.settings.database, hive.settings.events_database))) as db:
        db.execute("UPDATE deliveries SET state = 'dead' WHERE recipient = 'atlas'")
    async with hive.broker():
        told = (await hive.taken("iris", wait_s=20)).message
        assert (told.event, told.about) == (SystemEvent.EXPIRED, asked.id)
        assert (await hive.snapshot()).questions == ()


async def test_who_is_only_kept_may_still_be_answered(hive: Hive) -> None:
    asked = await ask(hive, "iris")
    hive.privd.change(cage("iris", Power.KEPT))

    async def is_forgotten() -> bool:
        return "iris" not in {now.agent.name for now in (await hive.snapshot()).agents}

    await until(is_forgotten, what="iris to go")
    await answer(hive, "operator", asked, "when you are back")
    hive.privd.change(cage("iris"))
    await hive.served("iris")
    assert (await hive.taken("iris")).message.event is SystemEvent.ANSWERED


@pytest.mark.parametrize(
    "text",
    ["/clear", "<script>alert(1)</script>", "\x1b[2J\u202e\u2028", "----- end 5f2c -----", "🐝\r\n\t" * 20],
)
async def test_words_arrive_as_they_were_written(hive: Hive, text: str) -> None:
    """What they do to a reader is the reader's business: here nothing is changed, and nothing left out."""
    asked = await ask(hive, "iris", text, to="atlas")
    assert (await hive.taken("atlas")).message.body == text
    answered = await answer(hive, "atlas", asked, text)
    assert await listed(hive, open=False) == (answered,)
    assert (answered.text, answered.answer) == (text, text)
    assert (await hive.taken("iris")).message.body.endswith(f"\n\n{text}")
