"""Numbers about agents and the swarm, taken from the turn journal, and what the hive keeps on its disk."""

from msgspec import Struct

from protocol.names import AgentName
from protocol.reminders import ReminderRollup
from protocol.turns import Outcome, Usage


class Traffic(Struct, frozen=True):
    """Messages by the kind of the other side."""

    peer: int = 0
    operator: int = 0
    manager: int = 0
    system: int = 0


class Bucket(Struct, frozen=True):
    """One step of a series: turns that ended in it, and the deepest inbox."""

    at_ms: int
    turns: int
    failed: int
    """Turns that did not end `done` or `cancelled`."""
    tool_calls: int
    duration_p50_ms: int | None
    duration_p95_ms: int | None
    inbox_max: int
    sent: int
    received: int
    output_tokens: int
    cost_microusd: int
    notes_bytes: int | None


class AgentStatistics(Struct, frozen=True):
    """One agent in a span of time."""

    agent: AgentName
    turns: int
    turns_per_minute: float
    tool_calls_per_turn: float
    duration_p50_ms: int | None
    duration_p95_ms: int | None
    outcomes: dict[Outcome, int]
    inbox: int
    """Open deliveries now."""
    inbox_max: int
    sent: Traffic
    received: Traffic
    tools: dict[str, int]
    """Calls by tool, the most used first."""
    last_turn_ms: int | None
    notes_bytes: int | None
    usage: Usage
    reminders: ReminderRollup
    series: tuple[Bucket, ...] = ()


class Disk(Struct, frozen=True):
    """What brokerd keeps, in bytes, and what is left."""

    messages_bytes: int
    events_bytes: int
    log_bytes: int
    """The write-ahead logs of both."""
    backups_bytes: int
    free_bytes: int
    reserve_bytes: int
    """When less than this is free, nothing new is stored."""


class Statistics(Struct, frozen=True):
    """The swarm in a span of time."""

    since_ms: int
    at_ms: int
    bucket_ms: int
    agents: tuple[AgentStatistics, ...]
    messages: int
    """Sent in that time."""
    messages_kept: int
    questions_open: int
    reminders_open: int
    threads_parked: int
    approvals_waiting: int
    disk: Disk
