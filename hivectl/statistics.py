"""Numbers for people: a line for each agent, and one agent's day as a row of bars."""

from collections.abc import Iterable, Sequence
from typing import Final

from hivectl.reminders import moment
from hivectl.tables import age, printable, table, worded
from protocol.statistics import AgentStatistics, Disk, Statistics, Traffic
from protocol.turns import Outcome

BARS: Final = "▁▂▃▄▅▆▇█"
BARS_MAX: Final = 60
TOOLS_SHOWN: Final = 12
NOTHING: Final = "–"
HEADS: Final = (
    "AGENT",
    "TURNS",
    "/MIN",
    "TOOLS/TURN",
    "P50",
    "P95",
    "FAILED",
    "INBOX",
    "MAX",
    "SENT",
    "GOT",
    "TOKENS",
    "COST",
    "REMINDERS",
    "NOTES",
    "LAST",
)
"""`MAX` is the deepest inbox; `TOKENS` were written; of reminders, those delivered of those that fired."""
KIB: Final = 1024
UNITS: Final = (("KiB", KIB), ("MiB", KIB**2), ("GiB", KIB**3))


def statistics(reply: Statistics) -> str:
    """Everybody's numbers; with one agent's series, its own."""
    if len(reply.agents) == 1 and reply.agents[0].series:
        return "\n".join([*agent(reply.agents[0], reply), "", *swarm(reply)])
    if not reply.agents:
        return "no agents yet; `spawn` makes one"
    lines = (_line(each, reply.at_ms) for each in reply.agents)
    return "\n".join([table(HEADS, lines), "", *swarm(reply)])


def _line(each: AgentStatistics, at_ms: int) -> Sequence[str]:
    return (
        each.agent,
        str(each.turns),
        f"{each.turns_per_minute:.2f}",
        f"{each.tool_calls_per_turn:.1f}",
        duration(each.duration_p50_ms),
        duration(each.duration_p95_ms),
        str(_failed(each)),
        str(each.inbox),
        str(each.inbox_max),
        str(_total(each.sent)),
        str(_total(each.received)),
        str(each.usage.output_tokens),
        money(each.usage.cost_microusd),
        f"{each.reminders.delivered}/{each.reminders.attempted}",
        size(each.notes_bytes),
        NOTHING if each.last_turn_ms is None else age(each.last_turn_ms, at_ms),
    )


def agent(each: AgentStatistics, reply: Statistics) -> list[str]:
    """One agent's numbers, line by line."""
    step = duration(reply.bucket_ms)
    last = NOTHING if each.last_turn_ms is None else f"{age(each.last_turn_ms, reply.at_ms)} ago"
    lines = [
        f"{each.agent} since {moment(reply.since_ms)}",
        f"  turns      {each.turns}, {each.turns_per_minute:.2f} a minute, the last {last}",
        f"  outcomes   {_listed((worded(outcome), count) for outcome, count in each.outcomes.items())}",
        f"  duration   p50 {duration(each.duration_p50_ms)}, p95 {duration(each.duration_p95_ms)}",
        f"  tools      {each.tool_calls_per_turn:.1f} a turn: {_tools(each)}",
        f"  inbox      {each.inbox}, at most {each.inbox_max}",
        f"  sent       {_traffic(each.sent)}",
        f"  received   {_traffic(each.received)}",
        f"  tokens     {_tokens(each)}, {money(each.usage.cost_microusd)}",
        f"  reminders  {_reminders(each)}",
        f"  notes      {size(each.notes_bytes)}",
        "",
    ]
    for name, values in (
        ("turns", [bucket.turns for bucket in each.series]),
        ("failed", [bucket.failed for bucket in each.series]),
        ("inbox", [bucket.inbox_max for bucket in each.series]),
        ("messages", [bucket.sent + bucket.received for bucket in each.series]),
    ):
        lines.append(f"  {name:<9}  {bars(values)}  at most {max(values)} in {step}")
    return lines


def bars(values: Sequence[int]) -> str:
    """A row of bars as high as the values are; several values share a bar when there are many."""
    share = max(1, -(-len(values) // BARS_MAX))
    highest = [max(values[start : start + share]) for start in range(0, len(values), share)]
    top = max(highest, default=0)
    return "".join(
        BARS[-(-value * (len(BARS) - 1) // top)] if top and value else BARS[0] if top else "·"
        for value in highest
    )


def swarm(reply: Statistics) -> list[str]:
    """What is counted for all together."""
    counted = f"{reply.messages} messages since {moment(reply.since_ms)}, {reply.messages_kept} kept"
    waiting = (
        f"{reply.questions_open} open questions, {reply.reminders_open} reminders, "
        f"{reply.threads_parked} parked threads, {reply.approvals_waiting} approvals waiting"
    )
    return [f"{counted}; {waiting}", _disk(reply.disk)]


def _disk(disk: Disk) -> str:
    return (
        f"on disk: messages {size(disk.messages_bytes)}, events {size(disk.events_bytes)}, "
        f"logs {size(disk.log_bytes)}, backups {size(disk.backups_bytes)}; "
        f"{size(disk.free_bytes)} free, {size(disk.reserve_bytes)} of it kept free"
    )


def _failed(each: AgentStatistics) -> int:
    fine = (Outcome.DONE, Outcome.CANCELLED)
    return sum(count for outcome, count in each.outcomes.items() if outcome not in fine)


def _total(traffic: Traffic) -> int:
    return traffic.peer + traffic.operator + traffic.manager + traffic.system


def _traffic(traffic: Traffic) -> str:
    kinds = {name: getattr(traffic, name) for name in traffic.__struct_fields__}
    return _listed((name, count) for name, count in kinds.items() if count)


def _tools(each: AgentStatistics) -> str:
    return _listed(
        [(printable(tool, chars_max=40), count) for tool, count in each.tools.items()][:TOOLS_SHOWN]
    )


def _tokens(each: AgentStatistics) -> str:
    usage = each.usage
    return (
        f"{usage.output_tokens} written, {usage.input_tokens} read, {usage.cache_read_tokens} from the cache, "
        f"{usage.cache_write_tokens} into it"
    )


def _reminders(each: AgentStatistics) -> str:
    of = each.reminders
    return (
        f"{of.attempted} fired, {of.delivered} delivered, {of.failed} failed, {of.skipped} skipped, "
        f"{of.waiting} waiting"
    )


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts) or NOTHING


def duration(took_ms: int | None) -> str:
    """Two digits and a unit: 850ms, 1.2s, 12s, 3m, 4h, 9d."""
    if took_ms is None:
        return NOTHING
    if took_ms < 1_000:
        return f"{took_ms}ms"
    seconds = took_ms / 1_000
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"


def size(count: int | None) -> str:
    """Bytes for people: 12 B, 3.4 KiB, 5.0 GiB."""
    if count is None:
        return NOTHING
    if count < KIB:
        return f"{count} B"
    unit, amount = next(
        (unit, count / length) for unit, length in UNITS if count < length * KIB or unit == UNITS[-1][0]
    )
    return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"


def money(microusd: int) -> str:
    return f"${microusd / 1_000_000:.2f}"
