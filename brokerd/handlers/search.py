"""Finding messages."""

from brokerd.host import Host
from brokerd.policy.pages import fitting
from brokerd.policy.search import search_for
from brokerd.store import search
from protocol.brokerd import MessagePage, SearchMessages
from protocol.limits import PAGE_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.rpc import Caller


async def search_messages(request: SearchMessages, caller: Caller, host: Host) -> MessagePage:
    """Messages with all of the words. Refused: `malformed` when there is no word."""
    wanted = search_for(request.text)
    if wanted is None:
        raise Refused(Problem.MALFORMED, "text: there is no word in it; letters and digits can be searched")
    found, before = await host.store.read(search.newest, wanted, request.agent, request.before, request.limit)
    shown = tuple(fitting(found, PAGE_BYTES_MAX))
    return MessagePage(shown, before if len(shown) == len(found) else shown[-1].id)
