"""Who was turned away on the way out."""

from brokerd.host import Host
from brokerd.policy.pages import fitting
from brokerd.store import egress
from protocol.brokerd import EgressPage, ListEgress
from protocol.limits import PAGE_BYTES_MAX
from protocol.rpc import Caller


async def list_egress(request: ListEgress, caller: Caller, host: Host) -> EgressPage:
    found = await host.store.read(egress.newest, request.agent, request.before, request.limit + 1)
    shown = tuple(fitting(found[: request.limit], PAGE_BYTES_MAX))
    return EgressPage(shown, shown[-1].id if len(shown) < len(found) else None)
