"""What holds agents back, as brokerd tells it: limits of model accounts and of cages, refusals of the way out.

What egressd and privd tell brokerd of the same is in protocol.egressd and protocol.privd.
"""

from msgspec import Struct

from protocol.egressd import AccountWindow, Refusal
from protocol.names import AccountName, AgentName
from protocol.privd import Resource


class ModelAccount(Struct, frozen=True):
    """One model account: what is known of its limits, and whom they hold."""

    name: AccountName
    seen_ms: int | None = None
    """When egressd last saw a reply to one of its agents; None: it sees none."""
    windows: tuple[AccountWindow, ...] = ()
    limited_since_ms: int | None = None
    limited_until_ms: int | None = None
    """None: it is not limited (any more)."""
    said_by: str = ""
    """Who said so: `egressd`, or the agent whose turn ended with the limit."""
    detail: str = ""
    """In the API's words."""
    held: tuple[AgentName, ...] = ()
    """Agents that take no message because of it, in the order in which they will go on."""


class EgressRefusal(Struct, frozen=True):
    """An agent was turned away on its way out; repeats within an hour are one row."""

    id: int
    agent: AgentName
    why: Refusal
    host: str
    """As the agent wrote it, escaped and cut; empty when it wrote none, or too many different ones in the hour."""
    port: int
    times: int
    first_ms: int
    at_ms: int
    """The last time."""


class LimitHit(Struct, frozen=True):
    """How often a cage met a limit, since its agent was made; one row for each resource."""

    agent: AgentName
    resource: Resource
    times: int
    first_ms: int
    at_ms: int
    """The last time."""
    detail: str
    """What happened then, and the limit."""
