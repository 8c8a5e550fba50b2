"""Pages: a shell with everything it starts from, so that a page is true before its stream is open."""

from typing import Any

from protocol.problem import Problem, Refused
from webd.handlers.configurations import refs_of
from webd.http.answers import TEXT, Answer, redirect
from webd.live.hub import Reading
from webd.policy.topics import COMMON, JOURNAL, TAIL
from webd.visit import Host, Visit


async def swarm(visit: Visit, host: Host) -> Answer:
    """The swarm, what waits for the operator, and the message flow."""
    return await _shell(visit, host, "swarm", COMMON, {"kind": "swarm"})


async def agent(visit: Visit, host: Host) -> Answer:
    """One agent: its state, its tail, and what it can be told."""
    name = known_agent(visit, host)
    return await _shell(visit, host, name, COMMON | {TAIL + name}, {"kind": "agent", "agent": name})


async def journal(visit: Visit, host: Host) -> Answer:
    """One agent's cage's journal."""
    name = known_agent(visit, host)
    return await _shell(visit, host, name, COMMON | {JOURNAL + name}, {"kind": "journal", "agent": name})


async def files(visit: Visit, host: Host) -> Answer:
    """One agent's own files; kept ones too."""
    name = known_agent(visit, host)
    return await _shell(visit, host, name, COMMON, {"kind": "files", "agent": name})


async def stats(visit: Visit, host: Host) -> Answer:
    """One agent's numbers."""
    name = known_agent(visit, host)
    return await _shell(visit, host, name, COMMON, {"kind": "stats", "agent": name})


async def config(visit: Visit, host: Host) -> Answer:
    """One agent's configuration as it is recorded; also of one that so far was only proposed."""
    name = visit.named["agent"]
    if not host.picture.world.is_known(name):
        await refs_of(host, name)
    return await _shell(visit, host, name, COMMON, {"kind": "config", "agent": name})


async def meta(visit: Visit, host: Host) -> Answer:
    """What is deployed where, and since when."""
    return await _shell(visit, host, "deployed", COMMON, {"kind": "meta"})


async def enrol(visit: Visit, host: Host) -> Answer:
    """Where a passkey is made, for root to enrol."""
    return await _shell(visit, host, "keys", COMMON, {"kind": "enrol"})


async def agent_bare(visit: Visit, host: Host) -> Answer:
    """An agent's address without its last slash."""
    return redirect(308, f"/agent/{visit.named['agent']}/")


async def login(visit: Visit, host: Host) -> Answer:
    """Where a login link leads; the code in its fragment never comes here."""
    return host.shells.login(signed_in=visit.session is not None)


async def favicon(visit: Visit, host: Host) -> Answer:
    """Pages name their icon themselves."""
    return Answer(204)


async def health(visit: Visit, host: Host) -> Answer:
    """Whether webd answers at all."""
    return Answer(200, b"ok\n", TEXT)


def known_agent(visit: Visit, host: Host) -> str:
    """The agent that an address names. Raises Refused(not_found)."""
    name = visit.named["agent"]
    if not host.picture.world.is_known(name):
        raise Refused(Problem.NOT_FOUND, f"there is no agent {name} here")
    return name


async def _shell(
    visit: Visit, host: Host, title: str, topics: frozenset[str], page: dict[str, Any]
) -> Answer:
    reading = Reading(topics, visit.operator.operator, 0)
    async with host.views.open(topics):
        snapshot = host.views.snapshot(reading, "new")
        boot = {
            "cursor": str(host.picture.hub.cursor(reading.seq)),
            "snapshot": snapshot,
            "page": page,
            "session": {"operator": visit.operator.operator},
        }
        return host.shells.app(title, boot)
