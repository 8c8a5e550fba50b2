"""What a configuration would change in what an agent may or has, said one by one for whoever must judge it. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from privd.policy.system_text import FILE, named
from protocol.approvals import CapabilityChange
from protocol.names import EVERYONE
from protocol.settings import AgentSettings, McpServer, StandingReminder

CHANGES_MAX: Final = 120
VALUE_CHARS_MAX: Final = 160
STEERING: Final = re.compile(
    r"LD_|PATH$|PYTHON|NODE_|BASH_ENV|ENV$|GIT_|SSH_|.*PROXY|ANTHROPIC|CLAUDE|HIVE_", re.IGNORECASE
)
"""Variables that change which programs run, or where they connect to."""
WORDS: Final = re.compile(
    r"(?i)\b(?:ignore (?:all|any|previous)|disregard|bypass|credential|password|secret|token|api[_ ]key|exfiltrat\w*"
    r"|upload|curl|wget|sudo|base64|without asking|do not tell|approv\w*)\b"
)
"""In a role prompt: they deserve a look, and may well be harmless."""


def changes(
    before: AgentSettings | None,
    after: AgentSettings,
    warnings: Iterable[str] = (),
    systems: tuple[str, str] = ("", ""),
) -> tuple[CapabilityChange, ...]:
    """Every change from one to the other, the notable ones first; before None: the agent is new.

    *systems* are the texts of agent.nix and the modules beside it, before and after.
    """
    found = [
        *(_change("left out", None, warning, notable=True) for warning in warnings),
        *_plain(before, after),
        *_recipients(before, after),
        *_commands(before, after),
        *_each("connects to", _hosts(before), _hosts(after), notable=True),
        *_limits("limit", before and before.limits, after.limits),
        *_limits("egress", before and before.egress_limits, after.egress_limits),
        *_environment(before, after),
        *_each("MCP server", _servers(before), _servers(after), notable=True),
        *_each("reminder", _reminders(before), _reminders(after), notable=False),
        *_prompt(before, after),
        *_system(*systems),
    ]
    found.sort(key=lambda change: not change.notable)
    if len(found) > CHANGES_MAX:
        rest = f"{len(found) - CHANGES_MAX + 1} more changes: read the diff"
        found = [*found[: CHANGES_MAX - 1], _change("more", None, rest, notable=True)]
    return tuple(found)


def _change(subject: str, before: str | None, after: str | None, *, notable: bool) -> CapabilityChange:
    """One row. What is too long for one deserves a look by that alone: only the diff says all of it."""
    long = any(len(text) > VALUE_CHARS_MAX for text in (subject, before or "", after or ""))
    return CapabilityChange(_cut(subject), before and _cut(before), after and _cut(after), notable or long)


def _cut(text: str) -> str:
    """Beginning and end, with how much is left out between: what stands last tells as much as what stands first."""
    if len(text) <= VALUE_CHARS_MAX:
        return text
    between = f" … {len(text) - VALUE_CHARS_MAX} more in the diff … "
    kept = VALUE_CHARS_MAX - len(between)
    return text[: kept - kept // 2] + between + text[-(kept // 2) :]


def _plain(before: AgentSettings | None, after: AgentSettings) -> Iterator[CapabilityChange]:
    for name, notable in (
        ("runner", True),
        ("model", False),
        ("account", True),
        ("credential", True),
        ("icon", False),
        ("pronouns", False),
    ):
        new = str(getattr(after, name)) or None
        old = None if before is None else str(getattr(before, name)) or None
        if new != old:
            yield _change(name, old, new, notable=notable and before is not None)


def _recipients(before: AgentSettings | None, after: AgentSettings) -> Iterator[CapabilityChange]:
    yield from _scope(
        "writes to",
        before is not None and before.allowed_recipients is None,
        None if before is None else before.allowed_recipients,
        after.allowed_recipients,
        everything="everyone",
    )


def _commands(before: AgentSettings | None, after: AgentSettings) -> Iterator[CapabilityChange]:
    yield from _scope(
        "runs",
        before is not None and before.allowed_commands is None,
        None if before is None else before.allowed_commands,
        after.allowed_commands,
        everything="every command",
    )


def _scope(
    subject: str,
    had_all: bool,  # noqa: FBT001 - the one thing that None alone cannot say
    before: tuple[str, ...] | None,
    after: tuple[str, ...] | None,
    *,
    everything: str,
) -> Iterator[CapabilityChange]:
    """What may be everything (None), or a list. Everything is notable only where it was less before."""
    if after is None:
        if not had_all:
            yield _change(
                subject, None if before is None else _listed(before), everything, notable=before is not None
            )
        return
    if had_all:
        yield _change(subject, everything, _listed(after), notable=False)
        return
    for entry in sorted({*after, *(before or ())}):
        new, old = entry in after, entry in (before or ())
        if new != old:
            notable = new and (before is not None or entry == EVERYONE)
            yield _change(subject, entry if old else None, entry if new else None, notable=notable)


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "nobody but manager and operator"


def _each(
    subject: str, before: Mapping[str, str], after: Mapping[str, str], *, notable: bool
) -> Iterator[CapabilityChange]:
    """Named things, each with what it is; one that is new or another is notable where that is said."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield _change(f"{subject} {name}", old, new, notable=notable and new is not None)


def _limits(subject: str, before: msgspec.Struct | None, after: msgspec.Struct) -> Iterator[CapabilityChange]:
    for name in after.__struct_fields__:
        new, old = getattr(after, name), getattr(before, name, None)
        if before is not None and new != old:
            more = new is None or (old is not None and new > old)
            yield _change(f"{subject} {name}", _amount(old), _amount(new), notable=more)
        elif before is None and new is None:
            yield _change(f"{subject} {name}", None, _amount(new), notable=False)


def _amount(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _environment(before: AgentSettings | None, after: AgentSettings) -> Iterator[CapabilityChange]:
    old = {} if before is None else before.environment
    for name in sorted({*old, *after.environment}):
        if old.get(name) != after.environment.get(name):
            notable = name in after.environment and STEERING.match(name) is not None
            yield _change(f"variable {name}", old.get(name), after.environment.get(name), notable=notable)


def _hosts(settings: AgentSettings | None) -> dict[str, str]:
    return {} if settings is None else dict.fromkeys(settings.egress_hosts, "allowed")


def _servers(settings: AgentSettings | None) -> dict[str, str]:
    return {} if settings is None else {name: _server(each) for name, each in settings.mcp_servers.items()}


def _server(server: McpServer) -> str:
    """The program first: nothing that is set for it can push it out of sight."""
    variables = " ".join(f"{name}={value}" for name, value in server.environment.items())
    return " ".join(server.command) + (f", with {variables}" if variables else "")


def _reminders(settings: AgentSettings | None) -> dict[str, str]:
    return {} if settings is None else {each.name: _reminder(each) for each in settings.reminders}


def _reminder(reminder: StandingReminder) -> str:
    when = reminder.cron or f"every {reminder.every_s} s"
    condition = f", if `{reminder.only_if}`" if reminder.only_if else ""
    return f"{when}{condition}: {reminder.body}"


def _prompt(before: AgentSettings | None, after: AgentSettings) -> Iterator[CapabilityChange]:
    old = "" if before is None else before.role_prompt
    if old == after.role_prompt:
        return
    had = {found.lower() for found in WORDS.findall(old)}
    fresh = sorted({found.lower() for found in WORDS.findall(after.role_prompt)} - had)
    said = f"{len(after.role_prompt)} characters" + (f"; says {', '.join(fresh)}" if fresh else "")
    yield _change("role prompt", f"{len(old)} characters" if old else None, said, notable=bool(fresh))


def _system(before: str, after: str) -> Iterator[CapabilityChange]:
    """What the text names; that it changed at all is notable, since it may compute what it does not name."""
    if before == after:
        return
    yield _change(FILE, _lines(before), _lines(after), notable=bool(after))
    old, new = named(before), named(after)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield _change(
                name, old.get(name), new.get(name), notable=name in new and not name.startswith("package")
            )


def _lines(text: str) -> str | None:
    return f"{len(text.splitlines())} lines; what they compute only Nix knows" if text else None
