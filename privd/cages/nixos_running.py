"""A NixOS container that runs: two of its processes held by pidfd, its unit asked what became of it.

The unit lives in systemd, so nothing here must run for the cage to live. How it ended systemd alone knows.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from privd.cages.held import HeldCage, Record, both
from privd.cages.nixos_conf import container_of, unit_of
from privd.cages.nixos_host import NixosHost, UnitState, own_folder
from privd.cages.processes import Process
from privd.cages.spec import CageSpec, Exit, How, Places
from protocol.problem import Problem, Refused

UNIT_END_S: Final = 20.0
"""How long systemd may take to notice that a container has ended."""
LOOK_MS: Final = 50


class NixosCage(HeldCage):
    """A running container."""

    def __init__(
        self, host: NixosHost, agent: str, places: Places, record: Record, held: tuple[Process, Process]
    ) -> None:
        super().__init__(record, held, places, UNIT_END_S)
        self._host = host
        self._agent = agent

    async def stop(self, grace_s: float) -> Exit:
        """See `backend.RunningCage`. Stopping is asked of `nixos-container`; whether it worked the kernel says."""
        self._ask_for_its_end()
        with trio.move_on_after(grace_s):
            async with trio.open_nursery() as asking:
                asking.start_soon(self._ask_to_stop, grace_s)
                ended = await self.wait()
                asking.cancel_scope.cancel()
            return ended
        return await self.kill()

    async def _ask_to_stop(self, grace_s: float) -> None:
        with own_folder(self._places) as work:
            await self._host.call(work, self._places, None, ("stop", container_of(self._agent)), grace_s)

    async def _settle(self) -> Exit:
        """How systemd says that it ended. A unit that runs again is ended: nobody asked it to."""
        state = await settled(self._host, self._agent)
        if state is None:
            try:
                state = await end_unit(self._host, self._agent)
            except Refused:  # both processes have ended all the same; the next start looks at the unit again
                return Exit(How.UNKNOWN)
        return state.exit


async def settled(host: NixosHost, agent: str) -> UnitState | None:
    """The unit's state once it has ended; None when it has not within UNIT_END_S, or systemd does not say."""
    with trio.move_on_after(UNIT_END_S):
        while True:
            with suppress(Refused):  # systemd starts itself anew now and then
                state = await host.state(agent)
                if not state.runs:
                    return state
            await trio.sleep(LOOK_MS / 1000)
    return None


async def end_unit(host: NixosHost, agent: str) -> UnitState:
    """End whatever of the unit there is, by force; also a start that waits. Refused(failed) when it does not end."""
    unit = unit_of(agent)
    await host.ask("systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", "--", unit)
    await host.ask("systemctl", "stop", "--", unit)
    state = await settled(host, agent)
    if state is None:
        raise Refused(Problem.FAILED, f"{unit} does not end; see `systemctl status {unit}`")
    return state


def leader_fault(pid: int, spec: CageSpec) -> str | None:
    """Where the container's init is not boxed in as it was told to be, seen in /proc; None when it is."""
    process = Path("/proc") / str(pid)
    try:
        mapped = (process / "uid_map").read_text().split()
        status = (process / "status").read_text()
        network = (process / "ns/net").readlink()
    except OSError as error:
        return f"its init cannot be looked at: {error.strerror}"
    if mapped != ["0", str(spec.uid_base), "65536"]:
        return f"its users are {' '.join(mapped)} of the host, not 0 {spec.uid_base} 65536"
    if "NoNewPrivs:\t1" not in status:
        return "its programs can gain privileges"
    if network == Path("/proc/self/ns/net").readlink():
        return "it is on the host's network"
    return None


def found(main: str, leader: int) -> tuple[Process, Process] | None:
    """Hold nspawn and the container's init; None when one of them has ended."""
    supervisor = Process.found(int(main)) if main.isdecimal() and main != "0" else None
    return both(supervisor, Process.found(leader))
