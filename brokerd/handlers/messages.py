"""Messages: sending them, the operator's list of them, and what the operator has read."""

from brokerd.host import Host
from brokerd.policy.bodies import bytes_of, check_body
from brokerd.policy.pages import fitting
from brokerd.policy.recipients import Sender, Verdict, addressed, may_write, not_allowed
from brokerd.store import deliveries, history, keys, messages
from brokerd.store.messages import Draft
from protocol.brokerd import ListMessages, Marked, MarkRead, MessagePage
from protocol.limits import PAGE_BYTES_MAX
from protocol.names import EVERYONE, OPERATOR
from protocol.problem import Refused
from protocol.rpc import Caller
from protocol.tools import Send, Sent
from runtime.later import light


@light
async def send(request: Send, caller: Caller, host: Host) -> Sent:
    """Store a message; when this returns, it is on disk. A used key gets its first answer, whatever changed since."""
    sender = host.roster.sender(caller)
    asked, digest = keys.Asked(sender.name, bytes.fromhex(request.key)), keys.digest_of(request)
    try:
        check_body(request.body)
        recipients = addressed(request.to, sender.name, host.roster.roles)
        verdict = may_write(sender, request.to, recipients, host.roster.roles)
        if verdict is not Verdict.ALLOWED:
            _check_reply(request, sender, recipients, verdict, host)
        host.room.admit(len(request.body))
        return await _guarded(_draft(request, asked, digest, recipients, host), host)
    except Refused:
        first = host.store.look(messages.find_sent, asked, digest)
        if first is None:
            raise
        return first


async def _guarded(draft: Draft, host: Host) -> Sent:
    """Store it unless its sender writes too much. What was not stored, or long ago, costs nothing."""
    host.shares.check(draft.asked.sender, draft.recipients, bytes_of(draft.body))
    spent = host.rates.send(draft.asked.sender, draft.recipients, bytes_of(draft.body))
    last = host.feed.published
    try:
        sent = await host.outbox.send(draft)
    except Refused:
        host.rates.give_back(spent)
        raise
    if sent.seq <= last:
        host.rates.give_back(spent)
    return sent


def _draft(request: Send, asked: keys.Asked, digest: bytes, recipients: tuple[str, ...], host: Host) -> Draft:
    hops = 0 if asked.sender == OPERATOR else host.hops.next(asked.sender)
    return Draft(
        asked=asked,
        digest=digest,
        to=request.to,
        recipients=recipients,
        broadcast=request.to == EVERYONE,
        body=request.body,
        in_reply_to=request.in_reply_to,
        hops=hops,
        held=hops > host.settings.guards.hops_max,
    )


def _check_reply(
    request: Send, sender: Sender, recipients: tuple[str, ...], verdict: Verdict, host: Host
) -> None:
    """Whoever wrote to the sender in that thread may be answered there."""
    if verdict is Verdict.AS_REPLY and request.in_reply_to is not None:
        (recipient,) = recipients
        if host.store.look(messages.wrote_to, request.in_reply_to, recipient, sender.name):
            return
    raise not_allowed(sender.name, "everyone" if request.to == EVERYONE else request.to)


async def list_messages(request: ListMessages, caller: Caller, host: Host) -> MessagePage:
    if request.agent is not None and request.thread is None:
        found, before = await host.store.read(history.newest, request.agent, request.before, request.limit)
    else:
        found, before = await host.store.read(
            messages.newest, request.before, request.limit, request.agent, request.thread
        )
    shown = tuple(fitting(found, PAGE_BYTES_MAX))
    return MessagePage(shown, before if len(shown) == len(found) else shown[-1].id)


async def mark_read(request: MarkRead, caller: Caller, host: Host) -> Marked:
    return Marked(await host.feed.write(deliveries.mark_read, request.messages))
