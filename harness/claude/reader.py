"""From an agent CLI's lines to turn events and, at the end, to the facts of the run. Pure: time comes in as a function.

Nothing that the CLI prints raises here: an unreadable line and a line of an unknown type are counted, and reported
once, at the end, as a note of the turn.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, assert_never

from harness.claude.lines import (
    AnyLine,
    Block,
    Compacted,
    LimitEvent,
    Passed,
    PermissionDenied,
    Result,
    Retrying,
    Spoken,
    Started,
    Tokens,
    Told,
    Unknown,
    UnreadableLine,
    read_line,
)
from harness.policy.budget import cut_chars
from harness.policy.outcomes import Facts, Stop
from protocol.limits import INTEGER_MAX, TURN_LABEL_CHARS_MAX, TURN_TEXT_CHARS_MAX
from protocol.settings import OWN_SERVER
from protocol.turns import Failed, Noted, Said, Thought, ToolCalled, ToolReturned, TurnEvent, Usage

TOOL_PREFIX: Final = f"mcp__{OWN_SERVER}__"
THERE: Final = "connected"
"""What the CLI says of an MCP server whose tools it has."""
OPEN_CALLS_MAX: Final = 512
"""Tool calls whose result is still to come; beyond it the oldest loses its duration."""
ODD_KINDS_MAX: Final = 20
"""Kinds of lines passed over that are told apart."""
UNNUMBERED: Final = 0
"""Events leave here with n = 0; the publisher numbers them (harness.publisher)."""
SUMMARY_KEYS: Final = (
    "command",
    "file_path",
    "path",
    "pattern",
    "url",
    "query",
    "description",
    "text",
    "prompt",
)
MICRO: Final = 1_000_000


class Reader:
    """Reads the lines of one run. `feed` gives events; `facts` and `usage` are complete after the last line."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._calls: dict[str, int] = {}
        self._odd: Counter[str] = Counter()
        self._result: Result | None = None
        self._api_error = ""
        self._limit_resets_s: int | None = None
        self.started: Started | None = None

    def feed(self, untrusted_line: bytes) -> list[TurnEvent]:
        """Turn one line into events; most lines give one, many give none."""
        if not untrusted_line.strip():
            return []
        try:
            name, line = read_line(untrusted_line)
        except UnreadableLine as fault:
            self.skip(f"unreadable ({cut_chars(str(fault), 80)})")
            return []
        return list(self._events(name, line))

    def skip(self, reason: str) -> None:
        """Count a line, or a part of one, that is passed over."""
        self._odd[reason if reason in self._odd or len(self._odd) < ODD_KINDS_MAX else "of other kinds"] += 1

    def closing(self) -> list[TurnEvent]:
        """What is still to be said when the last line was read: what was passed over, and an error's own words."""
        events: list[TurnEvent] = []
        if self._odd:
            told = ", ".join(f"{count} {what}" for what, count in self._odd.most_common())
            events.append(self._noted(f"lines of the agent CLI that were passed over: {told}"))
        result = self._result
        aborted = result is not None and (result.terminal_reason or "").startswith("aborted")
        if result is not None and result.is_error and not aborted:
            text = result.result or "; ".join(result.errors or ()) or result.subtype
            events.append(Failed(UNNUMBERED, self._now_ms(), _text(text)))
        return events

    def tools_missing(self) -> bool:
        """Whether the CLI is up but did not reach the hive's tools."""
        return self._server_status() == "failed"

    def facts(self, *, exit_code: int | None, stopped: Stop | None, stderr_tail: str) -> Facts:
        """Everything that the verdict depends on."""
        result = self._result or Result()
        return Facts(
            exit_code=exit_code,
            stopped=stopped,
            has_result=self._result is not None,
            is_error=result.is_error,
            subtype=result.subtype,
            terminal_reason=result.terminal_reason or "",
            api_status=result.api_error_status,
            api_error=self._api_error,
            text=result.result or "",
            errors=tuple(result.errors or ()),
            limit_resets_s=self._limit_resets_s,
            tools_missing=self.tools_missing(),
            stderr_tail=stderr_tail,
        )

    def usage(self) -> Usage | None:
        """What this run cost; None without a result."""
        if self._result is None:
            return None
        tokens = self._result.usage or Tokens()
        models = (self._result.model_usage_since_last_result or {}).values()
        return Usage(
            input_tokens=_count(tokens.input_tokens),
            output_tokens=_count(tokens.output_tokens),
            cache_read_tokens=_count(tokens.cache_read_input_tokens),
            cache_write_tokens=_count(tokens.cache_creation_input_tokens),
            cost_microusd=min(INTEGER_MAX, sum(_micro(model.costUSD) for model in models)),
        )

    def _events(self, name: str, line: AnyLine) -> Iterator[TurnEvent]:
        match line:
            case Spoken():
                yield from self._spoken(name, line)
            case Started():
                yield from self._began(line)
            case Result():
                self._result = line
            case LimitEvent():
                yield from self._limit(line)
            case Retrying() | PermissionDenied() | Compacted() | Told():
                yield self._noted(_words(line))
            case Unknown():
                self.skip(f"of the unknown type {cut_chars(line.type, 60)!a}")
            case Passed():
                pass
            case _:
                assert_never(line)

    def _began(self, line: Started) -> Iterator[TurnEvent]:
        """The CLI is up; what it lacks is told."""
        self.started = line
        if self._server_status() == "pending":
            yield self._noted("the agent CLI started before it had the hive's tools")
        for server in line.mcp_servers:
            if server.name != OWN_SERVER and server.status != THERE:
                name, status = cut_chars(server.name, 40), cut_chars(server.status, 40)
                yield self._noted(
                    f"the MCP server {name} is not there ({status}): this turn goes on without its tools"
                )

    def _server_status(self) -> str:
        servers = self.started.mcp_servers if self.started else ()
        return next((server.status for server in servers if server.name == OWN_SERVER), "")

    def _spoken(self, name: str, line: Spoken) -> Iterator[TurnEvent]:
        if line.error:
            self._api_error = line.error
        if line.is_api_error_message or line.error:
            return  # the result says the same, and `closing` tells it
        content = line.message.content
        blocks = [Block(type="text", text=content)] if isinstance(content, str) else content
        prefix = "[sub-agent] " if line.parent_tool_use_id else ""
        for block in blocks:
            yield from self._block(name, block, prefix)

    def _block(self, name: str, block: Block, prefix: str) -> Iterator[TurnEvent]:
        now_ms = self._now_ms()
        match block.type:
            case "text" if name == "assistant":
                if block.text.strip():
                    yield Said(UNNUMBERED, now_ms, _text(prefix + block.text))
            case "text":
                yield self._noted(f"{prefix}the agent CLI told the model: {block.text}")
            case "thinking" | "redacted_thinking":
                if block.thinking.strip():
                    yield Thought(UNNUMBERED, now_ms, _text(prefix + block.thinking))
            case "tool_use":
                yield self._called(block, now_ms)
            case "tool_result":
                yield self._returned(block, now_ms)
            case other:
                self.skip(f"blocks of the unknown type {cut_chars(other, 60)!a}")

    def _called(self, block: Block, now_ms: int) -> TurnEvent:
        if len(self._calls) >= OPEN_CALLS_MAX:
            self._calls.pop(next(iter(self._calls)))
        self._calls[block.id] = now_ms
        tool = block.name.removeprefix(TOOL_PREFIX)
        given = json.dumps(block.input, ensure_ascii=False)
        return ToolCalled(
            UNNUMBERED,
            now_ms,
            _label(block.id),
            _label(tool),
            _label(summary(tool, block.input)),
            _text(given),
        )

    def _returned(self, block: Block, now_ms: int) -> TurnEvent:
        began_ms = self._calls.pop(block.tool_use_id, now_ms)
        return ToolReturned(
            UNNUMBERED,
            now_ms,
            _label(block.tool_use_id),
            ok=not block.is_error,
            text=_text(result_text(block.content)),
            duration_ms=max(0, now_ms - began_ms),
        )

    def _limit(self, line: LimitEvent) -> Iterator[TurnEvent]:
        limit = line.rate_limit_info
        if limit.status == "rejected":
            self._limit_resets_s = limit.resetsAt if limit.resetsAt is not None else self._limit_resets_s
        elif limit.status == "allowed_warning":
            used = "" if limit.utilization is None else f" ({limit.utilization:.0%} used)"
            yield self._noted(f"the account's {limit.rateLimitType or 'usage'} limit is near{used}")

    def _noted(self, text: str) -> TurnEvent:
        return Noted(UNNUMBERED, self._now_ms(), _text(text))


def summary(tool: str, given: Any) -> str:
    """One line that says what a tool call does."""
    if not isinstance(given, dict):
        return ""
    if tool == "send":
        return _one_line(f"to {given.get('to', '?')}: {given.get('body', '')}")
    for key in SUMMARY_KEYS:
        if isinstance(given.get(key), str):
            return _one_line(given[key])
    return _one_line(json.dumps(given, ensure_ascii=False)) if given else ""


def result_text(content: Any) -> str:
    """A tool result's text; what is no text is named, not shown."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_parts(content))
    return json.dumps(content, ensure_ascii=False)


def _parts(content: Iterable[Any]) -> Iterator[str]:
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]
        else:
            kind = part.get("type", "?") if isinstance(part, dict) else type(part).__name__
            yield f"[{kind}]"


def _words(line: Retrying | PermissionDenied | Compacted | Told) -> str:
    match line:
        case Retrying():
            status = f" {line.error_status}" if line.error_status else ""
            return (
                f"the model API failed ({line.error or 'no reason'}{status}); "
                f"retry {line.attempt} of {line.max_retries} in {line.retry_delay_ms / 1000:.1f} s"
            )
        case PermissionDenied():
            return f"{line.tool_name} was not permitted: {line.message}"
        case Compacted():
            return f"the conversation was compacted {json.dumps(line.compact_metadata)}"
        case Told():
            return line.content or line.text


def _micro(untrusted_usd: object) -> int:
    """Millionths of a dollar; a nonsense value of the CLI counts as nothing."""
    if not isinstance(untrusted_usd, int | float):
        return 0
    return round(untrusted_usd * MICRO) if 0 <= untrusted_usd < MICRO else 0


def _count(untrusted_tokens: object) -> int:
    """A count within what the wire carries, so that no number of the CLI's makes a turn's end undecodable."""
    if not isinstance(untrusted_tokens, int):
        return 0
    return int(min(INTEGER_MAX, max(0, untrusted_tokens)))


def _one_line(text: str) -> str:
    return " ".join(text[: TURN_LABEL_CHARS_MAX * 4].split())


def _text(text: str) -> str:
    return cut_chars(text, TURN_TEXT_CHARS_MAX)


def _label(text: str) -> str:
    return cut_chars(text, TURN_LABEL_CHARS_MAX)
