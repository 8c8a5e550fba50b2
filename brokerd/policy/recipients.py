"""Who gets a message, and whether its sender may write to them."""

from collections.abc import Mapping
from enum import Enum, auto

from msgspec import Struct

from protocol.names import EVERYONE, MANAGER_ALIAS, OPERATOR
from protocol.problem import Problem, Refused
from protocol.settings import AgentRole

ALL_AT_ONCE_MAX = 127
"""Recipients of one message; a delivery's id has room for this many (brokerd.store.deliveries)."""


class Sender(Struct, frozen=True):
    """Who writes. `role` is None for the operator; `allowed` are the agent's deployed recipients, None is everyone."""

    name: str
    role: AgentRole | None = None
    allowed: tuple[str, ...] | None = None


class Verdict(Enum):
    ALLOWED = auto()
    AS_REPLY = auto()
    """Only in answer to somebody who wrote to the sender in that thread."""
    DENIED = auto()


def manager_of(agents: Mapping[str, AgentRole]) -> str | None:
    """The agent that holds the manager role; the first by name should there be more."""
    return min((name for name, role in agents.items() if role is AgentRole.MANAGER), default=None)


def addressed(to: str, sender: str, agents: Mapping[str, AgentRole]) -> tuple[str, ...]:
    """The names that `to` means, in order. Refused: `not_found` names who there is, `denied` for oneself."""
    if to == EVERYONE:
        return _everyone_but(sender, agents)
    name = manager_of(agents) if to == MANAGER_ALIAS else to
    if name is None:
        raise Refused(Problem.NOT_FOUND, "no agent of this hive holds the manager role")
    if name == sender:
        raise Refused(Problem.DENIED, "a message to yourself: use a reminder")
    if name != OPERATOR and name not in agents:
        known = ", ".join(sorted(agents)) or "no agent at all"
        raise Refused(Problem.NOT_FOUND, f"there is no agent {name}; there are: {known}")
    return (name,)


def _everyone_but(sender: str, agents: Mapping[str, AgentRole]) -> tuple[str, ...]:
    others = tuple(sorted(name for name in agents if name != sender))
    if not others:
        raise Refused(Problem.NOT_FOUND, "there is no other agent to write to")
    if len(others) > ALL_AT_ONCE_MAX:
        raise Refused(
            Problem.LIMIT, f"{len(others)} agents are more than one message reaches ({ALL_AT_ONCE_MAX})"
        )
    return others


def may_write(
    sender: Sender, to: str, recipients: tuple[str, ...], agents: Mapping[str, AgentRole]
) -> Verdict:
    """Whether the deployed settings let `sender` write `to`. The manager and the operator are always reachable."""
    if sender.role is not AgentRole.AGENT or sender.allowed is None or EVERYONE in sender.allowed:
        return Verdict.ALLOWED
    manager = manager_of(agents)
    open_to_all = {OPERATOR, manager}
    listed = {manager if name == MANAGER_ALIAS else name for name in sender.allowed}
    if to != EVERYONE:
        return Verdict.ALLOWED if recipients[0] in listed | open_to_all else Verdict.AS_REPLY
    return Verdict.ALLOWED if set(recipients) <= listed | open_to_all else Verdict.DENIED


def not_allowed(sender: str, to: str) -> Refused:
    return Refused(Problem.DENIED, f"{sender} may not write to {to}")
