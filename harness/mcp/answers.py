"""A tool's reply as the model reads it: small JSON, times as ISO 8601, nothing that only a program needs. Pure.

Words of others stay inside JSON strings, so none can pass for the frame around it.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from harness.wake import BROADCAST_HINT, NUMBERED
from protocol.approvals import CapabilityChange, Proposal, ProposalState
from protocol.messages import Message
from protocol.privd import Cage
from protocol.questions import Question, QuestionState
from protocol.reminders import Cron, Every, Once, Reminder, ReminderRollup, ReminderState
from protocol.tools import OpenMatters, OpenThread, Received, ReminderPage, Sent

Fields = dict[str, Any]


def result_json(reply: object) -> str:
    """A reply as JSON text."""
    return msgspec.json.encode(shown(reply)).decode()


def shown(reply: object) -> Any:
    """What a model is shown of a reply; what is small already is shown as it is."""
    if reply is None:
        return {"ok": True}
    if isinstance(reply, tuple):
        return [shown(each) for each in reply]
    show = SHOWN.get(type(reply))
    return reply if show is None else show(reply)


def received(reply: Received) -> Fields:
    return {"messages": [pulled(message) for message in reply.messages]}


def open_matters(reply: OpenMatters) -> Fields:
    return {
        "threads": [thread(each) for each in reply.threads],
        "questions": [question(each) for each in reply.questions],
    }


def reminder_page(reply: ReminderPage) -> Fields:
    return told({"reminders": [reminder(each) for each in reply.reminders], "before": reply.before})


def rollup(reply: ReminderRollup) -> Fields:
    numbers = counts(reply, ("attempted", "delivered", "failed", "skipped", "waiting"))
    return {"since": iso(reply.since_ms)} | numbers


def sent(reply: Sent) -> Fields:
    held = "it waits until the operator releases its thread: agents alone wrote in it for too long"
    return told(
        {
            "message": reply.message,
            "thread": reply.thread,
            "recipients": reply.recipients,
            "held": held if reply.held else None,
        }
    )


def pulled(message: Message) -> Fields:
    """A message that `recv` brings, without the fate of its deliveries; events are named as in a wake prompt."""
    numbered = {} if message.event not in NUMBERED else {NUMBERED[message.event]: message.about}
    return told(
        {
            "id": message.id,
            "thread": message.thread,
            "sender": message.sender,
            "sent": iso(message.sent_ms),
            "in_reply_to": message.in_reply_to,
            "event": message.event,
            **numbered,
            "note": BROADCAST_HINT if message.broadcast else None,
            "body": message.body,
        }
    )


def receipt(message: Message) -> Fields:
    """What became of a message that the agent sent."""
    return {
        "message": message.id,
        "to": message.to,
        "sent": iso(message.sent_ms),
        "deliveries": [
            told(
                {
                    "recipient": each.recipient,
                    "state": each.state,
                    "since": iso(each.changed_ms),
                    "attempts": each.attempts if each.attempts > 1 else None,
                }
            )
            for each in message.deliveries
        ],
    }


def question(asked: Question) -> Fields:
    return told(
        {
            "question": asked.id,
            "from": asked.asker,
            "to": asked.asked_of,
            "state": asked.state,
            "text": asked.text,
            "options": asked.options or None,
            "multi": asked.multi or None,
            "asked": iso(asked.asked_ms),
            "deadline": iso(asked.deadline_ms) if asked.state is QuestionState.OPEN else None,
            "answer": asked.answer or None,
            "choices": asked.choices or None,
            "answered_by": asked.answered_by,
        }
    )


def thread(open_thread: OpenThread) -> Fields:
    return {
        "thread": open_thread.thread,
        "with": open_thread.other,
        "waits_for": open_thread.waits_for,
        "last_message": open_thread.last_message,
        "last": iso(open_thread.last_ms),
        "text": open_thread.text,
    }


def reminder(kept: Reminder) -> Fields:
    return told(
        {
            "reminder": kept.id,
            "agent": kept.agent,
            "set_by": kept.set_by if kept.set_by != kept.agent else None,
            "text": kept.body,
            "when": schedule(kept.schedule),
            "next": iso(kept.next_ms),
            "last": iso(kept.last_ms),
            "only_if": kept.only_if,
            "state": kept.state if kept.state is not ReminderState.ACTIVE else None,
        }
    ) | {
        name: count
        for name, count in counts(kept, ("attempted", "delivered", "failed", "skipped")).items()
        if count
    }


def proposal(row: Proposal) -> Fields:
    """A proposal, without what only the operator's page needs."""
    return told(
        {
            "agent": row.agent,
            "number": row.number,
            "kind": row.kind,
            "state": row.state,
            "commit": row.commit,
            "by": row.by,
            "description": row.description or None,
            "changes": [change(each) for each in row.capabilities] or None,
            "proposed": iso(row.proposed_ms),
            "expires": iso(row.expires_ms) if row.state is ProposalState.OPEN else None,
            "decided": iso(row.decided_ms),
            "reason": row.reason or None,
        }
    )


def change(each: CapabilityChange) -> str:
    return f"{each.subject}: {each.before or '(nothing)'} → {each.after or '(nothing)'}"


def cage(row: Cage) -> Fields:
    return told(
        {
            "agent": row.agent,
            "state": row.power,
            "since": iso(row.since_ms),
            "crashes": row.crashes or None,
            "detail": row.detail or None,
        }
    )


def schedule(when: Once | Every | Cron) -> str:
    match when:
        case Once():
            return "once"
        case Every(every_s):
            return f"every {every_s} s"
        case Cron(expression, zone):
            return f"{expression} ({zone})"


def iso(at_ms: int | None) -> str | None:
    """A time to the second, as `2026-11-21T13:20:05Z`."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def counts(source: object, names: Iterable[str]) -> dict[str, int]:
    return {name: getattr(source, name) for name in names}


def told(fields: Fields) -> Fields:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}


SHOWN: Final[dict[type, Callable[[Any], Fields]]] = {
    Sent: sent,
    Received: received,
    Message: receipt,
    Question: question,
    OpenMatters: open_matters,
    Reminder: reminder,
    ReminderPage: reminder_page,
    ReminderRollup: rollup,
    Proposal: proposal,
    Cage: cage,
}
