"""What one agent may do outside at this moment, for both of its sockets: where to, how much, how many at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from egressd.connect import RESOLVING_MAX
from egressd.policy.pace import Pace
from egressd.policy.scope import Scope
from egressd.policy.target import Target
from egressd.policy.volume import Ledger
from egressd.refusals import Refusals
from egressd.tunnel import Tunnel
from egressd.upstream import LINKS_PER_AGENT_MAX
from protocol.egressd import Refusal
from protocol.settings import ACCOUNT_DEFAULT, EgressLimits
from runtime.folding import Folding
from runtime.log import Log


class Crowded(Exception):
    """The agent has as many connections as it may; one line says how many."""


@dataclass
class Gate:
    """One agent's, and the tunnels that it has open. A change of its settings counts from that moment on."""

    agent: str
    own: Scope
    hive: Scope
    """Where every agent goes that holds its own key."""
    private: frozenset[Target]
    refusals: Refusals
    ledger: Ledger = field(default_factory=Ledger)
    limits: EgressLimits = field(default_factory=EgressLimits)
    account: str = ACCOUNT_DEFAULT
    visits: int = 0
    lookups: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(RESOLVING_MAX))
    links: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(LINKS_PER_AGENT_MAX))
    """Its share of its account's connections."""
    tunnels: dict[int, tuple[Target, Tunnel]] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    folding: Folding = field(default_factory=Folding)

    def admits(self, target: Target) -> bool:
        return self.own.admits(target) or self.hive.admits(target)

    def change(self, own: Scope, hive: Scope, limits: EgressLimits, account: str) -> None:
        """Hold from now on to other settings; open tunnels that they do not allow end, the newest ones if too many."""
        self.own, self.hive, self.limits, self.account = own, hive, limits, account
        for place, (target, tunnel) in enumerate(tuple(self.tunnels.values())):
            if not self.admits(target) or place >= limits.connections_max:
                tunnel.revoke()

    @contextmanager
    def visited(self) -> Iterator[None]:
        """One connection's place, at whichever socket. Raises Crowded."""
        if self.visits >= self.limits.connections_max:
            raise Crowded(
                f"{self.agent} has {self.visits} connections open, at most {self.limits.connections_max} are allowed"
            )
        self.visits += 1
        try:
            yield
        finally:
            self.visits -= 1

    @contextmanager
    def holds(self, target: Target, tunnel: Tunnel) -> Iterator[None]:
        self.tunnels[id(tunnel)] = target, tunnel
        try:
            yield
        finally:
            del self.tunnels[id(tunnel)]

    def may_send(self, count: int) -> bool:
        """Count bytes that go out; False when the hour's are used up: then they must not go."""
        return self.ledger.outward.spend(count, self.limits.out_mib_per_hour_max, trio.current_time())

    def may_fetch(self, count: int) -> bool:
        """The same for bytes that come in."""
        return self.ledger.inward.spend(count, self.limits.in_mib_per_hour_max, trio.current_time())

    def wait_s(self) -> int:
        """In how many seconds bytes may be moved again; 0 while they may."""
        now_s, limits = trio.current_time(), self.limits
        return max(
            self.ledger.outward.frees_s(limits.out_mib_per_hour_max, now_s),
            self.ledger.inward.frees_s(limits.in_mib_per_hour_max, now_s),
        )

    def note(self, why: Refusal, host: str = "", port: int = 0) -> None:
        """The agent was turned away."""
        self.refusals.note(self.agent, why, host, port)

    async def take_turn(self) -> None:
        """Wait for the turn of an answer that is a refusal, or of a visit that came to nothing."""
        await trio.sleep(self.pace.wait_s(trio.current_time()))

    def log_refusal(self, log: Log, event: str, **fields: object) -> None:
        """A line about what came to nothing; of a flood the next line has the number."""
        left_out = self.folding.admit(trio.current_time())
        if left_out is not None:
            log.warning(event, agent=self.agent, left_out=left_out, **fields)
