"""Where an agent may go: its own list and the hive's. An empty list means nowhere.

api.example.org           that host, port 443
api.example.org:8443      that host and port, nothing else
*.example.org             any host below example.org, not example.org itself
192.0.2.1:443             that address, when the agent asks for it by number
[2001:db8::1]:443         the same by IPv6
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from egressd.policy.target import NotATarget, Target, address_of, parse_host, parse_port

PORT_DEFAULT: Final = 443
_WILDCARD: Final = "*."


@dataclass(frozen=True)
class Rule:
    """One entry of a list."""

    host: str
    port: int
    below: bool
    """Whether it means the hosts below `host` instead of `host`."""

    def admits(self, target: Target) -> bool:
        if target.port != self.port:
            return False
        if self.below:
            return target.literal is None and target.host.endswith(f".{self.host}")
        return target.host == self.host


@dataclass(frozen=True)
class Scope:
    """Every rule that holds for one agent."""

    rules: tuple[Rule, ...] = ()

    def admits(self, target: Target) -> bool:
        return any(rule.admits(target) for rule in self.rules)


def parse_rule(pattern: str) -> Rule:
    """Read one entry. Raises NotATarget for one that could never match."""
    below = pattern.startswith(_WILDCARD)
    host, port = _split(pattern.removeprefix(_WILDCARD))
    rule = Rule(parse_host(host), PORT_DEFAULT if port is None else parse_port(port), below)
    if below and address_of(rule.host) is not None:
        raise NotATarget("an address has no hosts below it")
    return rule


def _split(pattern: str) -> tuple[str, str | None]:
    host, colon, port = pattern.rpartition(":")
    if not colon or pattern.endswith("]"):
        return pattern, None
    return host, port


def scope_of(patterns: Iterable[str]) -> tuple[Scope, tuple[str, ...]]:
    """The scope of a list, and what is wrong with the entries that can never match: those admit nothing."""
    rules: list[Rule] = []
    faults: list[str] = []
    for pattern in patterns:
        try:
            rules.append(parse_rule(pattern))
        except NotATarget as fault:
            faults.append(f"{pattern!a}: {fault}")
    return Scope(tuple(rules)), tuple(faults)
