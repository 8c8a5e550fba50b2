"""egressd's settings: where the hive runs, and the destinations that hold for every agent."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from egressd.policy.scope import Rule, Scope, parse_rule
from egressd.policy.site import MODEL_API, KeyKind, NotASite, Site, parse_site
from egressd.policy.target import NotATarget, Target
from protocol.limits import EGRESS_HOSTS_MAX
from protocol.names import AccountName
from runtime.settings import AbsolutePath, LogLevel, Uid, Url

Pattern = Annotated[
    str, Meta(min_length=1, max_length=300, description="host, host:port or *.domain; 443 by default")
]
Patterns = Annotated[tuple[Pattern, ...], Meta(max_length=EGRESS_HOSTS_MAX)]
ACCOUNTS_MAX: Final = 32


class AccountSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One model account: whose key egressd adds to the requests of agents that have none themselves."""

    key_file: AbsolutePath
    """Holds the key alone; readable by egressd and read anew for each request."""
    kind: KeyKind = KeyKind.API_KEY
    """`api_key`, or `oauth` for a subscription's token."""
    base_url: Url = MODEL_API

    def __post_init__(self) -> None:
        self.site()

    def site(self) -> Site:
        """Where the account's API is."""
        try:
            return parse_site(self.base_url)
        except NotASite as fault:
            raise ValueError(f"base_url: {fault}") from None


class EgressSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator tells egressd. Agents' own lists come from privd with their settings."""

    run: AbsolutePath
    """The hive's runtime folder: privd's socket and the agents' egress folders are in it."""
    model_hosts: Patterns = ("api.anthropic.com:443",)
    """Where every agent may connect to: the model API."""
    allow_private: Patterns = ()
    """Destinations, each a host and a port, that may resolve to an address of this machine or its networks."""
    accounts: Annotated[dict[AccountName, AccountSettings], Meta(max_length=ACCOUNTS_MAX)] = {}
    """Model accounts by the name that agents' settings give; an agent of no known account is refused."""
    ca_file: AbsolutePath | None = None
    """Authorities that accounts' APIs may be certified by, beside the machine's own."""
    broker_uid: Uid | None = None
    """brokerd's, which is told of accounts and refusals; without it there is no `swarm.sock`."""
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
