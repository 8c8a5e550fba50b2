"""A privd of a few lines: holds a backend and obeys JSON lines, so that tests can run it as any user and kill it.

    python -m tests.privd.cages.driver BACKEND FOLDER ENVIRONMENT

Each request is {"do": METHOD, ...}; the answer {"value": ...} or {"problem": code, "detail": text}.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from privd.cages.backend import Backend, RunningCage
from privd.cages.boot import is_locked
from privd.cages.bwrap import of_this_process
from privd.cages.children import Children
from privd.cages.identity import hive_tag
from privd.cages.nspawn import Nspawn
from privd.cages.spec import Exit, Places
from protocol.problem import Refused
from tests.privd.cages.hive import Layout
from tests.support.nixos.host import FakeHost


class Driver:
    def __init__(self, backend: Backend, layout: Layout) -> None:
        self.backend = backend
        self.layout = layout
        self.running: dict[str, RunningCage] = {}

    def places(self, agent: str) -> Places:
        return Places(self.layout.cages / agent)

    async def start(self, agent: str, **changes: Any) -> dict[str, Any]:
        for name in ("harness", "init"):
            if name in changes:
                changes[name] = tuple(changes[name])
        spec = self.layout.spec(agent, self.backend.identity(self.layout.uid_base(agent)), **changes)
        cage = await self.backend.start(spec, self.places(agent))
        return self._hold(agent, cage)

    async def adopt(self, agent: str) -> dict[str, Any] | None:
        found = await self.backend.adopt(self.places(agent))
        if found is None:
            return None
        return _said(found) if isinstance(found, Exit) else self._hold(agent, found)

    async def wait(self, agent: str) -> dict[str, Any]:
        return _said(await self.running[agent].wait())

    async def stop(self, agent: str, grace_s: float) -> dict[str, Any]:
        return _said(await self.running[agent].stop(grace_s))

    async def kill(self, agent: str) -> dict[str, Any]:
        return _said(await self.running[agent].kill())

    async def start_and_give_up(self, agent: str, after_ms: int) -> bool:
        """Whether the start was cancelled before it was done."""
        with trio.move_on_after(after_ms / 1000) as patience:
            await self.start(agent)
        return patience.cancelled_caught

    async def stop_while_others_wait(self, agent: str) -> list[dict[str, Any]]:
        """What three waiters and the one who stops are told; a fourth waiter gives up before."""
        told: list[dict[str, Any]] = []

        async def wait() -> None:
            told.append(await self.wait(agent))

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.05):
                await self.wait(agent)
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            told.append(await self.stop(agent, 20))
        return told

    async def start_all(self, agents: list[str]) -> None:
        async with trio.open_nursery() as nursery:
            for agent in agents:
                nursery.start_soon(self.start, agent)

    async def let_go(self, agent: str) -> None:
        self.running.pop(agent).let_go()

    async def clear(self, agent: str) -> None:
        await self.backend.clear(self.places(agent))

    async def fault(self, agent: str) -> str | None:
        spec = self.layout.spec(agent, self.backend.identity(self.layout.uid_base(agent)))
        return await self.backend.fault(spec, self.places(agent))

    async def remove(self, agent: str) -> list[str]:
        await self.backend.remove(self.places(agent))
        return sorted(path.name for path in self.places(agent).folder.iterdir())

    async def identity(self, agent: str) -> Any:
        return msgspec.to_builtins(self.backend.identity(self.layout.uid_base(agent)))

    async def locked(self, agent: str) -> bool:
        return is_locked(self.places(agent))

    def _hold(self, agent: str, cage: RunningCage) -> dict[str, Any]:
        self.running[agent] = cage
        return {
            "leader": cage.leader_pid,
            "degraded": cage.degraded,
            "held": cage.held,
            "started_ms": cage.started_ms,
            "base": cage.base,
        }

    async def counts(self, agent: str) -> dict[str, int]:
        """What its limits were met, until now."""
        return msgspec.structs.asdict(self.running[agent].limit_counts())


def _said(ended: Exit) -> dict[str, Any]:
    return {"how": str(ended.how), "code": ended.code}


def backend_of(name: str, folder: Path) -> Backend:
    """The backend of this name for a hive in this folder."""
    launcher = Children(hive_tag(str(folder)))
    match name:
        case "nspawn":
            return Nspawn("/usr/bin/systemd-nspawn", launcher)
        case "nixos":
            return FakeHost(folder / "host").backend(hive_tag(str(folder)))
        case _:
            return of_this_process("/usr/bin/bwrap", launcher)


async def main(name: str, folder: Path, environment: Path) -> None:
    layout = Layout(folder, environment, os.geteuid(), os.getegid())
    await obey(Driver(backend_of(name, folder), layout))


async def obey(driver: object) -> None:
    """Answer every line on the input."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        request = json.loads(line)
        method: Callable[..., Awaitable[Any]] = getattr(driver, request.pop("do"))
        try:
            answer: dict[str, Any] = {"value": await method(**request)}
        except Refused as refused:
            answer = {"problem": str(refused.problem), "detail": refused.detail}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
