"""Agents: what they and their harnesses say of themselves, and what the operator wants of a harness."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from brokerd.handlers.deliveries import agent_of
from brokerd.host import Host
from brokerd.policy.recipients import manager_of
from brokerd.store import agents, news
from brokerd.store.feed import FeedLog
from protocol.agent import AnyCommand, ReportHealth, ReportParked, Unpark, WatchCommands
from protocol.brokerd import Agent, ChooseModel, Marked, WakeParked
from protocol.messages import SystemEvent
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from protocol.tools import AgentCard, Identity, ListAgents, SetStatus, WhoAmI
from protocol.turns import Outcome
from runtime.store import Db


async def set_status(request: SetStatus, caller: Caller, host: Host) -> None:
    await host.feed.write(agents.change, agent_of(caller), status=request.text)


async def who_am_i(request: WhoAmI, caller: Caller, host: Host) -> Identity:
    settings = host.roster.of(agent_of(caller)).settings
    model = host.roster.models.get(settings.name, settings.model)
    return Identity(
        settings.name,
        settings.role,
        settings.runner,
        model,
        settings.allowed_recipients,
        settings.icon,
        settings.pronouns,
    )


async def list_agents(request: ListAgents, caller: Caller, host: Host) -> tuple[AgentCard, ...]:
    return tuple(_card(agent, host) for agent in await host.store.read(agents.read_all))


def _card(agent: Agent, host: Host) -> AgentCard:
    known = host.roster.get(agent.name)
    icon, pronouns = ("", "") if known is None else (known.settings.icon, known.settings.pronouns)
    return AgentCard(agent.name, agent.role, agent.activity.value, agent.status, icon, pronouns)


async def choose_model(request: ChooseModel, caller: Caller, host: Host) -> Marked:
    """The running turn keeps the model that it began with."""
    settings = host.roster.of(request.agent).settings
    seq = await host.feed.write(agents.choose_model, request.agent, request.model, settings.model)
    host.roster.choose(request.agent, request.model)
    return Marked(seq)


async def report_parked(request: ReportParked, caller: Caller, host: Host) -> None:
    """The manager is told of a limit, and of its end; of its own it need not be told."""
    agent = agent_of(caller)
    told = await host.feed.write(_report_parked, agent, request, manager_of(host.roster.roles))
    if told is not None:
        host.digests.add(told)


def _report_parked(
    db: Db, log: FeedLog, agent: str, request: ReportParked, manager: str | None
) -> SystemEvent | None:
    parked = request.reason is not None
    agents.change(
        db,
        log,
        agent,
        parked=request.reason,
        until_ms=request.until_ms if parked else None,
        detail=request.detail if parked else "",
    )
    if agent == manager or agents.read(db, agent).limited_by is not None:
        return None  # told with its whole account
    if request.reason is Outcome.RATE_LIMITED:
        return news.limited(db, log, agent, request.until_ms)
    return None if parked else news.works_again(db, log, agent)


@asynccontextmanager
async def watch_commands(
    request: WatchCommands, caller: Caller, host: Host
) -> AsyncIterator[AsyncIterator[AnyCommand]]:
    async with host.harnesses.listening(agent_of(caller)) as commands:
        host.health.ask(agent_of(caller))
        yield commands


async def report_health(request: ReportHealth, caller: Caller, host: Host) -> None:
    """Privd is told behind this."""
    host.health.report(agent_of(caller), request)


async def wake_parked(request: WakeParked, caller: Caller, host: Host) -> None:
    """Ask a parked harness to try again; it says itself when it does. A limit of its account holds it no more."""
    row = await host.store.read(agents.read, request.agent)
    if await host.accounts.lift(request.agent) and row.parked is None:
        return
    if row.parked is None:
        raise Refused(Problem.CONFLICT, f"{request.agent} is not parked")
    if not host.harnesses.command(request.agent, Unpark()):
        raise Refused(Problem.CONFLICT, f"the harness of {request.agent} does not listen now; try again")
