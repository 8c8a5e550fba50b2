"""Leases: which delivery each agent's harness holds, and until when.

They live in memory and end with the process: a lost lease is only a delivery that comes again. Time here is trio's,
which is never set and never jumps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from brokerd.live.inboxes import Inboxes
from brokerd.store.deliveries import Telling
from brokerd.store.pulls import Waiting
from brokerd.store.turns import OpenTurn
from protocol.limits import LEASE_MS
from protocol.problem import Problem, Refused
from runtime.clock import new_key, now_ms

LEASE_S: Final = LEASE_MS / 1000


@dataclass(slots=True)
class Lease:
    """One agent's hold on one delivery. `turn` once a turn runs for it."""

    waiting: Waiting
    token: str
    ends: float = 0.0
    turn: int | None = None
    is_beginning: bool = False

    @property
    def delivery(self) -> int:
        return self.waiting.delivery

    def renew(self) -> int:
        """Hold it for another LEASE_MS; when that ends, in wall-clock milliseconds."""
        self.ends = trio.current_time() + LEASE_S
        return now_ms() + LEASE_MS


class Leases:
    """At most one for each agent. `tell` gets every grant and every return of a delivery."""

    def __init__(self, inboxes: Inboxes, tell: Callable[[Telling], None]) -> None:
        self._inboxes = inboxes
        self._tell = tell
        self._held: dict[str, Lease] = {}
        self._given_back: dict[str, tuple[int, str]] = {}
        self._granted = trio.Event()

    def of(self, agent: str) -> Lease | None:
        return self._held.get(agent)

    def deliveries(self) -> frozenset[int]:
        """The deliveries that are leased and in no turn yet."""
        return frozenset(lease.delivery for lease in self._held.values() if lease.turn is None)

    def grant(self, agent: str, waiting: Waiting) -> Lease:
        """Lease a waiting delivery."""
        lease = Lease(waiting, new_key())
        self._hold(agent, lease)
        self._tell(Telling(lease.delivery, is_leased=True))
        return lease

    def resume(self, running: OpenTurn, waiting: Waiting) -> None:
        """A turn that ran when brokerd stopped may go on, if its harness is still there."""
        self._hold(running.agent, Lease(waiting, running.token, turn=running.id))

    def _hold(self, agent: str, lease: Lease) -> None:
        lease.renew()
        self._held[agent] = lease
        self._given_back.pop(agent, None)
        self._granted.set()

    def proven(self, agent: str, delivery: int, token: str) -> Lease:
        """The agent's lease. `conflict` when it ran out, or was given to another since."""
        lease = self._held.get(agent)
        if lease is None or (lease.delivery, lease.token) != (delivery, token):
            raise Refused(Problem.CONFLICT, f"the lease of delivery {delivery} was lost: take it again")
        return lease

    def give_back(self, agent: str, delivery: int, token: str) -> None:
        """End a lease that drove no turn. A repeat is harmless."""
        if self._given_back.get(agent) == (delivery, token):
            return
        lease = self.proven(agent, delivery, token)
        if lease.turn is not None or lease.is_beginning:
            raise Refused(Problem.CONFLICT, f"a turn runs for delivery {delivery}: end it instead")
        self.drop(agent)
        self._given_back[agent] = (delivery, token)

    def drop(self, agent: str) -> Lease | None:
        """End the agent's lease, whatever it is; the lease."""
        lease = self._held.pop(agent, None)
        if lease is not None and lease.turn is None:
            self._tell(Telling(lease.delivery, is_leased=False))
            self._inboxes.of(agent).arrive(None)
        return lease

    def settled(self, agent: str, delivery: int) -> None:
        """A delivery was done without a turn: whatever lease there is on it ends."""
        lease = self._held.get(agent)
        if lease is not None and lease.delivery == delivery:
            del self._held[agent]

    def end_turn(self, agent: str, turn: int) -> None:
        """A turn ended: so does the lease that drove it."""
        lease = self._held.get(agent)
        if lease is not None and lease.turn == turn:
            del self._held[agent]

    async def expired(self) -> list[tuple[str, Lease]]:
        """Wait until leases have run out, and drop them."""
        while not (
            over := [agent for agent, lease in self._held.items() if lease.ends <= trio.current_time()]
        ):
            self._granted = trio.Event()
            with trio.move_on_at(min((lease.ends for lease in self._held.values()), default=math.inf)):
                await self._granted.wait()
        return [(agent, lease) for agent in over if (lease := self.drop(agent)) is not None]
