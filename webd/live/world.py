"""The hive as webd knows it: what the daemons said, merged into rows. Pure: times come in, changes come out.

Each method takes in one thing that was said and returns what browsers must be told, in order. Rows are compared with
what was last told, so that only a real change goes out.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protocol.approvals import BuildLine
from protocol.brokerd import (
    AccountChanged,
    AgentChanged,
    AgentGone,
    DeliveryChanged,
    EgressRefused,
    FeedEvent,
    LimitReached,
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
from protocol.brokerd import Agent as BrokerAgent
from protocol.configuration import AnyDecision
from protocol.hello import Greeting
from protocol.messages import Message, Receipt
from protocol.privd import Cage, Power
from protocol.turns import AnyTurnEvent, ToolCalled, Turn
from webd.live.counts import TURNS_KEPT_MAX, HourCount, Inboxes, pulse
from webd.live.decisions import Decisions
from webd.live.flow import Flow
from webd.live.limited import Limited, Told
from webd.live.questions import Questions
from webd.live.rows import (
    AgentRow,
    HiveRow,
    KeptRow,
    Known,
    Totals,
    agent_row,
    event_row,
    kept_row,
    turn_row,
)
from webd.live.schedules import Schedules
from webd.policy.text import plain
from webd.policy.topics import (
    ACCOUNTS,
    AGENTS,
    DRAFTS,
    FLOW,
    HIVE,
    KEPT,
    LIMITS,
    PARKED,
    QUESTIONS,
    REFUSALS,
    REMINDERS,
    TAIL,
)

ANEW: Final = (FLOW, QUESTIONS, PARKED, REMINDERS, ACCOUNTS, REFUSALS, LIMITS)
"""What begins anew with brokerd's feed: streams take a snapshot of these."""
CAGELESS: Final = frozenset({Power.KEPT, Power.DRAFT})
"""Shown apart from the swarm."""
CLICK_NOTICE: Final = (
    "a click on this dashboard is enough to approve; after `hivectl enrol` only a key of yours decides"
)
LATE_MAX: Final = 5
LATE_MS: Final = 600_000
"""How long the failure of something that was already answered stays in sight."""


R = TypeVar("R", AgentRow, KeptRow)


class Change(Struct, frozen=True):
    """One thing to tell: a state topic's row (None: gone) has a key, a log topic's has none."""

    topic: str
    data: Any
    key: str | None = None


class Unknown(Exception):
    """A change to messages that are not in memory: fetch them, then take the same event in again."""

    def __init__(self, messages: tuple[int, ...]) -> None:
        super().__init__(messages)
        self.messages = messages


class _Heard:
    """What brokerd's feed has told of one agent."""

    def __init__(self, agent: BrokerAgent, began_ms: Iterable[int] = ()) -> None:
        self.agent = agent
        self.began_ms = deque(began_ms, maxlen=TURNS_KEPT_MAX)
        self.last_turn = 0
        self.tool = ""


class World:
    """The whole picture. `name` and `notices` come from the settings."""

    def __init__(self, name: str, version: str, notices: tuple[str, ...] = ()) -> None:
        self.flow = Flow()
        self.questions = Questions()
        self.schedules = Schedules()
        self.limited = Limited()
        self.decisions = Decisions()
        self.parked: dict[str, ParkedThread] = {}
        """Threads that wait for the operator's release, by key."""
        self.agents: dict[str, AgentRow] = {}
        """As last told, by name; kept state and drafts are not among them."""
        self.kept: dict[str, KeptRow] = {}
        self.drafts: dict[str, KeptRow] = {}
        self.seq = 0
        """brokerd's feed is taken in up to here."""
        self._hive = HiveRow(name=name, version=version, notices=notices)
        self._told_hive = self._hive
        self._standing = notices
        self._late: deque[tuple[int, str]] = deque(maxlen=LATE_MAX)
        self._degraded: dict[str, tuple[str, ...]] = {}
        self._cages: dict[str, Cage] = {}
        self._heard: dict[str, _Heard] = {}
        self._inboxes = Inboxes()
        self._hour = HourCount()
        self._expired: set[int] = set()

    # ------------------------------------------------------------------------------------------------------- asked

    @property
    def hive(self) -> HiveRow:
        return self._told_hive

    def is_known(self, agent: str) -> bool:
        """Whether an agent has, or had, a cage here (kept state counts) or is known to brokerd."""
        return agent in self._cages or agent in self._heard

    def cage(self, agent: str) -> Cage | None:
        return self._cages.get(agent)

    # ------------------------------------------------------------------------------------------------------ daemons

    def greeted(self, greeting: Greeting, now_ms: int) -> list[Change]:
        """A daemon said who it is; privd also says what this machine is."""
        self._degraded[greeting.daemon] = greeting.degraded
        if greeting.daemon == "privd":
            self._hive = replace(self._hive, backend=greeting.backend, separated=greeting.separated)
        return self._hive_changes(now_ms)

    def daemon(self, name: str, *, up: bool, now_ms: int) -> list[Change]:
        states = replace(self._hive.daemons, **{name: "up" if up else "down"})
        self._hive = replace(self._hive, daemons=states)
        return self._hive_changes(now_ms)

    def failed_late(self, text: str, now_ms: int) -> list[Change]:
        """Something that was asked for and answered has failed after all: said where everybody sees it."""
        self._late.append((now_ms, plain(text, 300)))
        return self._hive_changes(now_ms)

    def tick(self, now_ms: int) -> list[Change]:
        """Time has passed: what only depends on it."""
        return [*self._hive_changes(now_ms), *self._agent_changes(self._heard, now_ms)]

    # -------------------------------------------------------------------------------------------------------- cages

    def cages_now(self, cages: Iterable[Cage], now_ms: int) -> list[Change]:
        before = set(self._cages)
        self._cages = {cage.agent: cage for cage in cages}
        return self._agent_changes(sorted(before | set(self._cages)), now_ms)

    def cage_changed(self, cage: Cage, now_ms: int) -> list[Change]:
        self._cages[cage.agent] = cage
        return self._agent_changes([cage.agent], now_ms)

    def cage_gone(self, agent: str, now_ms: int) -> list[Change]:
        self._cages.pop(agent, None)
        return self._agent_changes([agent], now_ms)

    def decided(self, event: AnyDecision, now_ms: int) -> list[Change]:
        """One event of privd's proposals and deployments."""
        told = _rows(self.decisions.heard(event))
        self._hive = replace(self._hive, click=self.decisions.click)
        return [*told, *self._hive_changes(now_ms)]

    def log_read(self, agent: str, number: int, lines: Iterable[BuildLine]) -> list[Change]:
        """What a deployment's log said before anybody listened."""
        return _rows(self.decisions.said(agent, number, lines))

    # ------------------------------------------------------------------------------------------------------- broker

    def broker_now(self, snapshot: Snapshot, older: Iterable[Message], now_ms: int) -> list[Change]:
        """A new beginning of the feed, and messages older than the snapshot's that belong to the window.

        ANEW and the tails changed as a whole; the changes returned are the rest.
        """
        before = set(self._heard)
        self.seq = snapshot.seq
        self._heard = {row.agent.name: _Heard(row.agent, row.turns_began_ms) for row in snapshot.agents}
        self._inboxes.start_from(
            {row.agent.name: row.inbox for row in snapshot.agents},
            (receipt for message in snapshot.messages for receipt in message.deliveries),
        )
        sent_ms = [message.sent_ms for message in snapshot.messages]
        self._hour.start_from(snapshot.messages_hour, sent_ms, now_ms)
        self.flow.start_from([*older, *snapshot.messages], snapshot.wanting)
        self.questions.start_from(snapshot.questions, snapshot.broken_questions)
        self.parked = {str(parked.thread): parked for parked in snapshot.parked}
        self.limited.start_from(snapshot)
        return [*self._agent_changes(sorted(before | set(self._heard)), now_ms), *self._hive_changes(now_ms)]

    def fetched(self, messages: Sequence[Message]) -> None:
        """Messages that were asked for after Unknown, as far as they are still there."""
        self.flow.fetched(messages)

    def expire(self, message: int) -> None:
        """A message that was asked for after Unknown and is no more: nothing is told of it."""
        self._expired.add(message)

    def heard(self, event: FeedEvent, now_ms: int) -> list[Change]:
        """One event of brokerd's feed. Raises Unknown before anything has changed."""
        if event.seq <= self.seq:
            return []
        changes = self._take_in(event, now_ms)
        self.seq = event.seq
        return changes

    def _take_in(self, event: FeedEvent, now_ms: int) -> list[Change]:
        match event.body:
            case MessageSent(message, fired):
                told = () if fired is None else self.schedules.changed(fired)
                return [*self._sent(message, now_ms), *_told(REMINDERS, told)]
            case DeliveryChanged(receipt):
                return self._delivery_changed(receipt, now_ms)
            case TurnChanged(turn, receipts):
                return self._turn_changed(turn, receipts, now_ms)
            case TurnEventAdded(agent, turn, added):
                return self._event_added(agent, turn, added, now_ms)
            case AgentChanged(agent):
                self._agent_heard(agent)
                return self._agent_changes([agent.name], now_ms)
            case AgentGone(name):
                self._heard.pop(name, None)
                self._inboxes.forget(name)
                return [*_rows(self.limited.forget(name)), *self._agent_changes([name], now_ms)]
            case QuestionChanged() | ReminderChanged() | ThreadParked() | ThreadReleased() as waiting:
                return self._waiting_changed(waiting)
            case AccountChanged() | EgressRefused() | LimitReached() as limited:
                return _rows(self.limited.changed(limited))

    def _waiting_changed(
        self, waiting: QuestionChanged | ReminderChanged | ThreadParked | ThreadReleased
    ) -> list[Change]:
        match waiting:
            case QuestionChanged(question):
                return _told(QUESTIONS, self.questions.changed(question))
            case ReminderChanged(reminder):
                return _told(REMINDERS, self.schedules.changed(reminder))
            case ThreadParked(parked):
                self.parked[str(parked.thread)] = parked
                return [Change(PARKED, parked, key=str(parked.thread))]
            case ThreadReleased(thread):
                self.parked.pop(str(thread), None)
                return [Change(PARKED, None, key=str(thread))]

    def _sent(self, message: Message, now_ms: int) -> list[Change]:
        self._hour.add(message.sent_ms)
        row = self.flow.sent(message)
        for receipt in message.deliveries:
            self._inboxes.sent(receipt)
        recipients = [receipt.recipient for receipt in message.deliveries]
        return [Change(FLOW, row), *self._agent_changes(recipients, now_ms), *self._hive_changes(now_ms)]

    def _delivery_changed(self, receipt: Receipt, now_ms: int) -> list[Change]:
        self._check_known((receipt,))
        row = self.flow.changed(receipt)
        self._expired.discard(receipt.message)
        self._inboxes.changed(receipt)
        told = [] if row is None else [Change(FLOW, row)]
        return [*told, *self._agent_changes([receipt.recipient], now_ms)]

    def _check_known(self, receipts: Iterable[Receipt]) -> None:
        named = (receipt.message for receipt in receipts)
        unknown = tuple(each for each in named if not self.flow.knows(each) and each not in self._expired)
        if unknown:
            raise Unknown(unknown)

    def _turn_changed(self, turn: Turn, receipts: Sequence[Receipt], now_ms: int) -> list[Change]:
        self._check_known(receipts)
        heard = self._heard.get(turn.agent)
        if heard is not None:
            heard.agent = heard.agent.after(turn)
            heard.tool = ""
            if turn.ended_ms is None and turn.id > heard.last_turn:
                heard.last_turn = turn.id
                heard.began_ms.append(turn.began_ms)
        settled = [told for receipt in receipts for told in self._delivery_changed(receipt, now_ms)]
        told = Change(TAIL + turn.agent, {"turn": turn_row(turn)})
        return [*settled, told, *self._agent_changes([turn.agent], now_ms)]

    def _event_added(self, agent: str, turn: int, added: AnyTurnEvent, now_ms: int) -> list[Change]:
        if isinstance(added, ToolCalled) and agent in self._heard:
            self._heard[agent].tool = added.summary
        told = Change(TAIL + agent, {"event": event_row(turn, added)})
        return [told, *self._agent_changes([agent], now_ms)]

    def _agent_heard(self, agent: BrokerAgent) -> None:
        if agent.name in self._heard:
            self._heard[agent.name].agent = agent
        else:
            self._heard[agent.name] = _Heard(agent)

    # ------------------------------------------------------------------------------------------------------ compare

    def _agent_changes(self, names: Iterable[str], now_ms: int) -> list[Change]:
        changes = []
        for name in names:
            changes += _changed(AGENTS, self.agents, name, self._row(name, now_ms))
            changes += _changed(KEPT, self.kept, name, self._cageless(name, Power.KEPT))
            changes += _changed(DRAFTS, self.drafts, name, self._cageless(name, Power.DRAFT))
        return changes

    def _cageless(self, name: str, power: Power) -> KeptRow | None:
        cage = self._cages.get(name)
        return kept_row(cage) if cage is not None and cage.power is power else None

    def _row(self, name: str, now_ms: int) -> AgentRow | None:
        cage = self._cages.get(name)
        if cage is None or cage.power in CAGELESS:
            return None
        heard = self._heard.get(name)
        if heard is None:
            return agent_row(cage, None)
        return agent_row(
            cage, Known(heard.agent, self._inboxes.of(name), pulse(heard.began_ms, now_ms), heard.tool)
        )

    def _hive_changes(self, now_ms: int) -> list[Change]:
        while self._late and now_ms - self._late[0][0] >= LATE_MS:
            self._late.popleft()
        degraded = (plain(text) for _, texts in sorted(self._degraded.items()) for text in texts)
        click = (CLICK_NOTICE,) if self.decisions.click else ()
        notices = (*self._standing, *click, *degraded, *(text for _, text in self._late))
        self._hive = replace(self._hive, notices=notices, totals=Totals(self._hour.at(now_ms)))
        if self._hive == self._told_hive:
            return []
        self._told_hive = self._hive
        return [Change(HIVE, self._hive, key=HIVE)]


def _changed(topic: str, rows: dict[str, R], key: str, row: R | None) -> list[Change]:
    """Take in a row of a state topic, and tell it when it is another one."""
    if row == rows.get(key):
        return []
    if row is None:
        del rows[key]
    else:
        rows[key] = row
    return [Change(topic, row, key=key)]


def _told(topic: str, rows: Iterable[tuple[str, Any]]) -> list[Change]:
    return [Change(topic, row, key=key) for key, row in rows]


def _rows(told: Iterable[Told]) -> list[Change]:
    return [Change(topic, row, key=key) for topic, key, row in told]
