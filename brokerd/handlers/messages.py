"""Messages: sending them, the operator's list of them, and what the operator has read."""

from brokerd.host import Host
from brokerd.policy.bodies import check_body
from brokerd.policy.pages import fitting
from brokerd.policy.recipients import Sender, Verdict, addressed, may_write, not_allowed
from brokerd.store import deliveries, keys, messages
from brokerd.store.messages import Draft
from protocol.brokerd import ListMessages, Marked, MarkRead, MessagePage
from protocol.limits import PAGE_BYTES_MAX
from protocol.names import EVERYONE
from protocol.problem import Refused
from protocol.rpc import Caller
from protocol.tools import Send, Sent


async def send(request: Send, caller: Caller, host: Host) -> Sent:
    """Store a message; when this returns, it is on disk. A used key gets its first answer, whatever changed since."""
    sender = host.roster.sender(caller)
    asked, digest = keys.Asked(sender.name, bytes.fromhex(request.key)), keys.digest_of(request)
    try:
        check_body(request.body)
        recipients = addressed(request.to, sender.name, host.roster.roles)
        verdict = may_write(sender, request.to, recipients, host.roster.roles)
        if verdict is not Verdict.ALLOWED:
            await _check_reply(request, sender, recipients, verdict, host)
        host.room.admit(len(request.body))
        return await host.outbox.send(_draft(request, asked, digest, recipients))
    except Refused:
        first = await host.store.read(messages.find_sent, asked, digest)
        if first is None:
            raise
        return first


def _draft(request: Send, asked: keys.Asked, digest: bytes, recipients: tuple[str, ...]) -> Draft:
    return Draft(
        asked=asked,
        digest=digest,
        to=request.to,
        recipients=recipients,
        broadcast=request.to == EVERYONE,
        body=request.body,
        in_reply_to=request.in_reply_to,
    )


async def _check_reply(
    request: Send, sender: Sender, recipients: tuple[str, ...], verdict: Verdict, host: Host
) -> None:
    """Whoever wrote to the sender in that thread may be answered there."""
    if verdict is Verdict.AS_REPLY and request.in_reply_to is not None:
        (recipient,) = recipients
        if await host.store.read(messages.wrote_to, request.in_reply_to, recipient, sender.name):
            return
    raise not_allowed(sender.name, "everyone" if request.to == EVERYONE else request.to)


async def list_messages(request: ListMessages, caller: Caller, host: Host) -> MessagePage:
    found, before = await host.store.read(
        messages.newest, request.before, request.limit, request.agent, request.thread
    )
    shown = tuple(fitting(found, PAGE_BYTES_MAX))
    return MessagePage(shown, before if len(shown) == len(found) else shown[-1].id)


async def mark_read(request: MarkRead, caller: Caller, host: Host) -> Marked:
    return Marked(await host.feed.write(deliveries.mark_read, request.messages))
