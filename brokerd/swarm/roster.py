"""The agents that there are, as privd reported them last: whom one may write to, and who may write to whom."""

from functools import lru_cache
from typing import Final, TypeVar

from msgspec.structs import replace

from brokerd.policy.recipients import Sender
from brokerd.store.agents import Known
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Role
from protocol.settings import AgentRole, AgentSettings

T = TypeVar("T")

ALIKE: Final = (
    "account",
    "allowed_commands",
    "allowed_recipients",
    "egress_hosts",
    "egress_limits",
    "limits",
    "model",
    "reminders",
)
"""Settings that many agents have in common."""
VALUES_SHARED_MAX: Final = 256
"""Values of settings that are remembered, so that the next agent's can be the same ones."""


class Roster:
    """Kept in memory; `brokerd.store.agents` has the same for the next start."""

    def __init__(self) -> None:
        self.roles: dict[str, AgentRole] = {}
        self.drafts: set[str] = set()
        """Names under which there is a proposed configuration and no agent yet."""
        self.models: dict[str, str] = {}
        """Those that the operator chose over what the settings say."""
        self._known: dict[str, Known] = {}

    def know(self, told: Known) -> Known:
        """Keep what was told of an agent, and return it as it is kept."""
        known = replace(told, settings=_sharing(told.settings))
        before = self._known.get(known.name)
        if before is None or before.settings.model != known.settings.model:
            self.models.pop(known.name, None)
        self._known[known.name] = known
        self.roles[known.name] = known.settings.role
        return known

    def choose(self, name: str, model: str | None) -> None:
        """The operator wants this model for an agent's turns; None is what its settings say."""
        if model is None or model == self.of(name).settings.model:
            self.models.pop(name, None)
        else:
            self.models[name] = model

    def forget(self, name: str) -> None:
        self._known.pop(name, None)
        self.roles.pop(name, None)
        self.models.pop(name, None)

    def get(self, name: str) -> Known | None:
        return self._known.get(name)

    def all(self) -> list[Known]:
        return list(self._known.values())

    def of(self, name: str) -> Known:
        """One agent; `not_found` when privd has not reported it."""
        known = self._known.get(name)
        if known is None:
            raise Refused(Problem.NOT_FOUND, f"there is no agent {name}")
        return known

    def sender(self, caller: Caller) -> Sender:
        """The one who asks, as a writer of messages."""
        if caller.role is Role.OPERATOR or caller.agent is None:
            return Sender(OPERATOR)
        settings = self.of(caller.agent).settings
        return Sender(caller.agent, settings.role, settings.allowed_recipients)


def _sharing(settings: AgentSettings) -> AgentSettings:
    """The same, made of the very values that other agents' settings are made of: they are most of an agent's memory."""
    return replace(settings, **{setting: _one_for_all(getattr(settings, setting)) for setting in ALIKE})


@lru_cache(VALUES_SHARED_MAX, typed=True)
def _one_for_all(value: T) -> T:
    """The first of all values that are equal to this one."""
    return value
