"""brokerd as it is shipped, with its databases on disk and agents that a stand-in for privd tells it of."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.processes import OURS, START_S, folder, on_disk, serving

RATES = (
    "messages_per_minute",
    "pair_messages_per_minute",
    "bytes_per_minute",
    "operator_messages_per_minute",
    "turns_per_hour",
    "hour_events_max",
    "hour_event_bytes_max",
    "share_deliveries_max",
    "share_bytes_max",
)
UNHURRIED = "".join(f"{rate} = 1_000_000_000_000\n" for rate in RATES)
"""Rates that nobody reaches: what is measured is how fast it could be."""


class Hive:
    """The folders of a running hive."""

    def __init__(self, run: Path, state: Path, servers: ExitStack, log: Path) -> None:
        self.run = run
        self.state = state
        self.servers = servers
        self.log = log

    @property
    def operator(self) -> Path:
        """Brokerd's socket for the operator."""
        return self.run / "brokerd" / "operator.sock"

    def agent(self, number: int) -> Path:
        """Brokerd's socket for one agent."""
        return self.run / "agents" / f"a{number:02}" / "broker" / "broker.sock"


@contextmanager
def hive(
    agents: int, program: Sequence[str] = ("brokerd",), prepare: Callable[[Path], None] | None = None
) -> Iterator[Hive]:
    """Privd's stand-in and brokerd, with so many agents, every socket answering.

    `program` is the module that runs as brokerd, and its arguments; `prepare` makes its folder of databases.
    """
    with folder() as run, on_disk() as state, ExitStack() as servers:
        log = run / "log"
        servers.enter_context(
            serving(
                OURS,
                "-m",
                "bench.servers.cages",
                run,
                str(agents),
                ready=run / "privd" / "swarm.sock",
                log=log,
            )
        )
        config = run / "brokerd.toml"
        config.write_text(
            f'run = "{run}"\nstate = "{state / "broker"}"\nlog_level = "warning"\n[guards]\n{UNHURRIED}'
        )
        if prepare is not None:
            prepare(state / "broker")
        made = Hive(run, state, servers, log)
        servers.enter_context(serving(OURS, "-m", *program, "--config", config, ready=made.operator, log=log))
        for number in range(agents):
            wait_for(made.agent(number))
        yield made


def wait_for(path: Path) -> None:
    until = time.monotonic() + START_S
    while not path.exists():
        if time.monotonic() > until:
            raise SystemExit(f"{path} never came")
        time.sleep(0.02)
