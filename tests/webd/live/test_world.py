"""The merged picture: state words, and that it does not matter from where one began to listen."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.brokerd import (
    Activity,
    Agent,
    AgentChanged,
    AgentNow,
    AnyFeedBody,
    DeliveryChanged,
    FeedEvent,
    MessageSent,
    ParkedThread,
    QuestionChanged,
    ReminderChanged,
    Snapshot,
    ThreadParked,
    ThreadReleased,
    TurnChanged,
    TurnEventAdded,
)
from protocol.hello import Greeting
from protocol.messages import DeliveryState, Message, Receipt
from protocol.privd import Cage, Power
from protocol.questions import Broken, Question, QuestionState
from protocol.reminders import Once, Reminder, ReminderState
from protocol.settings import AgentRole, AgentSettings, Runner
from protocol.turns import Outcome, Said, ToolCalled, Turn
from webd.live.counts import OPEN, pulse
from webd.live.flow import KEPT_MAX, WINDOW_MESSAGES
from webd.live.rows import AgentState
from webd.live.world import LATE_MS, Change, Unknown, World

NOW = 1_800_000_000_000
NAMES = ("hm1nd", "iris", "atlas")
TURN = Turn(1, "iris", "operator", 1, NOW)


def cage(name: str = "iris", power: Power = Power.RUNNING, **more: object) -> Cage:
    return Cage(name, power, NOW, "nspawn", 1, 2, AgentSettings(name=name), **more)  # type: ignore[arg-type]  # what a test varies


def agent(name: str = "iris", activity: Activity = Activity.IDLE, **more: object) -> Agent:
    return Agent(name, AgentRole.AGENT, activity, NOW + 5, **more)  # type: ignore[arg-type]  # what a test varies


def world() -> World:
    return World("hive", "1")


def heard(picture: World, *bodies: AnyFeedBody, now_ms: int = NOW) -> list[Change]:
    told: list[Change] = []
    for body in bodies:
        told += picture.heard(FeedEvent(picture.seq + 1, now_ms, body), now_ms)
    return told


def receipt(
    number: int, state: DeliveryState = DeliveryState.QUEUED, recipient: str = "iris", changed_ms: int = NOW
) -> Receipt:
    return Receipt(number, number, recipient, state, None, 0, changed_ms)


def message(number: int, *receipts: Receipt, to: str = "iris") -> Message:
    return Message(number, number, None, "operator", to, False, f"m{number}", NOW, receipts)


# ------------------------------------------------------------------------------------------------------- state words


@pytest.mark.parametrize(
    ("power", "activity", "parked", "state"),
    [
        (Power.STOPPED, Activity.IDLE, None, AgentState.OFFLINE),
        (Power.STARTING, Activity.ABSENT, None, AgentState.STARTING),
        (Power.STOPPING, Activity.THINKING, None, AgentState.STOPPING),
        (Power.CRASHED, Activity.THINKING, None, AgentState.CRASHED),
        (Power.FAILED, Activity.ABSENT, None, AgentState.FAILED),
        (Power.RUNNING, Activity.ABSENT, None, AgentState.STARTING),
        (Power.RUNNING, Activity.IDLE, None, AgentState.IDLE),
        (Power.RUNNING, Activity.THINKING, None, AgentState.THINKING),
        (Power.RUNNING, Activity.PARKED, Outcome.RATE_LIMITED, AgentState.LIMITED),
        (Power.RUNNING, Activity.PARKED, Outcome.OVERLOADED, AgentState.LIMITED),
        (Power.RUNNING, Activity.PARKED, Outcome.AUTH, AgentState.PARKED),
        (Power.RUNNING, Activity.PARKED, Outcome.BILLING, AgentState.PARKED),
    ],
)
def test_one_word_for_cage_and_harness(
    power: Power, activity: Activity, parked: Outcome | None, state: AgentState
) -> None:
    picture = world()
    picture.cages_now([cage(power=power)], NOW)
    heard(picture, AgentChanged(agent(activity=activity, parked=parked)))
    assert picture.agents["iris"].state is state


def test_a_running_cage_that_brokerd_has_not_heard_of_is_starting() -> None:
    picture = world()
    picture.cages_now([cage()], NOW)
    assert picture.agents["iris"].state is AgentState.STARTING


def test_an_agent_without_a_cage_is_not_shown_and_kept_state_is_not_either() -> None:
    picture = world()
    heard(picture, AgentChanged(agent()))
    assert picture.agents == {}
    picture.cage_changed(cage(power=Power.KEPT), NOW)
    assert picture.agents == {}
    assert picture.is_known("iris")
    picture.cage_gone("iris", NOW)
    assert picture.is_known("iris")
    assert not picture.is_known("nobody")


def test_a_limited_agent_says_why_and_until_when() -> None:
    picture = world()
    picture.cages_now([cage()], NOW)
    held = agent(activity=Activity.PARKED, parked=Outcome.RATE_LIMITED, until_ms=NOW + 9, detail="5 h limit")
    heard(picture, AgentChanged(held))
    row = picture.agents["iris"]
    assert (row.detail, row.until_ms, row.since_ms) == ("5 h limit", NOW + 9, NOW + 5)


def test_a_crashed_cage_says_why_itself() -> None:
    picture = world()
    picture.cages_now([cage(power=Power.CRASHED, detail="exit code 70")], NOW)
    heard(
        picture, AgentChanged(agent(activity=Activity.PARKED, parked=Outcome.AUTH, detail="no login", turn=3))
    )
    row = picture.agents["iris"]
    assert (row.detail, row.turn, row.since_ms) == ("exit code 70", None, NOW)


def test_what_an_agent_does_is_in_its_words_or_its_tools() -> None:
    picture = world()
    picture.cages_now([cage()], NOW)
    called = ToolCalled(n=0, at_ms=NOW, call="c", tool="Bash", summary="ls \x1b[31m-l", input="{}")
    heard(picture, AgentChanged(agent()), TurnChanged(TURN))
    assert (picture.agents["iris"].state, picture.agents["iris"].turn) == (AgentState.THINKING, 1)
    heard(picture, TurnEventAdded("iris", 1, called))
    assert picture.agents["iris"].doing == "ls -l"
    heard(picture, AgentChanged(agent(activity=Activity.THINKING, turn=1, status="counting files")))
    assert picture.agents["iris"].doing == "counting files"
    heard(picture, TurnChanged(replace(TURN, ended_ms=NOW, outcome=Outcome.DONE)))
    assert picture.agents["iris"].turn is None
    heard(picture, AgentChanged(agent()))
    assert picture.agents["iris"].doing == ""


def test_a_model_is_told_of_agents_that_have_one() -> None:
    picture = world()
    claude = Cage("iris", Power.RUNNING, NOW, "bwrap", 1, 1, AgentSettings(name="iris", runner=Runner.CLAUDE))
    picture.cages_now([claude, cage("atlas")], NOW)
    assert picture.agents["iris"].model == "haiku"
    assert picture.agents["atlas"].model is None


def test_an_agent_says_what_is_deployed_and_how_it_is_shown() -> None:
    picture = world()
    shown = AgentSettings(name="iris", icon=" \u202e<b>x", pronouns="she\u2066/her")
    live = replace(cage(generation=4, stale="claude was 1, is \x1b[31m2"), settings=shown)
    picture.cages_now([live, cage("atlas")], NOW)
    row, other = picture.agents["iris"], picture.agents["atlas"]
    assert (row.generation, row.stale) == (4, "claude was 1, is 2")
    assert (row.icon, row.pronouns) == ("<b>x", "she/her")
    assert (other.generation, other.stale, other.icon, other.pronouns) == (None, "", "", "")
    told = picture.cage_changed(replace(live, generation=5, stale=""), NOW)
    assert [(change.key, change.data.generation, change.data.stale) for change in told] == [("iris", 5, "")]


# ---------------------------------------------------------------------------------------------------------- telling


def test_only_what_changed_is_told() -> None:
    picture = world()
    assert [change.key for change in picture.cages_now([cage(), cage("atlas")], NOW)] == ["atlas", "iris"]
    assert picture.cages_now([cage(), cage("atlas")], NOW) == []
    assert [(change.key, change.data) for change in picture.cages_now([cage()], NOW)] == [("atlas", None)]


def test_an_event_that_was_heard_before_changes_nothing() -> None:
    picture = world()
    picture.cages_now([cage()], NOW)
    heard(picture, AgentChanged(agent()))
    event = FeedEvent(2, NOW, MessageSent(message(1, receipt(1))))
    assert picture.heard(event, NOW)
    assert picture.heard(event, NOW) == []
    assert picture.agents["iris"].inbox == 1


def test_a_change_to_a_forgotten_message_asks_for_it_first() -> None:
    picture = world()
    event = FeedEvent(1, NOW, DeliveryChanged(receipt(7, DeliveryState.DONE, changed_ms=NOW + 1)))
    with pytest.raises(Unknown) as unknown:
        picture.heard(event, NOW)
    assert unknown.value.messages == (7,)
    picture.fetched([message(7, receipt(7, DeliveryState.DONE, changed_ms=NOW + 1))])
    [told] = picture.heard(event, NOW)
    assert told.data.deliveries[0].state == "done"


def test_the_end_of_a_turn_asks_for_all_forgotten_messages_before_anything_changes() -> None:
    """Even when memory is full of others that are not to be let go."""
    picture = world()
    picture.cages_now([cage()], NOW)
    for number in range(10, KEPT_MAX + WINDOW_MESSAGES + 10):
        heard(picture, MessageSent(message(number, receipt(number, recipient="operator"), to="operator")))
    heard(picture, AgentChanged(agent()), TurnChanged(TURN))
    done = tuple(receipt(number, DeliveryState.DONE, changed_ms=NOW + 1) for number in (7, 8))
    event = FeedEvent(
        picture.seq + 1, NOW, TurnChanged(replace(TURN, ended_ms=NOW, outcome=Outcome.DONE), done)
    )
    with pytest.raises(Unknown) as unknown:
        picture.heard(event, NOW)
    assert unknown.value.messages == (7, 8)
    assert picture.agents["iris"].turn == 1
    picture.fetched([message(number, receipt(number)) for number in (7, 8)])
    flow = [change.data for change in picture.heard(event, NOW) if change.topic == "flow"]
    assert [(row.id, row.deliveries[0].state) for row in flow] == [(7, "done"), (8, "done")]
    assert picture.agents["iris"].turn is None


def test_a_message_is_fetched_even_when_memory_is_full_of_unread_ones() -> None:
    picture = world()
    for number in range(1, KEPT_MAX + WINDOW_MESSAGES + 1):
        heard(picture, MessageSent(message(number, receipt(number, recipient="operator"), to="operator")))
    change = FeedEvent(picture.seq + 1, NOW, DeliveryChanged(receipt(9_999, DeliveryState.DONE)))
    with pytest.raises(Unknown):
        picture.heard(change, NOW)
    picture.fetched([message(9_999, receipt(9_999))])
    assert picture.heard(change, NOW)


def test_a_message_fetched_ahead_never_goes_back() -> None:
    picture = world()
    picture.fetched([message(7, receipt(7, DeliveryState.DONE, changed_ms=NOW + 2))])
    [told] = heard(picture, DeliveryChanged(receipt(7, DeliveryState.LEASED, changed_ms=NOW + 1)))
    assert told.data.deliveries[0].state == "done"


def test_a_change_to_a_message_that_is_no_more_is_passed_over() -> None:
    picture = world()
    picture.expire(7)
    assert heard(picture, DeliveryChanged(receipt(7, DeliveryState.DONE))) == []
    assert picture.seq == 1


def test_a_message_tells_of_the_reminder_that_it_is_of() -> None:
    picture = world()
    picture.cages_now([cage()], NOW)
    reminder = Reminder(3, "iris", "iris", "look", Once(NOW), ReminderState.ACTIVE, NOW, next_ms=NOW + 9)
    heard(picture, ReminderChanged(reminder))
    ended = replace(reminder, state=ReminderState.ENDED, next_ms=None, attempted=1)
    told = heard(picture, MessageSent(message(7, receipt(7)), ended))
    assert [(change.topic, change.key) for change in told if change.topic in ("flow", "reminders")] == [
        ("flow", None),
        ("reminders", "3"),
    ]
    assert picture.schedules.rows() == {}


def test_what_failed_after_its_answer_is_a_notice_for_a_while() -> None:
    picture = world()
    [told] = picture.failed_late("stop iris: no such luck", NOW)
    assert told.data.notices == ("stop iris: no such luck",)
    assert picture.tick(NOW + LATE_MS - 1) == []
    [told] = picture.tick(NOW + LATE_MS)
    assert told.data.notices == ()


def test_the_hive_says_who_is_there_and_what_this_machine_lacks() -> None:
    picture = world()
    picture.daemon("privd", up=True, now_ms=NOW)
    picture.greeted(Greeting("privd", "1", 1, "bwrap", separated=False, degraded=("no limits",)), NOW)
    assert picture.hive.daemons.privd == "up"
    assert picture.hive.daemons.brokerd == "down"
    assert (picture.hive.backend, picture.hive.separated) == ("bwrap", False)
    assert picture.hive.notices == ("no limits",)


def test_many_messages_leave_the_window_whole_and_unread_ones_in_sight() -> None:
    picture = world()
    heard(picture, MessageSent(message(1, receipt(1, recipient="operator"), to="operator")))
    for number in range(2, KEPT_MAX + 200):
        heard(picture, MessageSent(message(number, receipt(number, DeliveryState.DONE))))
    newest = [row.id for row in picture.flow.newest()]
    assert newest == list(range(KEPT_MAX + 200 - WINDOW_MESSAGES, KEPT_MAX + 200))
    assert [row.id for row in picture.flow.wanting(NOW)] == [1]


def test_what_is_dead_waits_for_the_operator_for_a_day() -> None:
    picture = world()
    heard(picture, MessageSent(message(1, receipt(1, DeliveryState.DEAD))))
    assert [row.id for row in picture.flow.wanting(NOW + 1)] == [1]
    assert picture.flow.wanting(NOW + 24 * 3_600_000) == []


# -------------------------------------------------------------------------------------- anywhere one begins to listen


@dataclass
class Broker:
    """A small brokerd: the truth, what it would say in a snapshot, and its feed."""

    chance: random.Random
    agents: dict[str, Agent] = field(default_factory=lambda: {name: agent(name) for name in NAMES})
    messages: dict[int, Message] = field(default_factory=dict)
    turns: dict[str, list[Turn]] = field(default_factory=lambda: {name: [] for name in NAMES})
    questions: dict[int, Question] = field(default_factory=dict)
    reminders: dict[int, Reminder] = field(default_factory=dict)
    parked: dict[int, ParkedThread] = field(default_factory=dict)
    feed: list[FeedEvent] = field(default_factory=list)
    now_ms: int = NOW

    def say(self, body: AnyFeedBody) -> None:
        self.feed.append(FeedEvent(len(self.feed) + 1, self.now_ms, body))

    def step(self) -> None:
        self.now_ms += self.chance.randrange(1, 60_000)
        name = self.chance.choice(NAMES)
        match self.chance.randrange(5):
            case 0 | 1:
                self.send(self.chance.choice([*NAMES, "operator"]))
                self.wait_for_somebody()
            case 2:
                self.move()
            case 3:
                self.turn(name)
            case _:
                activity = self.chance.choice(list(Activity))
                self.agents[name] = replace(self.agents[name], activity=activity, since_ms=self.now_ms)
                self.say(AgentChanged(self.agents[name]))

    def send(self, to: str) -> None:
        number = len(self.messages) + 1
        delivery = Receipt(number, number, to, DeliveryState.QUEUED, None, 0, self.now_ms)
        self.messages[number] = Message(
            number, number, None, "operator", to, False, "x", self.now_ms, (delivery,)
        )
        self.say(MessageSent(self.messages[number]))

    def move(self) -> None:
        waiting = [found for found in self.messages.values() if found.deliveries[0].state in OPEN]
        if waiting:
            found = self.chance.choice(waiting)
            moved = replace(
                found.deliveries[0], state=self.chance.choice(list(DeliveryState)), changed_ms=self.now_ms
            )
            self.messages[found.id] = replace(found, deliveries=(moved,))
            self.say(DeliveryChanged(moved))

    def wait_for_somebody(self) -> None:
        """A question, a reminder or a parked thread comes, changes or goes."""
        number = self.chance.randrange(1, 8)
        match self.chance.randrange(3):
            case 0:
                state = self.chance.choice([QuestionState.OPEN, QuestionState.ANSWERED])
                row = Question(number, "iris", "operator", "x", (), False, state, self.now_ms)
                self.questions[number] = row
                self.say(QuestionChanged(row))
            case 1:
                due_ms = self.now_ms + self.chance.randrange(1_000)
                alive = self.chance.choice([ReminderState.ACTIVE, ReminderState.ENDED])
                found = Reminder(number, "iris", "iris", "x", Once(due_ms), alive, NOW, next_ms=due_ms)
                self.reminders[number] = found
                self.say(ReminderChanged(found))
            case _ if number in self.parked:
                del self.parked[number]
                self.say(ThreadReleased(number))
            case _:
                self.parked[number] = ParkedThread(number, ("hm1nd", "iris"), 40, 1, self.now_ms)
                self.say(ThreadParked(self.parked[number]))

    def open_questions(self) -> list[Question]:
        return [row for row in self.questions.values() if row.state is QuestionState.OPEN]

    def next_reminders(self) -> list[Reminder]:
        return [row for row in self.reminders.values() if row.state is ReminderState.ACTIVE]

    def turn(self, name: str) -> None:
        turns = self.turns[name]
        if turns and turns[-1].ended_ms is None:
            turns[-1] = replace(turns[-1], ended_ms=self.now_ms, outcome=Outcome.DONE)
        else:
            turns.append(Turn(1 + sum(map(len, self.turns.values())), name, "operator", 1, self.now_ms))
            self.say(TurnEventAdded(name, turns[-1].id, Said(n=0, at_ms=self.now_ms, text="x")))
        self.agents[name] = self.agents[name].after(turns[-1])
        self.say(TurnChanged(turns[-1], tuple(self.moved(name))))

    def moved(self, name: str) -> Iterator[Receipt]:
        """Some of what is open for an agent changes with its turn."""
        for found in tuple(self.messages.values()):
            delivery = found.deliveries[0]
            if found.to == name and delivery.state in OPEN and self.chance.randrange(2):
                state = self.chance.choice([DeliveryState.IN_TURN, DeliveryState.DONE, DeliveryState.QUEUED])
                moved = replace(delivery, state=state, changed_ms=self.now_ms)
                self.messages[found.id] = replace(found, deliveries=(moved,))
                yield moved

    def snapshot(self) -> Snapshot:
        wanting = [
            found
            for found in self.messages.values()
            if found.deliveries[0].state is DeliveryState.DEAD
            or (found.to == "operator" and found.deliveries[0].state is DeliveryState.QUEUED)
        ]
        hour = self.now_ms - 3_600_000
        return Snapshot(
            epoch="e",
            seq=len(self.feed),
            at_ms=self.now_ms,
            agents=tuple(
                AgentNow(
                    known,
                    self.inbox(name),
                    tuple(turn.began_ms for turn in self.turns[name] if turn.began_ms > hour),
                )
                for name, known in self.agents.items()
            ),
            messages=tuple(self.messages.values())[-WINDOW_MESSAGES:],
            messages_hour=sum(found.sent_ms > hour for found in self.messages.values()),
            operator_unread=0,
            wanting=tuple(wanting[:100]),
            questions=tuple(self.open_questions()),
            parked=tuple(self.parked.values()),
        )

    def inbox(self, name: str) -> int:
        return sum(found.to == name and found.deliveries[0].state in OPEN for found in self.messages.values())


def is_open(row: Question | Broken) -> bool:
    return isinstance(row, Question) and row.state is QuestionState.OPEN


def listening_from(
    snapshot: Snapshot, broker: Broker, now_ms: int, reminders: Sequence[Reminder] = ()
) -> World:
    picture = world()
    picture.cages_now([cage(name) for name in NAMES], NOW)
    picture.broker_now(snapshot, [], now_ms)
    picture.schedules.start_from(reminders, more=False)
    for event in broker.feed[snapshot.seq :]:
        try:
            picture.heard(event, event.at_ms)
        except Unknown as unknown:
            picture.fetched([broker.messages[number] for number in unknown.messages])
            picture.heard(event, event.at_ms)
    picture.tick(broker.now_ms)
    return picture


@given(st.integers(0, 2**32), st.integers(0, 150), st.integers(0, 150))
def test_it_does_not_matter_where_one_began_to_listen(seed: int, before: int, after: int) -> None:
    broker = Broker(random.Random(seed))
    from_the_start = broker.snapshot()
    asked_later: list[Reminder] = []
    for _ in range(before):
        broker.step()
    from_the_middle, middle_ms = broker.snapshot(), broker.now_ms
    asked_later = broker.next_reminders()
    for place in range(after):
        broker.step()
        if place == 3:
            asked_later = broker.next_reminders()  # the list is asked for after the snapshot
    early = listening_from(from_the_start, broker, NOW)
    late = listening_from(from_the_middle, broker, middle_ms, asked_later)
    assert early.agents == late.agents
    assert early.flow.newest() == late.flow.newest()
    assert early.flow.wanting(broker.now_ms) == late.flow.wanting(broker.now_ms)
    assert early.parked == late.parked == {str(row.thread): row for row in broker.parked.values()}
    assert early.schedules.rows() == {str(row.id): row for row in broker.next_reminders()}
    assert late.schedules.rows() == early.schedules.rows()
    still_open = {str(row.id): row for row in broker.open_questions()}
    for picture in (early, late):
        assert {key: row for key, row in picture.questions.rows().items() if is_open(row)} == still_open
    for name in NAMES:
        row = late.agents[name]
        assert row.inbox == broker.inbox(name)
        assert row.pulse == pulse([turn.began_ms for turn in broker.turns[name]], broker.now_ms)
    assert [row.id for row in late.flow.newest()] == list(broker.messages)[-WINDOW_MESSAGES:]
    assert [row.deliveries[0].state for row in late.flow.newest()] == [
        found.deliveries[0].state for found in list(broker.messages.values())[-WINDOW_MESSAGES:]
    ]
