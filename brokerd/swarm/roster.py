"""The agents that there are, as privd reported them last: whom one may write to, and who may write to whom."""

from brokerd.policy.recipients import Sender
from brokerd.store.agents import Known
from protocol.names import OPERATOR
from protocol.problem import Problem, Refused
from protocol.rpc import Caller, Role
from protocol.settings import AgentRole


class Roster:
    """Kept in memory; `brokerd.store.agents` has the same for the next start."""

    def __init__(self) -> None:
        self.roles: dict[str, AgentRole] = {}
        self.drafts: set[str] = set()
        """Names under which there is a proposed configuration and no agent yet."""
        self.models: dict[str, str] = {}
        """Those that the operator chose over what the settings say."""
        self._known: dict[str, Known] = {}

    def know(self, known: Known) -> None:
        before = self._known.get(known.name)
        if before is None or before.settings.model != known.settings.model:
            self.models.pop(known.name, None)
        self._known[known.name] = known
        self.roles[known.name] = known.settings.role

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
