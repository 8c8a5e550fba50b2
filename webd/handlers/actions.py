"""What operators do: requests to privd or brokerd, each answered with the place in the stream that shows its effect."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.brokerd import MarkRead, StopTurn
from protocol.messages import Body, MessageId
from protocol.names import AgentName, Recipient
from protocol.privd import Cage, DestroyCage, PurgeAgent, RestartCage, StartCage, StopCage
from protocol.rpc import Call
from protocol.tools import Send
from webd.deeds import Deed, Done, SeenYet
from webd.http.answers import Answer, as_json
from webd.policy.keys import BrowserKey, request_key
from webd.visit import Host, Visit

READ_MESSAGES_MAX: Final = 100
"""Messages that one action marks as read: as many as a page shows waiting."""
SHOWN_WITHIN_S: Final = 2.0
"""How long an answer waits for the row that its action caused."""


class Keyed(Struct, frozen=True, forbid_unknown_fields=True):
    """What every action says at least."""

    key: BrowserKey


class SendSaid(Keyed, frozen=True):
    to: Recipient
    body: Body
    in_reply_to: MessageId | None = None


class PurgeSaid(Keyed, frozen=True):
    confirm: AgentName


class ReadSaid(Keyed, frozen=True):
    messages: Annotated[tuple[MessageId, ...], Meta(min_length=1, max_length=READ_MESSAGES_MAX)]


class Did(Struct, frozen=True, omit_defaults=True):
    """The answer to an action: the cursor that its effect will have passed, and the id of what it made."""

    ok: bool
    seq: str
    id: int | None = None
    waits: bool = False
    """Whether somebody else must act before anything happens: a key that approves, or a second one."""


# ---------------------------------------------------------------------------------------------------------- messages


async def send(visit: Visit, host: Host) -> Answer:
    """Send a message as the operator."""
    said = visit.said(SendSaid)

    async def deed() -> Done:
        key = request_key(visit.operator.operator, said.key)
        sent = await host.ask_brokerd(Send(to=said.to, body=said.body, key=key, in_reply_to=said.in_reply_to))
        await heard(host, sent.seq)
        return Done(sent.message)

    return await did(visit, host, said.key, f"send to {said.to}", deed)


async def mark_read(visit: Visit, host: Host) -> Answer:
    """The operator has read a message."""
    number = int(visit.named["message"])
    return await _read(visit, host, visit.said(Keyed).key, (number,))


async def mark_all_read(visit: Visit, host: Host) -> Answer:
    """The operator has read several messages."""
    said = visit.said(ReadSaid)
    return await _read(visit, host, said.key, said.messages)


async def _read(visit: Visit, host: Host, key: str, messages: tuple[int, ...]) -> Answer:
    async def deed() -> Done:
        marked = await host.ask_brokerd(MarkRead(messages=messages))
        await heard(host, marked.seq)
        return Done()

    return await did(visit, host, key, f"read {', '.join(map(str, messages))}", deed)


async def cancel_turn(visit: Visit, host: Host) -> Answer:
    """Ask an agent's harness to end the running turn."""
    agent = visit.named["agent"]

    async def deed() -> Done:
        await host.ask_brokerd(StopTurn(agent=agent))
        return Done()

    return await did(visit, host, visit.said(Keyed).key, f"cancel the turn of {agent}", deed)


# ------------------------------------------------------------------------------------------------------------ cages


async def start(visit: Visit, host: Host) -> Answer:
    """Boot an agent's cage."""
    return await _power(visit, host, "start", StartCage(agent=visit.named["agent"]))


async def stop(visit: Visit, host: Host) -> Answer:
    """Stop an agent's cage; the running turn may end first."""
    return await _power(visit, host, "stop", StopCage(agent=visit.named["agent"]))


async def restart(visit: Visit, host: Host) -> Answer:
    """Stop an agent's cage gracefully and boot it again."""
    return await _power(visit, host, "restart", RestartCage(agent=visit.named["agent"]))


async def destroy(visit: Visit, host: Host) -> Answer:
    """Remove an agent's cage; its notes, credentials and configuration are kept."""
    return await _power(visit, host, "destroy", DestroyCage(agent=visit.named["agent"]))


async def purge(visit: Visit, host: Host) -> Answer:
    """Delete what a destroyed agent left behind."""
    agent = visit.named["agent"]
    said = visit.said(PurgeSaid)

    async def deed() -> Done:
        await host.ask_privd(PurgeAgent(agent=agent, confirm=said.confirm))
        await host.picture.until(lambda: host.picture.world.cage(agent) is None, SHOWN_WITHIN_S)
        return Done()

    return await did(visit, host, said.key, f"purge {agent}", deed)


# ----------------------------------------------------------------------------------------------------------- answers


async def _power(visit: Visit, host: Host, verb: str, request: Call[Cage]) -> Answer:
    """A deed that changes a cage: its effect shows as soon as the cage's row is another one."""
    agent = visit.named["agent"]
    before = host.picture.world.cage(agent)

    async def deed() -> Done:
        await _shown(host, await host.ask_privd(request))
        return Done()

    def seen() -> bool:
        return host.picture.world.cage(agent) != before

    return await did(visit, host, visit.said(Keyed).key, f"{verb} {agent}", deed, seen)


async def did(
    visit: Visit, host: Host, key: str, what: str, deed: Deed, seen: SeenYet | None = None
) -> Answer:
    done = await host.deeds.do(visit.operator.operator, key, what, deed, seen)
    hub = host.picture.hub
    return as_json(Did(ok=True, seq=str(hub.cursor(hub.common_seq)), id=done.id, waits=done.waits))


async def heard(host: Host, seq: int) -> None:
    """Until brokerd's feed has been told up to `seq`."""
    await host.picture.until(lambda: host.picture.world.seq >= seq, SHOWN_WITHIN_S)


async def _shown(host: Host, cage: Cage) -> None:
    """Until a cage's row is at least as new as the one that privd answered with."""

    def shows() -> bool:
        row = host.picture.world.cage(cage.agent)
        return row is not None and (row == cage or row.since_ms > cage.since_ms)

    await host.picture.until(shows, SHOWN_WITHIN_S)
