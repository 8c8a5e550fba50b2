"""A privd that proposes, approves and deploys for ever: `python -m tests.privd.deployment_driver PLACE`, to be killed.

Says REPORT, one line of JSON, when it begins.
"""

import json
import sys
from pathlib import Path
from typing import Final

import trio

from protocol.approvals import ProposalKind
from runtime import log
from tests.support.configuring import Desk, desk, toml

AGENT: Final = "iris"
MODELS: Final = ("haiku", "opus", "sonnet")
REPORT: Final = {"at": "work"}


async def main(place: Path) -> None:
    async with desk(place) as at, trio.open_nursery() as nursery:
        nursery.start_soon(confirm, at)
        sys.stdout.write(json.dumps(REPORT) + "\n")
        sys.stdout.flush()
        for turn in range(10_000):
            while at.host.deployments._at_work:  # noqa: ASYNC110 - no event tells it
                await trio.sleep(0.005)
            if at.host.standing(AGENT).value == "nobody":
                proposal = await at.propose(AGENT, ProposalKind.SPAWN)
            else:
                (at.config(AGENT).inner / "index.lock").unlink(missing_ok=True)
                text = toml(at.host, AGENT, model=MODELS[turn % 3], pronouns=f"{turn}")
                proposal = await at.propose(AGENT, commit=at.commit(AGENT, f"# {turn}\n{text}"))
            await at.approve(proposal)


async def confirm(at: Desk) -> None:
    """Every third cage is not well."""
    while True:
        await trio.sleep(0.005)
        for row in at.host.rows():
            if row.started_ms is not None:
                fault = "not well" if row.started_ms % 3 == 2 else ""
                at.host.deployments.confirm_health(AGENT, row.started_ms, fault)


if __name__ == "__main__":
    log.configure()
    trio.run(main, Path(sys.argv[1]))
