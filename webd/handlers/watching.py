"""Looking: the live stream, the same state at once, and older rows page by page."""

from typing import Any, Final

from protocol.brokerd import (
    ListEgress,
    ListMessages,
    ListQuestions,
    ReadStatistics,
    ReadTail,
    SearchMessages,
)
from protocol.limits import JOURNAL_BYTES_MAX, PAGE_ROWS_MAX, SEARCH_CHARS_MAX
from protocol.privd import ReadJournal
from protocol.problem import Problem, Refused
from webd.http.answers import EVENTS, Answer, as_json
from webd.live.hub import Reading
from webd.live.limited import refusal_rows
from webd.live.lines import line_row
from webd.live.rows import broken_row, message_row, question_row
from webd.live.stream import Stream
from webd.live.tails import page_of
from webd.policy.spans import since
from webd.policy.topics import (
    COMMON,
    FLOW,
    JOURNAL,
    QUESTIONS,
    TAIL,
    agent_of,
    agents_of,
    parse_cursor,
    parse_topics,
)
from webd.visit import Host, Visit

ROWS: Final = 100
DAY: Final = "24h"
TURNS_A_PAGE: Final = 50
LINE_BYTES: Final = 400
"""What a line is taken to have, to ask for about as many bytes as lines are wanted."""


async def stream(visit: Visit, host: Host) -> Answer:
    """The live stream of some topics (`?topics=a,b`), going on from a cursor (`Last-Event-ID`, else `?from=`)."""
    topics = _topics(visit, host)
    cursor = parse_cursor(visit.head.header("last-event-id") or visit.query.get("from"))
    host.sessions.check_place(visit.operator)
    live = Stream(host.views, host.sessions, visit.operator, host.stopping, topics, cursor)
    return Answer(200, live.feed, EVENTS, (("x-accel-buffering", "no"),))


async def state(visit: Visit, host: Host) -> Answer:
    """The snapshot of some topics, the cursor it belongs to, and once more the questions, as a list."""
    topics = _topics(visit, host)
    reading = Reading(topics, visit.operator.operator, 0)
    async with host.views.open(topics):
        snapshot = host.views.snapshot(reading, "new")
        said: dict[str, Any] = {"cursor": str(host.picture.hub.cursor(reading.seq)), "snapshot": snapshot}
        if QUESTIONS in topics:
            said["questions"] = list(host.picture.world.questions.rows().values())
        return as_json(said)


async def log(visit: Visit, host: Host) -> Answer:
    """A page of older rows of a topic: `before` an id, at most `limit` of them, oldest first."""
    topic = visit.named["topic"]
    before = visit.number("before", least=0 if topic.startswith(JOURNAL) else 1)
    limit = visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS
    if topic == FLOW:
        return await _messages(host, before, limit, visit.number("thread", least=1))
    name = agent_of(topic)
    if name is None:
        raise Refused(Problem.NOT_FOUND, f"{topic[:40]!a} has no older rows")
    if topic.startswith(TAIL):
        found = await host.ask_brokerd(ReadTail(agent=name, before=before, limit=TURNS_A_PAGE))
        return as_json(page_of(found, limit))
    return await _lines(host, name, before, limit)


async def journal(visit: Visit, host: Host) -> Answer:
    """A page of one cage's journal: lines before an offset, oldest first."""
    limit = visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS
    return await _lines(host, visit.named["agent"], visit.number("before"), limit)


async def search(visit: Visit, host: Host) -> Answer:
    """A page of messages whose text has all the words of `q`, of whatever age, oldest first."""
    text = visit.query.get("q", "")
    if not text.strip() or len(text) > SEARCH_CHARS_MAX:
        raise Refused(Problem.MALFORMED, f"q is 1 to {SEARCH_CHARS_MAX} characters to look for")
    limit = visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS
    request = SearchMessages(
        text=text, before=visit.number("before", least=1), limit=limit, agent=visit.agent("agent")
    )
    page = await host.ask_brokerd(request)
    rows = [message_row(message) for message in reversed(page.messages)]
    return as_json({"messages": rows, "before": page.before})


async def questions(visit: Visit, host: Host) -> Answer:
    """A page of questions of every state, newest first; rows that cannot be read beside them."""
    page = await host.ask_brokerd(
        ListQuestions(
            open=False,
            agent=visit.agent("agent"),
            before=visit.number("before", least=1),
            limit=visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS,
        )
    )
    rows = [question_row(row) for row in page.questions]
    return as_json(
        {"questions": rows, "broken": [broken_row(row) for row in page.broken], "before": page.before}
    )


async def egress(visit: Visit, host: Host) -> Answer:
    """A page of refusals of the way out, of everybody or of one agent, newest first."""
    page = await host.ask_brokerd(
        ListEgress(
            agent=visit.agent("agent"),
            before=visit.number("before", least=1),
            limit=visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS,
        )
    )
    return as_json({"refusals": refusal_rows(page.refusals), "before": page.before})


async def statistics(visit: Visit, host: Host) -> Answer:
    """Numbers of every agent, or of one with its series, since a moment: in ms, or as a span like `6h`."""
    text = visit.query.get("since", DAY)
    since_ms = since(text, host.now_ms())
    if since_ms is None:
        raise Refused(
            Problem.MALFORMED, f"since is a time in ms, or a span like 90m, 6h or 7d, not {text[:20]!a}"
        )
    return as_json(await host.ask_brokerd(ReadStatistics(since_ms=since_ms, agent=visit.agent("agent"))))


async def _messages(host: Host, before: int | None, limit: int, thread: int | None) -> Answer:
    """One row more is asked for than is shown, so that "more" is never said of nothing."""
    shown = min(limit, PAGE_ROWS_MAX - 1)
    page = await host.ask_brokerd(ListMessages(before=before, limit=shown + 1, thread=thread))
    rows = [message_row(message) for message in reversed(page.messages[:shown])]
    more = len(page.messages) > shown or (len(page.messages) < shown and page.before is not None)
    return as_json({"messages": rows, "more": more})


async def _lines(host: Host, agent: str, before: int | None, limit: int) -> Answer:
    bytes_max = min(JOURNAL_BYTES_MAX, limit * LINE_BYTES)
    page = await host.ask_privd(ReadJournal(agent=agent, before=before, bytes_max=bytes_max))
    lines = [line_row(line) for line in page.lines[-limit:]]
    return as_json({"lines": lines, "more": page.before is not None or len(page.lines) > limit})


def _topics(visit: Visit, host: Host) -> frozenset[str]:
    text = visit.query.get("topics")
    topics = parse_topics(text) if text else COMMON
    for name in agents_of(topics):
        if not host.picture.world.is_known(name):
            raise Refused(Problem.NOT_FOUND, f"there is no agent {name} here")
    return topics
