"""`hivectl status`: the daemons and the agents at a glance; non-zero when something is down."""

import argparse
from collections.abc import Sequence
from typing import Any

from hivectl import tables
from hivectl.limited import account_line
from hivectl.places import Places
from hivectl.program import unreachable
from hivectl.proposals import waiting_lines
from protocol.approvals import Proposal
from protocol.brokerd import Activity, Agent, AgentNow, ParkedThread, TakeSnapshot
from protocol.configuration import ListProposals
from protocol.hello import Greeting, Hello
from protocol.limited import ModelAccount
from protocol.names import OPERATOR
from protocol.privd import Cage, ListCages, Power
from protocol.problem import Refused
from protocol.questions import Broken, Question
from runtime.client import Client, Disconnected

DAEMONS = ("privd", "brokerd", "egressd", "webd")
EXIT_DOWN = 1


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("status", help="the daemons and the agents at a glance")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    greetings: dict[str, Greeting | None] = {name: await greet(values, name) for name in DAEMONS}
    cages: tuple[Cage, ...] = ()
    agents: dict[str, AgentNow] = {}
    parked: tuple[ParkedThread, ...] = ()
    questions: tuple[Question, ...] = ()
    broken: tuple[Broken, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    accounts: tuple[ModelAccount, ...] = ()
    if greetings["privd"]:
        async with Client(values.places.socket("privd")) as privd:
            cages = await privd.call(ListCages())
            proposals = await privd.call(ListProposals())
    if greetings["brokerd"]:
        async with Client(values.places.socket("brokerd")) as brokerd:
            snapshot = await brokerd.call(TakeSnapshot())
            agents = {row.agent.name: row for row in snapshot.agents}
            parked = snapshot.parked
            questions = tuple(each for each in snapshot.questions if each.asked_of == OPERATOR)
            broken = snapshot.broken_questions
            accounts = tuple(each for each in snapshot.accounts if each.limited_until_ms is not None)
    if values.json:
        document: dict[str, Any] = {
            "daemons": greetings,
            "cages": cages,
            "agents": agents,
            "parked": parked,
            "questions": questions,
            "proposals": proposals,
            "broken_questions": broken,
            "limited_accounts": accounts,
        }
        print(tables.document(document))
    else:
        lines = _lines(greetings, cages, agents, values.places)
        lines += [*map(limited_line, accounts), *map(parked_line, parked)]
        lines += question_lines(len(questions), len(broken))
        print("\n".join([*lines, *stale_lines(cages), *waiting_lines(proposals)]))
    return 0 if all(greetings.values()) else EXIT_DOWN


def limited_line(account: ModelAccount) -> str:
    """A model account at its limit, and what can be done."""
    return f"⚠ {account_line(account)}; `resume-account {account.name}` takes the limit for over"


async def greet(values: argparse.Namespace, daemon: str) -> Greeting | None:
    """Ask a daemon who it is; None when nobody answers."""
    async with Client(values.places.socket(daemon)) as client:
        try:
            return await client.call(Hello())
        except (Disconnected, Refused):
            return None


def _lines(
    greetings: dict[str, Greeting | None],
    cages: tuple[Cage, ...],
    agents: dict[str, AgentNow],
    where: Places,
) -> list[str]:
    if not any(greetings.values()):
        return [unreachable(f"{where.state}: no daemon answers", where)]
    lines = []
    for name, greeting in greetings.items():
        if greeting is None:
            lines.append(f"✗ {name} does not answer")
            continue
        lines.append(
            tables.printable(
                f"● {name} {greeting.version}" + (f" · {greeting.backend}" if greeting.backend else "")
            )
        )
        lines += [f"  ⚠ {tables.printable(text)}" for text in greeting.degraded]
    if not greetings["privd"]:
        return lines
    if not cages:
        return [*lines, "no agents"]
    rows = [_row(cage, agents.get(cage.agent)) for cage in cages]
    return [*lines, "", tables.table(("AGENT", "STATE", "SINCE", "INBOX", "STATUS"), rows)]


def _row(cage: Cage, agent: AgentNow | None) -> tuple[str, ...]:
    said = cage.detail or (why_parked(agent.agent) or agent.agent.status if agent else "")
    inbox = str(agent.inbox) if agent else "–"
    status = tables.printable(said, chars_max=tables.CELL_CHARS_MAX)
    return cage.agent, state_of(cage, agent), tables.age(cage.since_ms), inbox, status


def parked_line(parked: ParkedThread) -> str:
    """A thread that waits for the operator, and what they can do."""
    what = "1 delivery" if parked.held == 1 else f"{parked.held} deliveries"
    return tables.printable(
        f"⚠ {', '.join(parked.agents)} wrote {parked.hops} messages in a row: thread {parked.thread} holds {what}; "
        f"`release {parked.thread}` lets it go on, `close-thread {parked.thread}` gives them up"
    )


def question_lines(waiting: int, broken: int) -> list[str]:
    """That agents wait for the operator's answers, and that some of what they asked cannot be read."""
    lines = []
    if waiting:
        what = "1 question waits" if waiting == 1 else f"{waiting} questions wait"
        lines.append(f"? {what} for you: `questions` lists them")
    if broken:
        what = "1 question" if broken == 1 else f"{broken} questions"
        lines.append(f"⚠ {what} cannot be read: `questions` says why")
    return lines


def stale_lines(cages: Sequence[Cage]) -> list[str]:
    """Cages that were made from something older than what there is, and what can be done."""
    stale = [each for each in cages if each.stale]
    if not stale:
        return []
    one = "1 cage is" if len(stale) == 1 else f"{len(stale)} cages are"
    names = ", ".join(each.agent for each in stale)
    said = f"⚠ {one} stale ({names}): {stale[0].stale}; `rebuild-all` makes what runs anew"
    return [tables.printable(said)]


def why_parked(agent: Agent) -> str:
    """Why an agent takes no message now, and until when; empty when it does."""
    if agent.parked is None:
        return ""
    until = (
        f"until {tables.clock(agent.until_ms)}" if agent.until_ms is not None else "until told to try again"
    )
    return f"{tables.worded(agent.parked)}, {until}" + (f": {agent.detail}" if agent.detail else "")


def state_of(cage: Cage, agent: AgentNow | None) -> str:
    """A word for an agent: the cage's when it is not running, else what its harness does, and with which model."""
    if cage.power is not Power.RUNNING:
        return str(cage.power)
    if agent is None or agent.agent.activity is Activity.ABSENT:
        return "starting"
    model = f", with {agent.agent.model}" if agent.agent.model is not None else ""
    return f"{agent.agent.activity}{', paused' if agent.agent.paused else ''}{model}"
