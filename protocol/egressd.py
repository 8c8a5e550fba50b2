"""What may be asked of egressd: what it saw of accounts and refused to agents. Nothing can be changed there."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import ACCOUNT_WINDOWS_MAX
from protocol.names import AccountName, AgentName
from protocol.rpc import Watch


class AccountWindow(Struct, frozen=True):
    """One limit of a model account as its API last told it; None is what it did not tell."""

    name: str
    limit: int | None = None
    remaining: int | None = None
    used_permille: int | None = None
    resets_ms: int | None = None


class Account(Struct, frozen=True):
    """One model account as egressd sees it in the replies to every agent that uses it."""

    name: AccountName
    seen_ms: int | None = None
    """When a reply last told something."""
    limited_until_ms: int | None = None
    """Until when the API refuses; None while it does not."""
    detail: str = ""
    """In the API's words."""
    windows: Annotated[tuple[AccountWindow, ...], Meta(max_length=ACCOUNT_WINDOWS_MAX)] = ()


class Refusal(StrEnum):
    """Why egressd turned an agent away."""

    NOT_ALLOWED = "not_allowed"
    """The agent's settings do not name the destination."""
    LEADS_INSIDE = "leads_inside"
    """Its name leads to an address of this machine or its networks."""
    MALFORMED = "malformed"
    CONNECTIONS = "connections"
    """Too many at once."""
    VOLUME = "volume"
    """The hour's bytes are used up."""
    MODEL_PATH = "model_path"
    """Not a request that the model socket passes on."""


class EgressNow(Struct, frozen=True, tag_field="kind", tag="egress_now"):
    """The first event: every account."""

    accounts: tuple[Account, ...]


class AccountChanged(Struct, frozen=True, tag_field="kind", tag="account_changed"):
    """What is known of an account, after it changed in more than a number, or a window filled by another tenth."""

    account: Account


class EgressRefused(Struct, frozen=True, tag_field="kind", tag="egress_refused"):
    """An agent was turned away. Repeats within a short while are folded into one event with their number."""

    agent: AgentName
    at_ms: int
    why: Refusal
    host: str
    """As the agent wrote it, escaped and cut; empty when it wrote none."""
    port: int
    times: int


AnyEgressEvent = EgressNow | AccountChanged | EgressRefused


class WatchEgress(Watch[AnyEgressEvent], frozen=True):
    """Every account now, then what changes and who is turned away. What happened before is not told again."""
