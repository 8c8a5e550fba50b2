"""What operators do about deployments: look, read their logs, cancel, roll back."""

from typing import Final

from protocol.approvals import Deployment, ProposalNumber
from protocol.configuration import CancelDeployment, ListDeployments, ReadBuildLog, RollBack
from protocol.limits import PAGE_ROWS_MAX
from webd.deeds import Done
from webd.handlers.actions import SHOWN_WITHIN_S, Keyed, did
from webd.http.answers import Answer, as_json
from webd.live.decisions import deployment_row, key_of, line_row
from webd.visit import Host, Visit

ROWS: Final = 100


class RollBackSaid(Keyed, frozen=True):
    generation: ProposalNumber


async def listed(visit: Visit, host: Host) -> Answer:
    """Deployments of everybody or of one agent, newest first."""
    limit = visit.number("limit", ROWS, least=1, most=PAGE_ROWS_MAX) or ROWS
    rows = await host.ask_privd(ListDeployments(agent=visit.agent("agent"), limit=limit))
    return as_json({"deployments": [deployment_row(row) for row in rows]})


async def log(visit: Visit, host: Host) -> Answer:
    """A page of one deployment's log: the newest lines before an offset, oldest first."""
    page = await host.ask_privd(
        ReadBuildLog(visit.named["agent"], int(visit.named["deployment"]), visit.number("before"))
    )
    return as_json({"lines": [line_row(line) for line in page.lines], "before": page.before})


async def cancel(visit: Visit, host: Host) -> Answer:
    """Give up a deployment that has not switched anything."""
    agent, number = visit.named["agent"], int(visit.named["deployment"])

    async def deed() -> Done:
        await host.ask_privd(CancelDeployment(agent, number))
        await _ended(host, f"{agent}/{number}")
        return Done()

    return await did(visit, host, visit.said(Keyed).key, f"cancel deployment {number} of {agent}", deed)


async def roll_back(visit: Visit, host: Host) -> Answer:
    """Deploy the content of an older generation again, as a new one."""
    agent = visit.named["agent"]
    said = visit.said(RollBackSaid)

    async def deed() -> Done:
        begun = await host.ask_privd(RollBack(agent, said.generation))
        await host.picture.until(lambda: _row(host, key_of(begun)) is not None, SHOWN_WITHIN_S)
        return Done(begun.number)

    what = f"roll {agent} back to generation {said.generation}"
    return await did(visit, host, said.key, what, deed)


async def _ended(host: Host, key: str) -> None:
    """Until a deployment that was cancelled has ended, which it does once its step lets it."""

    def ended() -> bool:
        row = _row(host, key)
        return row is not None and row.ended_ms is not None

    await host.picture.until(ended, SHOWN_WITHIN_S)


def _row(host: Host, key: str) -> Deployment | None:
    return host.picture.world.decisions.deployments.get(key)
