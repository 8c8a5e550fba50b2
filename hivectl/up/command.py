"""`hivectl up` itself: prepare, start the daemons, wake the agents, print the link, and stay until told to stop."""

import argparse
import os
import signal
import sys
import time
from typing import Any, Final

import trio

from hivectl import tables
from hivectl.arguments import whole_number
from hivectl.doctor import Findings, probe
from hivectl.places import Places
from hivectl.program import TARGET, program, typed
from hivectl.up import configuration, credentials, ground
from hivectl.up.agents import Agents, named
from hivectl.up.configuration import HiveSettings
from hivectl.up.supervisor import Daemon, Supervisor, raise_file_limit
from protocol.hello import Greeting, Hello
from protocol.problem import Problem, Refused
from protocol.settings import Runner
from protocol.webd import LoginLink, MintLogin
from runtime.client import Client, Disconnected
from runtime.settings import SettingsFault, load_settings

DAEMON_READY_S: Final = 30.0
PORT_LOOK_S: Final = 0.25
EXIT_FAILED: Final = 1


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("up", help="start a hive on this machine and print the link to its dashboard")
    child.add_argument(
        "--port",
        type=whole_number,
        metavar="N",
        help=f"the dashboard's port (default {configuration.PORT_DEFAULT}, or hive.toml); 0 takes a free one",
    )
    child.add_argument(
        "--runner",
        choices=[runner.value for runner in Runner],
        help="what drives new agents",
    )
    child.add_argument("--agents", metavar="NAME,NAME", help="agents to create and start beside the manager")
    child.add_argument("--backend", choices=["auto", "nixos", "nspawn", "bwrap"], help="which kind of cages")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    return await Up(values).run()


class Up:
    """One run of the command."""

    def __init__(self, values: argparse.Namespace) -> None:
        self._values = values
        self._places: Places = values.places
        self._began = time.monotonic()
        self._agents = Agents(self._places, self._say)

    async def run(self) -> int:
        os.umask(0o022)
        raise_file_limit()
        if self._places.is_installed:
            raise SettingsFault(
                f"{self._places.state}: this hive is installed as units: systemctl start {TARGET}; "
                "or start another one with --dir"
            )
        asked = None if self._values.agents is None else named(self._values.agents)
        ground.check(self._places)
        settings = self._settings()
        found = await probe(self._places.state, claim=True)
        if not found.backend:
            self._explain(found)
            return EXIT_FAILED
        _check_backend(settings, found)
        who = configuration.ids(found.uid_first or 0)
        if who.separate and found.uid_conflict:
            raise SettingsFault(
                f"{self._places.state}: its daemons' uids are not theirs alone: {found.uid_conflict}; "
                "another --dir gets others"
            )
        ground.lay(self._places, who)
        lock = ground.take_lock(self._places)
        try:
            credentials.hand_over(settings, self._places, who)
            rendered = configuration.render(settings, self._places, found.uid_first or 0, who)
            return await self._serve(asked, settings, self._daemons(rendered, who))
        finally:
            os.close(lock)

    def _settings(self) -> HiveSettings:
        """hive.toml, made at the first start, with the command line on top of it."""
        path = self._places.settings
        if not path.exists():
            try:
                path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
                with path.open("x") as file:
                    file.write(configuration.TEMPLATE.format(name="my-hive", port=configuration.PORT_DEFAULT))
            except OSError as error:
                raise SettingsFault(
                    f"{path}: cannot be written: {error.strerror}; choose another folder with --dir"
                ) from None
        settings = load_settings(path, HiveSettings)
        return configuration.overridden(settings, self._values)

    def _daemons(self, rendered: dict[str, dict[str, Any]], who: configuration.Ids) -> tuple[Daemon, ...]:
        uids = {"brokerd": who.broker, "webd": who.web, "egressd": who.egress}
        daemons = []
        for name, table in rendered.items():
            path = self._places.rendered / f"{name}.toml"
            path.write_text(configuration.to_toml(table))
            path.chmod(0o644)
            daemons.append(
                Daemon(
                    name,
                    path,
                    uids.get(name) if who.separate else None,
                    self._places.logs / f"{name}.log",
                    network=name != "brokerd",
                )
            )
        return tuple(daemons)

    async def _serve(
        self, asked: tuple[str, ...] | None, settings: HiveSettings, daemons: tuple[Daemon, ...]
    ) -> int:
        supervisor = Supervisor(daemons, lambda text: self._say("⚠", text))
        stopped = trio.Event()
        code = 0
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_signal, stopped)
                nursery.start_soon(supervisor.run)
                with trio.CancelScope() as starting:
                    nursery.start_soon(_cancel_when, stopped, starting)
                    if not await self._start(asked, settings, daemons):
                        code = EXIT_FAILED
                        stopped.set()
                await stopped.wait()
                await self._stop(supervisor)
                nursery.cancel_scope.cancel()
        finally:
            supervisor.close()
        return code

    async def _start(
        self, asked: tuple[str, ...] | None, settings: HiveSettings, daemons: tuple[Daemon, ...]
    ) -> bool:
        """Bring everything up and print the link; False when something did not come up, which was said."""
        for daemon in daemons:
            greeting = await self._greeted(daemon)
            if greeting is None:
                return False
            self._say("●", daemon.name + (f" · {greeting.backend} cages" if greeting.backend else ""))
            for text in greeting.degraded:
                self._say("⚠", text)
        try:
            await self._agents.wake(asked, settings)
            self._show_link(await self._mint())
        except (Disconnected, Refused) as fault:
            self._say("✗", fault.detail if isinstance(fault, Refused) else str(fault))
            return False
        return True

    async def _greeted(self, daemon: Daemon) -> Greeting | None:
        """Wait until a daemon answers; None, and why is said, when it ends again and again or takes too long."""
        why = ""
        async with Client(self._places.socket(daemon.name)) as client:
            with trio.CancelScope() as patience:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_when, daemon.fails, patience)
                    try:
                        greeting = await client.call(Hello(), patience_s=DAEMON_READY_S)
                    except (Disconnected, Refused) as fault:
                        why = str(fault)
                    else:
                        daemon.was_up = True
                        nursery.cancel_scope.cancel()
                        return greeting
                    nursery.cancel_scope.cancel()
        self._say("✗", f"{daemon.name} did not come up: {daemon.why or why}; log: {daemon.log}")
        return None

    async def _mint(self) -> LoginLink:
        """A link, once the port is ours: before, it would lead to whoever holds it."""
        is_told = False
        async with Client(self._places.socket("webd")) as webd:
            while True:
                try:
                    return await webd.call(MintLogin(), patience_s=DAEMON_READY_S)
                except Refused as refused:
                    if refused.problem is not Problem.CONFLICT:
                        raise
                    if not is_told:
                        self._say("⚠", f"{refused.detail}; --port N takes another")
                is_told = True
                await trio.sleep(PORT_LOOK_S)

    def _show_link(self, link: LoginLink) -> None:
        print(f"\n  ◆ {tables.printable(link.url)}\n", flush=True)
        again = typed("login", self._places)
        print(f"  works once, for five minutes; {again} prints another. ctrl-c stops the hive.", flush=True)

    async def _stop(self, supervisor: Supervisor) -> None:
        """Stop the cages, then the daemons. A second signal leaves the cages running: the next `up` finds them."""
        self._say("◼", "stopping the cages; ctrl-c again leaves them running")
        impatient = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_signal, impatient)
            nursery.start_soon(_cancel_when, impatient, nursery.cancel_scope)
            await self._agents.stop()
            nursery.cancel_scope.cancel()
        await supervisor.stop_all()
        self._say("◼", "stopped")

    async def _until_signal(self, told: trio.Event) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for _ in received:
                told.set()
                return

    def _explain(self, found: Findings) -> None:
        print("no cage can be made on this machine:", file=sys.stderr)
        for finding in found.findings:
            if not finding.good:
                print(f"  ✗ {finding.subject}: {finding.what}\n    → {finding.mend}", file=sys.stderr)

    def _say(self, glyph: str, text: str) -> None:
        print(f"  {time.monotonic() - self._began:5.1f}s  {glyph} {tables.printable(text)}", flush=True)


def _check_backend(settings: HiveSettings, found: Findings) -> None:
    """SettingsFault when what was asked for cannot be had here."""
    subject = {"nixos": "nixos-container", "nspawn": "systemd-nspawn", "bwrap": "bwrap"}.get(
        settings.cages.backend
    )
    for finding in found.findings:
        if finding.subject == subject and not finding.good:
            raise SettingsFault(f"{settings.cages.backend} cages: {finding.what}; {finding.mend}")
    if settings.agents.runner is Runner.CLAUDE and not os.environ.get(configuration.CLAUDE_VARIABLE):
        raise SettingsFault(
            f"runner claude: Claude Code is not installed here; to install it: {program()} env claude"
        )


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
