"""Answers for people: aligned columns, relative times, and nothing that an agent wrote is trusted to be printable."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from protocol.brokerd import BackedUp, MessagePage, TailPage
from protocol.messages import DeliveryState, Message, Receipt
from protocol.privd import Cage
from protocol.tools import Sent
from protocol.turns import Failed, Noted, Said, Thought, ToolCalled, ToolReturned, Woken
from runtime.clock import now_ms

CELL_CHARS_MAX: Final = 100
_KEPT_CATEGORIES: Final = "LMNPSZ"


def printable(text: str, *, chars_max: int | None = None) -> str:
    """Text made safe for a terminal: control, bidi and other invisible characters escaped, breaks as a space."""
    flat = "".join(_shown(char) for char in text)
    if chars_max is not None and len(flat) > chars_max:
        return flat[: chars_max - 1] + "…"
    return flat


def _shown(char: str) -> str:
    if char in "\n\t\r":
        return " "
    category = unicodedata.category(char)
    return char if category[0] in _KEPT_CATEGORIES and category not in ("Zl", "Zp") else ascii(char)[1:-1]


def document(value: Any) -> str:
    """An answer as one line of JSON for --json, in ASCII: a terminal that shows it finds nothing to obey."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).replace("\x7f", "\\u007f")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one as it comes."""
    body = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in body) for column in range(len(heads) - 1)]
    lines = []
    for row in body:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def age(at_ms: int, now: int | None = None) -> str:
    """How long ago, in one unit: 12s, 4m, 3h, 9d."""
    seconds = max(0, ((now if now is not None else now_ms()) - at_ms) // 1000)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def size(count: int) -> str:
    """Bytes in one unit: 640 KiB, 12 MiB, 3.4 GiB."""
    if count < 1024 * 1024:
        return f"{count / 1024:.0f} KiB"
    mib = count / (1024 * 1024)
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def clock(at_ms: int) -> str:
    """A local time of day."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S")


def cages(rows: Sequence[Cage]) -> str:
    if not rows:
        return "no agents yet; `spawn` makes one"
    return table(
        ("AGENT", "ROLE", "CAGE", "GEN", "SINCE", "RUNNER", "BACKEND", "DETAIL"),
        (
            (
                cage.agent,
                cage.settings.role,
                cage.power,
                "–" if cage.generation is None else str(cage.generation),
                age(cage.since_ms),
                cage.settings.runner,
                cage.backend,
                printable(_detail(cage), chars_max=CELL_CHARS_MAX),
            )
            for cage in rows
        ),
    )


def _detail(cage: Cage) -> str:
    """What comes first: what is wrong, what is old, what is missing."""
    return cage.detail or (f"stale: {cage.stale}" if cage.stale else "; ".join(cage.degraded))


def cage(row: Cage) -> str:
    return f"{row.agent}: {row.power}" + (f" ({printable(row.detail)})" if row.detail else "")


def done(_: Any) -> str:
    return "done"


def sent(receipt: Sent) -> str:
    held = f", held in thread {receipt.thread} until it is released" if receipt.held else ""
    return f"message {receipt.message} is stored for {', '.join(receipt.recipients)}{held}"


def worded(code: str) -> str:
    """A code of the wire as a word: `in_turn` → `in turn`."""
    return code.replace("_", " ")


def _standing(delivery: Receipt) -> str:
    """Its state, and what the operator can do about one that is dead."""
    again = f" (retry {delivery.id})" if delivery.state is DeliveryState.DEAD else ""
    return worded(delivery.state) + again


def message_line(message: Message) -> str:
    """One message, with its time and where it stands."""
    return f"{clock(message.sent_ms)}  {message_words(message)}"


def message_words(message: Message) -> str:
    states = ", ".join(
        f"{delivery.recipient} {_standing(delivery)}" if len(message.deliveries) > 1 else _standing(delivery)
        for delivery in message.deliveries
    )
    reply = f" ↳{message.in_reply_to}" if message.in_reply_to else ""
    head = f"#{message.id}{reply}  {message.sender} → {message.to}"
    return f"{head}  {printable(message.body)}  [{states}]"


def messages(page: MessagePage) -> str:
    lines = [message_line(message) for message in reversed(page.messages)]
    if page.before is not None:
        lines.insert(0, f"(older: --before {page.before})")
    return "\n".join(lines) or "no messages"


def event_line(event: Woken | Said | Thought | ToolCalled | ToolReturned | Noted | Failed) -> str:
    """One event of a turn as one line."""
    match event:
        case Woken(sender=sender, text=text):
            return f"◂ {printable(sender)}: {printable(text)}"
        case Said(text=text):
            return f"▪ {printable(text)}"
        case Thought(text=text):
            return f"∴ {printable(text)}"
        case ToolCalled(tool=tool, summary=summary):
            return f"▶ {printable(tool)} {printable(summary)}"
        case ToolReturned(ok=ok, text=text, duration_ms=took_ms):
            return f"  {'ok' if ok else 'failed'} in {took_ms} ms: {printable(text, chars_max=200)}"
        case Noted(text=text):
            return f"· {printable(text)}"
        case Failed(text=text):
            return f"✗ {printable(text)}"


def turns(page: TailPage) -> str:
    lines: list[str] = []
    for item in page.turns:
        turn = item.turn
        state = worded(turn.outcome) if turn.outcome else "running"
        lines.append(
            f"turn {turn.id}  woken by {printable(turn.woke_by)}  {clock(turn.began_ms)}  {state}"
            + (f"  {printable(turn.detail)}" if turn.detail else "")
        )
        lines += [f"  {clock(event.at_ms)}  {event_line(event)}" for event in item.events]
    return "\n".join(lines) or "no turns"


def backed_up(made: BackedUp) -> str:
    return f"backup {made.name}, {size(made.bytes)}; to go back to it: restore {made.name}"
