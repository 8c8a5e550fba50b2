"""What an agent may look up of its own: what is still open, and what became of a message that it sent."""

from brokerd.handlers.deliveries import agent_of
from brokerd.handlers.feed import with_leases
from brokerd.handlers.questions import tell_broken
from brokerd.host import Host
from brokerd.policy.recipients import manager_of
from brokerd.store import question_rows, threads
from brokerd.store.question_rows import Found
from protocol.limits import PAGE_BYTES_MAX
from protocol.messages import Message
from protocol.rpc import Caller
from protocol.tools import OpenMatters, OpenThread, OpenThreads, ReadReceipt
from runtime.clock import now_ms
from runtime.store import Db

QUESTIONS_MAX = 100


async def open_threads(request: OpenThreads, caller: Caller, host: Host) -> OpenMatters:
    agent, manager = agent_of(caller), manager_of(host.roster.roles)
    found, asked = await host.store.read(_open_matters, agent, manager, now_ms())
    tell_broken(asked.broken, host)
    return OpenMatters(found, asked.questions)


def _open_matters(
    db: Db, agent: str, manager: str | None, at_ms: int
) -> tuple[tuple[OpenThread, ...], Found]:
    return (
        threads.open_threads(db, agent, manager, at_ms),
        question_rows.oldest_open_of(db, agent, QUESTIONS_MAX, PAGE_BYTES_MAX),
    )


async def read_receipt(request: ReadReceipt, caller: Caller, host: Host) -> Message:
    """Nobody's but the agent's own messages."""
    sent = await host.store.read(threads.sent_by, request.message, agent_of(caller))
    return with_leases(sent, host.leases.deliveries())
