"""egressd's settings: where the hive runs, and the destinations that hold for every agent."""

from typing import Annotated

from msgspec import Meta, Struct

from egressd.policy.scope import Rule, Scope, parse_rule
from egressd.policy.target import NotATarget, Target
from protocol.limits import EGRESS_HOSTS_MAX
from runtime.settings import AbsolutePath, LogLevel, Uid

Pattern = Annotated[
    str, Meta(min_length=1, max_length=300, description="host, host:port or *.domain; 443 by default")
]
Patterns = Annotated[tuple[Pattern, ...], Meta(max_length=EGRESS_HOSTS_MAX)]


class EgressSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator tells egressd. Agents' own lists come from privd with their settings."""

    run: AbsolutePath
    """The hive's runtime folder: privd's socket and the agents' egress folders are in it."""
    model_hosts: Patterns = ("api.anthropic.com:443",)
    """Where every agent may connect to: the model API."""
    allow_private: Patterns = ()
    """Destinations, each a host and a port, that may resolve to an address of this machine or its networks."""
    operator_uids: tuple[Uid, ...] = (0,)
    admin_gid: Uid | None = None
    """Members of this group are operators too."""
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        self.model_scope()
        self.private_targets()

    def model_scope(self) -> Scope:
        """The hive-wide scope."""
        return Scope(tuple(_rule("model_hosts", pattern) for pattern in self.model_hosts))

    def private_targets(self) -> frozenset[Target]:
        """The destinations whose address is not judged."""
        rules = [_rule("allow_private", pattern) for pattern in self.allow_private]
        if any(rule.below for rule in rules):
            raise ValueError("allow_private: a wildcard is not taken here, list each host by its own name")
        return frozenset(Target(rule.host, rule.port) for rule in rules)


def _rule(key: str, pattern: str) -> Rule:
    try:
        return parse_rule(pattern)
    except NotATarget as fault:
        raise ValueError(f"{key}: {pattern!a}: {fault}") from None
