"""The lines that `claude --output-format stream-json` prints, as far as they are read. Pure; every line is untrusted.

Only fields in use are declared; others are passed over. The demo CLI prints a subset of the same lines:
`system/init`, `assistant` (text, tool_use), `user` (tool_result) and `result`.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A longer line (an image in a tool's result) is passed over, and that is said."""


class UnreadableLine(Exception):
    """A line that is no JSON object of the kind that its type promises. The text says why, without echoing it."""


class Block(Struct, frozen=True):
    """One part of a message: text, thinking, a tool call or a tool's result."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None
    is_error: bool | None = None


class Content(Struct, frozen=True):
    """A message of the model or, with tool results, of the CLI to the model."""

    content: list[Block] | str = []


class Spoken(Struct, frozen=True):
    """`assistant` and `user` lines."""

    message: Content
    parent_tool_use_id: str | None = None
    error: str | None = None
    is_api_error_message: bool = False
    isSynthetic: bool = False  # noqa: N815 - as the CLI spells it  # the CLI's spelling


class ServerState(Struct, frozen=True):
    name: str
    status: str = ""


class Started(Struct, frozen=True):
    """`system/init`: the CLI is up."""

    session_id: str
    mcp_servers: list[ServerState] = []
    model: str = ""


class Retrying(Struct, frozen=True):
    """`system/api_retry`."""

    attempt: int
    max_retries: int
    retry_delay_ms: float
    error: str | None = None
    error_status: int | None = None


class PermissionDenied(Struct, frozen=True):
    """`system/permission_denied`."""

    tool_name: str
    message: str = ""


class Compacted(Struct, frozen=True):
    """`system/compact_boundary`."""

    compact_metadata: dict[str, Any] = {}


class LimitInfo(Struct, frozen=True):
    status: str
    resetsAt: int | None = None  # noqa: N815 - as the CLI spells it  # the CLI's spelling
    rateLimitType: str | None = None  # noqa: N815 - as the CLI spells it
    utilization: float | None = None


class LimitEvent(Struct, frozen=True):
    """`rate_limit_event`."""

    rate_limit_info: LimitInfo


class Told(Struct, frozen=True):
    """`system/informational`, `system/notification`: a sentence of the CLI's own."""

    content: str = ""
    text: str = ""


class Tokens(Struct, frozen=True):
    """Numbers of any kind, so that an odd one costs the statistics and not the turn's outcome."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None


class ModelUsage(Struct, frozen=True):
    costUSD: Any = None  # noqa: N815 - as the CLI spells it  # the CLI's spelling


class Result(Struct, frozen=True):
    """`result`: the last line of a run. What only statistics need may be missing; the outcome must not hang on it."""

    subtype: str = ""
    is_error: bool = False
    terminal_reason: str | None = None
    api_error_status: int | None = None
    result: str | None = None
    errors: list[str] | None = None
    usage: Tokens | None = None
    model_usage_since_last_result: dict[str, ModelUsage] | None = None


class Passed(Struct, frozen=True):
    """A line that is known and of no interest (a heartbeat, a partial message)."""


class Unknown(Struct, frozen=True):
    """A line of a type that this version of the harness does not know."""

    type: str


AnyLine = (
    Spoken | Started | Retrying | PermissionDenied | Compacted | LimitEvent | Told | Result | Passed | Unknown
)


class _Kind(Struct, frozen=True):
    type: str
    subtype: str = ""


SHAPES: Final[dict[str, type[AnyLine]]] = {
    "assistant": Spoken,
    "user": Spoken,
    "result": Result,
    "rate_limit_event": LimitEvent,
    "system/init": Started,
    "system/api_retry": Retrying,
    "system/permission_denied": PermissionDenied,
    "system/compact_boundary": Compacted,
    "system/informational": Told,
    "system/notification": Told,
}
PASSED: Final = frozenset(
    {
        "stream_event",
        "tool_progress",
        "command_lifecycle",
        "system/status",
        "system/thinking_tokens",
        "system/hook_started",
        "system/hook_response",
    }
)

_kind_decoder = msgspec.json.Decoder(_Kind)
_decoders: Final = {name: msgspec.json.Decoder(shape) for name, shape in SHAPES.items()}


def read_line(untrusted_line: bytes) -> tuple[str, AnyLine]:
    """Decode one line into its type (`assistant`, `system/init`, …) and what it says. Raises UnreadableLine."""
    try:
        kind = _kind_decoder.decode(untrusted_line)
        name = f"system/{kind.subtype}" if kind.type == "system" else kind.type
        decoder = _decoders.get(name)
        if decoder is None:
            return name, Passed() if name in PASSED else Unknown(name)
        line: AnyLine = decoder.decode(untrusted_line)
    except UnicodeDecodeError:
        raise UnreadableLine("not UTF-8") from None
    except msgspec.DecodeError as error:
        raise UnreadableLine(str(error)) from None
    except RecursionError:
        raise UnreadableLine("nested too deeply") from None
    return name, line
