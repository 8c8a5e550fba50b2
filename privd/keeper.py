"""Keeps one agent's cage in the power state that is wanted: start, stop, crash, back-off, adoption.

One keeper an agent, one operation at a time. Everything that changes is published as the cage's whole row. The
cage itself lives on when privd goes; `adopt` finds it again.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from privd.audit import Effects
from privd.cages import folders
from privd.cages.backend import Backend, RunningCage
from privd.cages.spec import CageSpec, Exit, Places
from privd.limit_hits import LimitHits
from privd.policy.agents import restart_after_ms
from privd.policy.base import Outlook, may_renew, why_stale
from privd.policy.limits import DiskVerdict, judge_disk, stop_detail
from privd.registry import AgentRecord, Registry, check_has_cage, resting
from protocol.privd import AnyCageEvent, Cage, CageChanged, CageCrashed, CageRebuilt, Power, Resource
from protocol.problem import Problem, Refused
from protocol.settings import AgentSettings
from runtime.clock import now_ms
from runtime.log import Log

CRASH_LINES_MAX: Final = 50
CRASHES_REMEMBERED_MAX: Final = 16
DISK_REPRIEVE_MS: Final = 5 * 60 * 1000
"""How long a cage that takes far too much disk may run after it was started."""

Publish = Callable[[AnyCageEvent], None]
Attend = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs a task for as long as privd lives."""


class Keeper:
    """One agent's cage."""

    def __init__(
        self,
        record: AgentRecord,
        registry: Registry,
        backend: Backend,
        furnish: Callable[[AgentRecord], CageSpec],
        last_lines: Callable[[str, int], tuple[str, ...]],
        publish: Publish,
        attend: Attend,
        log: Log,
        outlook: Callable[[AgentRecord], Outlook],
        audit: Effects,
    ) -> None:
        self.record = record
        self._registry = registry
        self._backend = backend
        self._furnish = furnish
        self._last_lines = last_lines
        self._publish = publish
        self._attend = attend
        self._log = log.bind(agent=record.agent)
        self._outlook = outlook
        self._audit = audit
        self._places = Places(registry.folder(record.agent))
        self._turn = trio.Lock()
        self._running: RunningCage | None = None
        self._power = resting(record)
        self._since_ms = record.since_ms or record.created_ms
        self._detail = ""
        self._crashes_ms: list[int] = []
        self._crashed_ms: int | None = None
        self._rebuilt_ms: int | None = None
        self._hits = LimitHits(record.agent, publish)

    def row(self) -> Cage:
        """The cage as everybody sees it."""
        identity = self._backend.identity(self.record.uid_base)
        running, outlook = self._running, self._outlook(self.record)
        return Cage(
            agent=self.record.agent,
            power=self._power,
            since_ms=self._since_ms,
            backend=self._backend.name,
            harness_uid=identity.harness_uid,
            agent_uid=identity.agent_uid,
            settings=self.record.settings,
            started_ms=running.started_ms if running else None,
            crashes=len(self._crashes_ms),
            crashed_ms=self._crashed_ms,
            rebuilt_ms=self._rebuilt_ms,
            detail=self._detail,
            generation=outlook.generation,
            stale=why_stale(running.base, outlook.base) if running else "",
            degraded=running.degraded if running else self._backend.degraded(),
        )

    @property
    def power(self) -> Power:
        return self._power

    @property
    def base(self) -> dict[str, str] | None:
        """What the cage that runs was made from; None while none does."""
        return self._running.base if self._running else None

    async def recover(self, grace_s: float) -> None:
        """After privd's own start: adopt what runs, end what should not, start what was wanted.

        A crash that nobody saw is told, a rebuild that was interrupted is done again; neither is waited for.
        """
        async with self._turn:
            if self.record.kept or self.record.draft:
                return
            try:
                found = await self._backend.adopt(self._places)
            except Refused as refused:
                self._log.error("cannot take up what was left of the cage", reason=refused.detail)
                self._become(Power.FAILED, refused.detail)
                return
            if found is not None and not isinstance(found, Exit):
                self._log.info("adopted a running cage", leader=found.leader_pid)
                self._hold(found)
            elif found is not None and self.record.wanted and not self.record.rebuilding:
                self._attend(self._start_after(self._fell(found)))
                return
        if not self.record.wanted:
            await self.stop(0)
        elif self.record.rebuilding:
            self._attend(partial(self._rebuild_again, grace_s))
        elif self._running is None:
            try:
                async with self._audit.effect("start_again", self.record.agent):
                    await self.start()
            except Refused as refused:
                self._attend(self._start_after(self._did_not_start(refused)))

    async def start(self) -> Cage:
        """Boot the cage unless it runs. Refused(failed) says why not; privd tries again when it next starts."""
        async with self._turn:
            check_has_cage(self.record)
            self._save(wanted=True)
            if self._running is None:
                self._crashes_ms.clear()
                await self._boot()
            return self.row()

    async def stop(self, grace_s: float, *, until_next_start: bool = False) -> Cage:
        """End the cage; after `grace_s` by force. It stays stopped, unless it shall start again with privd."""
        async with self._turn:
            if self.record.kept or self.record.draft:
                return self.row()
            if not until_next_start:
                self._save(wanted=False)
            await self._end(grace_s)
            return self.row()

    async def restart(self, grace_s: float) -> Cage:
        """End the cage and boot it again, as one operation."""
        async with self._turn:
            check_has_cage(self.record)
            self._save(wanted=True)
            await self._end(grace_s)
            self._crashes_ms.clear()
            await self._boot()
            return self.row()

    async def rebuild(self, grace_s: float) -> Cage:
        """End the cage, make its root anew from what is deployed, and boot it; what the agent has stays.

        Refused(failed) when it does not come up; it is then stopped, and started again or rebuilt as any other.
        """
        async with self._turn:
            check_has_cage(self.record)
            await self._rebuild(grace_s)
            return self.row()

    async def renew(self, grace_s: float) -> bool:
        """Rebuild a cage that is stale, runs and is wanted; whether it still was one when its turn came."""
        async with self._turn:
            stale = self.row().stale
            if not may_renew(self._power, stale, wanted=self.record.wanted):
                return False
            async with self._audit.effect("renew", self.record.agent) as said:
                said.detail = stale
                await self._rebuild(grace_s)
            return True

    async def _rebuild(self, grace_s: float) -> None:
        self._save(wanted=True, rebuilding=True)
        try:
            await self._end(grace_s)
            self._crashes_ms.clear()
            await self._clear()
            await self._boot()
            await self._verify()
        except Refused:
            self._save(rebuilding=False)
            raise
        self._save(rebuilding=False)
        self._rebuilt_ms = now_ms()
        self._publish(CageRebuilt(self.record.agent, self._rebuilt_ms))

    async def switch(
        self, settings: AgentSettings, grace_s: float, *, wanted: bool, draft: bool = False
    ) -> Cage:
        """Give the agent other settings: end its cage, write them down, and boot it again where that is wanted.

        Doing it twice is doing it once. Refused(failed) when it does not come up; the settings are written then.
        """
        async with self._turn:
            if self.record.kept:
                self._save(settings=settings)
                return self.row()
            await self._end(grace_s)
            self._save(settings=settings, wanted=wanted, draft=draft)
            self._crashes_ms.clear()
            if wanted:
                await self._boot()
            else:
                self._become(resting(self.record))
            return self.row()

    async def destroy(self, grace_s: float) -> Cage:
        """End and remove the cage; what the agent keeps is the caller's to keep."""
        async with self._turn:
            if not self.record.kept:
                self._save(wanted=False)
                await self._end(grace_s)
                await self._backend.remove(self._places)
                self._save(kept=True, draft=False)
                self._become(Power.KEPT)
            return self.row()

    def look_at_limits(self) -> None:
        """Tell what the kernel has refused the cage since the last look."""
        if self._running is not None:
            self._hits.look(self._running.limit_counts(), self.record.settings.limits, now_ms())

    async def look_at_disk(self, used_bytes: int) -> None:
        """Tell that the cage's disk is full; stop a cage that takes far too much of it where nothing holds it.

        One that was started a moment ago may first delete something.
        """
        running, limits = self._running, self.record.settings.limits
        if running is None:
            return
        verdict = judge_disk(used_bytes, limits, held=Resource.DISK in running.held)
        if verdict is not DiskVerdict.FINE:
            self._hits.disk_is_full(limits, now_ms())
        if verdict is DiskVerdict.STOP and now_ms() - running.started_ms > DISK_REPRIEVE_MS:
            async with self._turn:
                if self._running is running:
                    async with self._audit.effect("stop_for_its_disk", self.record.agent):
                        self._save(wanted=False)
                        await self._end(0)
                        self._become(Power.FAILED, stop_detail(used_bytes, limits))

    def let_go(self) -> None:
        """Privd goes; the cage stays."""
        if self._running is not None:
            self._running.let_go()

    async def _boot(self) -> None:
        """Start the cage; it is `failed` when it does not come up."""
        try:
            await self._come_up()
        except Refused as refused:
            self._become(Power.FAILED, refused.detail)
            raise

    async def _come_up(self) -> None:
        self._become(Power.STARTING)
        spec = self._furnish(self.record)
        try:
            for file in spec.absent:  # what the agent put there instead may be large
                await trio.to_thread.run_sync(folders.remove, Path(file))
            running = await self._backend.start(spec, self._places)
        except OSError as error:
            raise Refused(
                Problem.FAILED, f"the cage of {self.record.agent} could not start: {error}"
            ) from error
        self._hold(running)

    async def _clear(self) -> None:
        try:
            await self._backend.clear(self._places)
        except OSError as error:
            self._become(Power.FAILED, str(error))
            raise Refused(
                Problem.FAILED, f"the old root of {self.record.agent} cannot be removed: {error}"
            ) from error

    async def _rebuild_again(self, grace_s: float) -> None:
        with suppress(Refused):  # told by the row already: power `failed` with the reason
            async with self._audit.effect("rebuild_again", self.record.agent):
                await self.rebuild(grace_s)

    async def _verify(self) -> None:
        """Look at what was made instead of trusting that it was."""
        fault = await self._backend.fault(self._furnish(self.record), self._places)
        if fault is not None:
            await self._end(0)
            self._become(Power.FAILED, fault)
            raise Refused(Problem.FAILED, f"{self.record.agent} was not rebuilt: {fault}")

    def _hold(self, running: RunningCage) -> None:
        self._running = running
        self._hits.begin(running.limit_counts())
        self._become(Power.RUNNING, since_ms=running.started_ms)

        async def attend() -> None:
            ended = await running.wait()
            if self._running is running and self._power is not Power.STOPPING:
                await self._crashed(running, ended)

        self._attend(attend)

    async def _end(self, grace_s: float) -> None:
        running = self._running
        if running is None:
            if self._power is not resting(self.record):
                self._become(resting(self.record))
            return
        self._become(Power.STOPPING)
        ended = await (running.stop(grace_s) if grace_s > 0 else running.kill())
        self._running = None
        self._log.info("stopped the cage", ended=str(ended))
        self._become(Power.STOPPED)

    async def _crashed(self, running: RunningCage, ended: Exit) -> None:
        """The cage ended without being asked: tell, and start it again after a back-off, within a budget."""
        async with self._turn:
            if self._running is not running:
                return
            self.look_at_limits()
            self._running = None
            start_again = self._start_after(self._fell(ended))
        await start_again()

    def _fell(self, ended: Exit) -> int | None:
        """Tell of a crash. In how many milliseconds it starts again; None: it waits for the operator."""
        self._crashed_ms = now_ms()
        self._crashes_ms = [*self._crashes_ms, self._crashed_ms][-CRASHES_REMEMBERED_MAX:]
        lines = self._last_lines(self.record.agent, CRASH_LINES_MAX)
        self._log.warning("the cage ended by itself", ended=str(ended), crashes=len(self._crashes_ms))
        self._publish(CageCrashed(self.record.agent, self._crashed_ms, str(ended), lines))
        wait_ms = restart_after_ms(self._crashes_ms, now_ms()) if self.record.wanted else None
        if wait_ms is None:
            times = len(self._crashes_ms)
            self._become(Power.FAILED, f"ended by {ended}, {times} times of late; start it to try again")
        else:
            self._become(Power.CRASHED, f"ended by {ended}; starts again in {wait_ms / 1000:g} s")
        return wait_ms

    def _did_not_start(self, refused: Refused) -> int | None:
        """A start that nobody waits for failed: it counts as a crash, since what hindered it may pass."""
        self._crashes_ms = [*self._crashes_ms, now_ms()][-CRASHES_REMEMBERED_MAX:]
        wait_ms = restart_after_ms(self._crashes_ms, now_ms()) if self.record.wanted else None
        if wait_ms is None:
            self._become(Power.FAILED, refused.detail)
        else:
            self._become(Power.CRASHED, f"{refused.detail}; starts again in {wait_ms / 1000:g} s")
        return wait_ms

    def _start_after(self, wait_ms: int | None) -> Callable[[], Awaitable[None]]:
        """What starts the cage as it is now, unless something else becomes of it meanwhile; within the budget again."""
        since_ms = self._since_ms

        async def start_again() -> None:
            nonlocal wait_ms, since_ms
            while wait_ms is not None:
                await trio.sleep(wait_ms / 1000)
                async with self._turn:
                    if not (
                        self._power is Power.CRASHED and self._since_ms == since_ms and self.record.wanted
                    ):
                        return
                    try:
                        async with self._audit.effect("start_again", self.record.agent):
                            await self._come_up()
                    except Refused as refused:
                        wait_ms = self._did_not_start(refused)
                        since_ms = self._since_ms
                    else:
                        return

        return start_again

    def _save(self, **changes: bool | AgentSettings) -> None:
        record = msgspec.structs.replace(self.record, **changes)
        if record != self.record:
            self._registry.put(record)
            self.record = record

    def _become(self, power: Power, detail: str = "", since_ms: int | None = None) -> None:
        """Take a power state and tell everybody. A cage that was adopted has run since before privd did."""
        self._power, self._detail, self._since_ms = power, detail, since_ms or now_ms()
        self._publish(CageChanged(self.row()))
