"""Whether an agent may be created or purged, and when a crashed cage starts again. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from protocol.limits import AGENTS_MAX
from protocol.names import MANAGER_NAME, agent_name_fault
from protocol.privd import Power
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole, AgentSettings, Runner

CRASHES_MAX: Final = 5
CRASH_WINDOW_MS: Final = 10 * 60 * 1000
"""More than CRASHES_MAX crashes within this window, and the cage waits for the operator."""
SETTINGS_BYTES_MAX: Final = 96 * 1024
"""Of one agent's settings, as a frame holds them."""
ALL_SETTINGS_BYTES_MAX: Final = 1_536 * 1024
"""Of all agents together: every daemon is told all rows in one frame, and takes none of more than REPLY_BYTES_MAX."""
BACKOFF_FIRST_MS: Final = 1_000
BACKOFF_MAX_MS: Final = 60_000


def role_of(name: str) -> AgentRole:
    """Which role an agent of this name is created with."""
    return AgentRole.MANAGER if name == MANAGER_NAME else AgentRole.AGENT


def check_creation(name: str, existing: Iterable[tuple[str, bool]]) -> None:
    """Refuse a new agent that may not be: a bad or taken name, or too many. `existing` is (name, kept).

    A name whose state is kept may be created again: the agent finds what it left.
    """
    fault = agent_name_fault(name)
    if fault:
        raise Refused(Problem.MALFORMED, fault)
    known = dict(existing)
    if known.get(name) is False:
        raise Refused(Problem.CONFLICT, f"{name} exists already")
    if name not in known and len(known) >= AGENTS_MAX:
        raise Refused(
            Problem.LIMIT, f"a hive has at most {AGENTS_MAX} agents, kept state among them; purge some"
        )


def check_runner(runner: Runner, *, has_claude: bool) -> None:
    """Refuse an agent whose every turn would fail for want of its CLI."""
    if runner is Runner.CLAUDE and not has_claude:
        raise Refused(
            Problem.CONFLICT,
            "runner claude: this hive started without Claude Code; `./hive env claude` installs it, then start again",
        )


def check_size(settings: AgentSettings, others: Iterable[AgentSettings]) -> None:
    """Refuse settings that are too large, by themselves or with those of all other agents, kept ones among them."""
    own = _size(settings)
    if own > SETTINGS_BYTES_MAX:
        raise Refused(
            Problem.LIMIT,
            f"the settings of {settings.name} have {own} bytes, at most {SETTINGS_BYTES_MAX} may be deployed: "
            "shorten its environment, prompt, reminders or MCP servers",
        )
    together = own + sum(_size(each) for each in others)
    if together > ALL_SETTINGS_BYTES_MAX:
        raise Refused(
            Problem.LIMIT,
            f"with this the settings of all agents have {together} bytes, at most {ALL_SETTINGS_BYTES_MAX} may be "
            "deployed: shorten some, or purge agents that were destroyed",
        )


def _size(settings: AgentSettings) -> int:
    return len(msgspec.json.encode(settings))


def check_purge(agent: str, confirm: str, power: Power) -> None:
    """Refuse to purge what still has a cage, or without the name typed again."""
    if confirm != agent:
        raise Refused(Problem.MALFORMED, f"confirm says {confirm!r}, not {agent!r}: nothing was deleted")
    if power is not Power.KEPT:
        raise Refused(Problem.CONFLICT, f"{agent} still has a cage ({power}): destroy it first")


def restart_after_ms(crashes_ms: Sequence[int], now_ms: int) -> int | None:
    """How long until a crashed cage starts again, by the times of its crashes; None: it waits for the operator."""
    recent = sum(1 for at_ms in crashes_ms if now_ms - at_ms < CRASH_WINDOW_MS)
    if recent > CRASHES_MAX:
        return None
    return min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS << max(0, recent - 1))
