"""Who may ask brokerd for what: an agent's harness at its own socket, the operator at theirs."""

from brokerd.handlers import agents, deliveries, feed, hello, messages, questions, turns
from brokerd.host import Host
from protocol.agent import (
    Attach,
    BeginTurn,
    EndTurn,
    ExtendLease,
    PublishEvents,
    ReleaseDelivery,
    ReportParked,
    TakeDelivery,
    WatchCommands,
)
from protocol.brokerd import (
    ListMessages,
    ListQuestions,
    MarkRead,
    ReadTail,
    StopTurn,
    TakeSnapshot,
    WakeParked,
    WatchFeed,
)
from protocol.hello import Hello
from protocol.rpc import AGENTS, Role, Route
from protocol.tools import Answer, Ask, ListAgents, Recv, Send, SetStatus, WhoAmI

AGENT_ROUTES: tuple[Route[Host], ...] = (
    Hello.answered_by(hello.hello, callers=AGENTS),
    # The harness: turns and their deliveries.
    Attach.answered_by(turns.attach, callers=AGENTS),
    TakeDelivery.answered_by(deliveries.take, callers=AGENTS),
    ExtendLease.answered_by(deliveries.extend, callers=AGENTS),
    ReleaseDelivery.answered_by(deliveries.release, callers=AGENTS),
    BeginTurn.answered_by(turns.begin, callers=AGENTS),
    PublishEvents.answered_by(turns.publish, callers=AGENTS),
    EndTurn.answered_by(turns.end, callers=AGENTS),
    ReportParked.answered_by(agents.report_parked, callers=AGENTS),
    WatchCommands.answered_by(agents.watch_commands, callers=AGENTS),
    # The agent itself: its tools.
    Send.answered_by(messages.send, callers=AGENTS),
    Recv.answered_by(deliveries.receive, callers=AGENTS),
    Ask.answered_by(questions.ask, callers=AGENTS),
    Answer.answered_by(questions.answer, callers=AGENTS),
    SetStatus.answered_by(agents.set_status, callers=AGENTS),
    WhoAmI.answered_by(agents.who_am_i, callers=AGENTS),
    ListAgents.answered_by(agents.list_agents, callers=AGENTS),
)

OPERATOR_ROUTES: tuple[Route[Host], ...] = (
    Hello.answered_by(hello.hello, callers=Role.OPERATOR),
    TakeSnapshot.answered_by(feed.take_snapshot, callers=Role.OPERATOR),
    WatchFeed.answered_by(feed.watch_feed, callers=Role.OPERATOR),
    Send.answered_by(messages.send, callers=Role.OPERATOR),
    ListMessages.answered_by(messages.list_messages, callers=Role.OPERATOR),
    MarkRead.answered_by(messages.mark_read, callers=Role.OPERATOR),
    ReadTail.answered_by(turns.read_tail, callers=Role.OPERATOR),
    ListQuestions.answered_by(questions.list_questions, callers=Role.OPERATOR),
    Answer.answered_by(questions.answer, callers=Role.OPERATOR),
    StopTurn.answered_by(turns.stop, callers=Role.OPERATOR),
    WakeParked.answered_by(agents.wake_parked, callers=Role.OPERATOR),
)
