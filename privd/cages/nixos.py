"""Cages by `nixos-container`, on a NixOS host: an agent's system is built from its own flake, its store path pinned.

    build    a system is built while the cage runs on, each line told as it comes
    aim      another flake counts from the next start on
    start    nothing pinned, or another flake: create or update from FLAKE#AGENT → conf and drop-in of ours → start
    clear    unpins, so that the next start builds what is deployed anew, over the newest ground
    remove   destroy, then look, and finish what it left

`nixos-container` says with its exit code little and sometimes something false, so each call is followed by a look at
what it was to do. It is never asked to enter a container, nor to change one that runs.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from privd.cages import folders
from privd.cages.boot import FAILURE_LINES_MAX, end_holders, is_locked, take_lock
from privd.cages.control_groups import of_process
from privd.cages.held import Record, hold, read_record
from privd.cages.identity import Identity, mapped
from privd.cages.journal import Journal
from privd.cages.nixos_conf import (
    BUILT_FROM,
    FLAKE,
    OWNER,
    SYSTEM,
    conf_text,
    container_of,
    drop_in_text,
    is_system,
    read_conf,
    unit_of,
)
from privd.cages.nixos_flakes import Flakes
from privd.cages.nixos_host import (
    BUILD_S,
    BUILD_WORDS,
    RESULT,
    NixosHost,
    attribute,
    furnish,
    link_of,
    own_content,
    own_folder,
    remove_even_immutable,
    remove_folders,
    write_whole,
)
from privd.cages.nixos_running import NixosCage, end_unit, found, leader_fault
from privd.cages.processes import boot_id
from privd.cages.running import COUNTED
from privd.cages.spec import CageSpec, Exit, How, Places
from privd.policy.flakes import Ground, flake
from privd.policy.nar import Content
from protocol.problem import Problem, Refused
from runtime.clock import now_ms

BY: Final = "systemd"
NO_QUOTAS: Final = "the container's unit sets no quotas"


class Nixos(Struct, frozen=True):
    """The nixos backend of one hive. `ground` is what systems are built from; without one nothing can be deployed."""

    hive: str
    flakes: Flakes
    host: NixosHost = NixosHost()
    ground: Ground | None = None

    @property
    def name(self) -> str:
        return "nixos"

    def degraded(self) -> tuple[str, ...]:
        return ()

    def identity(self, uid_base: int) -> Identity:
        return mapped(uid_base)

    def base(self, programs: Mapping[str, str]) -> dict[str, str]:
        """An agent's system brings its programs: those of the host do not count."""
        return self.ground.base() if self.ground is not None else {}

    def sources(self) -> dict[str, str]:
        return self.ground.sources() if self.ground is not None else {}

    def record(self, agents: Iterable[str]) -> dict[str, bytes]:
        """One flake with an input for each agent, and its lock."""
        pins = {name: pin for name in agents if (pin := self.flakes.pin(name)) is not None}
        return flake(self.ground, pins) if self.ground is not None else {}

    async def build(
        self, agent: str, files: Mapping[str, Content], places: Places, say: Callable[[str], None]
    ) -> None:
        place = await trio.to_thread.run_sync(self.flakes.write, agent, files, self._ground())
        places.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with own_folder(places) as work:
            if not await self.host.build(work, f"{place}#{attribute(agent)}", say):
                raise Refused(Problem.FAILED, f"the system of {agent} could not be built; the log says why")

    async def aim(self, agent: str, files: Mapping[str, Content]) -> None:
        def aim() -> None:
            self.flakes.aim(agent, self.flakes.write(agent, files, self._ground()))

        await trio.to_thread.run_sync(aim)

    async def prepare(self, spec: CageSpec, places: Places) -> None:
        """Folders only: what is built is built by the first start, which somebody watches."""
        conf_text(spec, places, system=None, owner=self.hive)
        await trio.to_thread.run_sync(furnish, spec, places)

    async def start(self, spec: CageSpec, places: Places) -> NixosCage:
        agent = spec.agent
        async with self._alone(places) as lock:
            self._check_owner(agent)
            if (await self.host.state(agent)).runs:
                raise Refused(Problem.CONFLICT, f"the cage of {agent} runs already")
            await trio.to_thread.run_sync(furnish, spec, places)
            system = self._pinned(agent)
            if system is None:
                system = await self._build(agent, places, lock)
            await self._configure(spec, places, system)
            try:
                return await self._boot(spec, places, lock)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await end_unit(self.host, agent)
                raise

    async def adopt(self, places: Places) -> NixosCage | Exit | None:
        agent, record = places.folder.name, read_record(places)
        if places.folder.is_dir() and is_locked(places):
            await end_holders(places)
        if not self._is_ours(agent):
            return None
        state = await self.host.state(agent)
        same_boot = record is not None and record.boot == boot_id()
        same_life = record is not None and record.unit == state.shown.get("InvocationID")
        if state.runs:
            held = hold(record) if record is not None and same_boot and same_life else None
            if held is not None and record is not None:
                return NixosCage(self.host, agent, places, record, held)
            await end_unit(self.host, agent)
        places.record.unlink(missing_ok=True)
        if record is None or record.asked or not same_boot or state.runs:
            return None
        return state.exit if same_life else Exit(How.UNKNOWN)

    async def clear(self, places: Places) -> None:
        """Unpin the system and delete the container's root, which is empty but for mount points."""
        agent = places.folder.name
        async with self._alone(places):
            await self._check_stopped(agent)
            self._check_owner(agent)
            if self.ground is not None:
                await trio.to_thread.run_sync(self.flakes.renew, agent, self.ground)
            conf = self.host.conf(agent)
            if conf.exists():
                lines = conf.read_text().splitlines(keepends=True)
                write_whole(conf, "".join(line for line in lines if not line.startswith(f"{SYSTEM}=")))
            await trio.to_thread.run_sync(folders.remove, self.host.roots / container_of(agent))

    async def fault(self, spec: CageSpec, places: Places) -> str | None:
        return await trio.to_thread.run_sync(self._fault, spec, places)

    async def remove(self, places: Places) -> None:
        agent = places.folder.name
        if not places.folder.is_dir():
            return
        async with self._alone(places) as lock:
            if self._is_ours(agent):
                await self._check_stopped(agent)
                await self._destroy(agent, places, lock)
                await self._forget_unit(agent)
            await trio.to_thread.run_sync(folders.remove, places.root)
            await trio.to_thread.run_sync(self.flakes.forget, agent)
            Journal(places.journal).remove()
            places.record.unlink(missing_ok=True)
            places.lock.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------------------ ownership

    def _is_ours(self, agent: str) -> bool:
        """Whether a container of this name is there, and of this hive: by our mark, or as `create` left it for us."""
        try:
            values = read_conf(self.host.conf(agent).read_text())
        except FileNotFoundError:
            return False
        named = Path(values.get(FLAKE, "/"))
        return values.get(OWNER) == self.hive or named.parent == self.flakes.folder / agent

    def _check_owner(self, agent: str) -> None:
        conf = self.host.conf(agent)
        if conf.exists() and not self._is_ours(agent):
            raise Refused(
                Problem.CONFLICT,
                f"{container_of(agent)} is a container that this hive did not make: see {conf}",
            )

    async def _check_stopped(self, agent: str) -> None:
        if (await self.host.state(agent)).runs:
            raise Refused(Problem.CONFLICT, f"the cage of {agent} runs: stop it first")

    @asynccontextmanager
    async def _alone(self, places: Places) -> AsyncIterator[int]:
        """Hold the cage's lock; whatever was started meanwhile and still holds it at the end is ended."""
        lock = take_lock(places)
        try:
            remove_folders(places)
            yield lock
        finally:
            os.close(lock)
            if places.lock.exists() and is_locked(places):
                with trio.CancelScope(shield=True):
                    await end_holders(places)

    # ------------------------------------------------------------------------------------------------- building

    def _ground(self) -> Ground:
        if self.ground is None:
            raise Refused(
                Problem.FAILED, "privd is not told what systems are built from: [nixos] in its settings"
            )
        return self.ground

    def _pinned(self, agent: str) -> str | None:
        """The system that this cage starts; None when none was built from its flake, or the store has it no more."""
        try:
            conf = read_conf(self.host.conf(agent).read_text())
        except FileNotFoundError:
            return None
        system, aimed = conf.get(SYSTEM, ""), self.flakes.aimed(agent)
        if aimed is None or conf.get(BUILT_FROM) != aimed.name:
            return None
        return system if is_system(system, self.host.store) and Path(system).is_dir() else None

    async def _build(self, agent: str, places: Places, lock: int) -> str:
        """Create the container, or update it while it is stopped; the store path of what was built."""
        aimed = self.flakes.aimed(agent)
        if aimed is None or not (aimed / "flake.nix").is_file():
            raise Refused(
                Problem.FAILED, f"nothing is deployed for {agent}: no flake in {self.flakes.folder}/{agent}"
            )
        is_new = link_of(self.host.profile(agent)) is None
        if is_new:
            await self._make_room(agent, places, lock)
        profile, journal = self.host.profile(agent), Journal(places.journal)
        before, begun = link_of(profile), journal.end()
        verb = "create" if is_new else "update"
        with own_folder(places) as work:
            words = (verb, container_of(agent), "--flake", f"{aimed}#{agent}", *BUILD_WORDS)
            worked = await self.host.call(work, places, lock, words, BUILD_S)
            built = str((work / RESULT).readlink()) if (work / RESULT).is_symlink() else None
        system = os.path.realpath(profile)
        fault = None
        if not worked or not self._is_ours(agent):
            fault = f"nixos-container could not {verb} it"
        elif link_of(profile) in (None, before):
            fault = "its profile was not set"
        elif not is_system(system, self.host.store) or not Path(system).is_dir():
            fault = f"its profile leads to {system!a}, which is no system of {self.host.store}"
        elif built not in (None, system):
            fault = f"its profile leads to {system}, but {built} was built"
        if fault is None:
            return system
        if is_new and self._is_ours(agent):
            await self._destroy(agent, places, lock)
        raise _failed(agent, fault, journal, begun)

    # ------------------------------------------------------------------------------------------------------ starting

    async def _configure(self, spec: CageSpec, places: Places, system: str) -> None:
        """Write conf and drop-in, and let systemd read them."""
        conf, drop_in = self.host.conf(spec.agent), self.host.drop_in(spec.agent)
        write_whole(conf, self._conf_text(spec, places, system))
        text = drop_in_text(spec, places)
        if not drop_in.is_file() or drop_in.read_text() != text:
            drop_in.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_whole(drop_in, text)
            await self.host.ask("systemctl", "daemon-reload")
        shown = (await self.host.state(spec.agent)).shown
        if (shown.get("Restart"), shown.get("NeedDaemonReload")) != ("no", "no"):
            raise Refused(
                Problem.FAILED, f"systemd does not heed {drop_in}: {unit_of(spec.agent)} was not started"
            )

    def _conf_text(self, spec: CageSpec, places: Places, system: str | None) -> str:
        aimed = self.flakes.aimed(spec.agent)
        name = "" if aimed is None else aimed.name
        return conf_text(spec, places, system=system, owner=self.hive, flake=name)

    async def _boot(self, spec: CageSpec, places: Places, lock: int) -> NixosCage:
        agent, journal = spec.agent, Journal(places.journal)
        begun = journal.end()
        with own_folder(places) as work:
            await self.host.call(work, places, lock, ("start", container_of(agent)))
        state, leader = await self.host.state(agent), await self.host.leader(agent)
        if state.active != "active" or leader is None:
            reason = f"its unit is {state.active} ({state.shown.get('Result', 'no result')})"
            raise _failed(agent, reason, journal, begun)
        fault = leader_fault(leader, spec) or self._fault(spec, places)
        if fault is not None:
            raise _failed(agent, fault, journal, begun)
        held = found(state.shown.get("MainPID", ""), leader)
        if held is None:
            raise _failed(agent, "it ended as soon as it was up", journal, begun)
        supervisor, init = held
        limits = of_process(supervisor.pid, unit_of(agent), spec.limits, BY)
        disk = (COUNTED.format(reason=NO_QUOTAS),) if spec.limits.disk_mib_max is not None else ()
        record = Record(
            boot=boot_id(),
            unit=state.shown.get("InvocationID", ""),
            supervisor=supervisor.name,
            leader=init.name,
            started_ms=now_ms(),
            degraded=(*self.degraded(), *limits.degraded, *disk),
            groups=limits.folders,
            held=limits.held,
            base=self.flakes.base(agent),
        )
        record.write(places)
        return NixosCage(self.host, agent, places, record, held)

    def _fault(self, spec: CageSpec, places: Places) -> str | None:
        """Where what is on disk is not what the cage was told."""
        agent = spec.agent
        conf, drop_in, system = self.host.conf(agent), self.host.drop_in(agent), self._pinned(agent)
        wanted = {
            conf: self._conf_text(spec, places, system),
            drop_in: drop_in_text(spec, places),
        }
        for file, text in wanted.items():
            if not file.is_file() or file.read_text() != text:
                return f"{file} is not what is deployed"
        if system is None:
            return f"{conf} pins no system"
        if os.path.realpath(self.host.profile(agent)) != system:
            return f"{self.host.profile(agent)} does not lead to {system}, which the cage starts"
        for file, content in own_content(spec, places).items():
            if file.is_symlink() or not file.is_file() or file.read_bytes() != content:
                return f"{file} is not what is deployed"
        return None

    # ------------------------------------------------------------------------------------------------------ removing

    async def _make_room(self, agent: str, places: Places, lock: int) -> None:
        """Before a container is created: take away a half-made one of ours, refuse what is not known to be ours."""
        if self._is_ours(agent):
            await self._destroy(agent, places, lock)
        for left in self.host.remains(agent):
            if os.path.lexists(left):
                raise Refused(
                    Problem.CONFLICT, f"{left} belongs to no container of this hive: move it away first"
                )

    async def _destroy(self, agent: str, places: Places, lock: int) -> None:
        """Destroy, then finish what it left: a container made later would take that for its own.

        `nixos-container` deletes the conf even when the rest stays; ours is put back until nothing else is left.
        """
        *others, conf = self.host.remains(agent)
        with own_folder(places) as work:
            await self.host.call(work, places, lock, ("destroy", container_of(agent)))
        left = [folder for folder in others if os.path.lexists(folder)]
        if left:
            write_whole(conf, f"{OWNER}={self.hive}\n")
        for folder in left:
            try:
                await trio.to_thread.run_sync(remove_even_immutable, folder)
            except OSError as error:
                raise Refused(
                    Problem.FAILED,
                    f"{container_of(agent)} left {folder} behind: {error.strerror}; remove it by hand, then try again",
                ) from error
        conf.unlink(missing_ok=True)

    async def _forget_unit(self, agent: str) -> None:
        drop_in = self.host.drop_in(agent)
        if drop_in.exists():
            drop_in.unlink()
            drop_in.parent.rmdir()
            await self.host.ask("systemctl", "daemon-reload")


def _failed(agent: str, reason: str, journal: Journal, begun: int) -> Refused:
    lines = [line.text for line in journal.since(begun)[0][-FAILURE_LINES_MAX:]]
    return Refused(
        Problem.FAILED, f"the cage of {agent} did not come up: {reason}: {' / '.join(lines) or 'no output'}"
    )
