"""What may be asked of privd, the one process that is root; docs/reference/privd.md argues for each request.

No request carries a flag, a port or an identity: privd derives them from the agent's name. The place below an
agent's state that two of them name is followed by a box of that agent's user, never by privd.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from protocol.limits import INTEGER_MAX, JOURNAL_BYTES_MAX
from protocol.names import AgentName, StatePath
from protocol.rpc import Call, Watch
from protocol.settings import AgentSettings


class Power(StrEnum):
    """Where a cage stands. `kept` is what a destroyed agent leaves until it is purged."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    CRASHED = "crashed"
    """Ended without being asked; it starts again after a back-off."""
    FAILED = "failed"
    """Crashed too often, or could not be started; it waits for the operator."""
    DRAFT = "draft"
    """It has folders and a proposed configuration, and no cage until one is approved."""
    KEPT = "kept"


class Cage(Struct, frozen=True):
    """One agent's cage. Uids are the host's; `degraded` says what this machine could not give it."""

    agent: AgentName
    power: Power
    since_ms: int
    backend: str
    harness_uid: int
    agent_uid: int
    settings: AgentSettings
    started_ms: int | None = None
    crashes: int = 0
    crashed_ms: int | None = None
    """When it last ended without being asked, since privd runs."""
    rebuilt_ms: int | None = None
    """When it was last made anew, since privd runs."""
    generation: int | None = None
    """What is deployed."""
    stale: str = ""
    """Why it would come out otherwise if it were rebuilt, such as another hyperhive; empty when it would not."""
    detail: str = ""
    degraded: tuple[str, ...] = ()


class ListCages(Call[tuple[Cage, ...]], frozen=True):
    """Every agent's cage, kept state among them, by name."""


class StartCage(Call[Cage], frozen=True):
    """Boot an existing cage; one that runs already is left alone."""

    agent: AgentName


class StopCage(Call[Cage], frozen=True):
    """Stop a cage. Gracefully: the running turn may end, within the hive's grace; otherwise at once."""

    agent: AgentName
    graceful: bool = True
    until_next_start: bool = False
    """Whether the cage starts again by itself when privd next starts (the whole hive goes down, not this agent)."""


class RestartCage(Call[Cage], frozen=True):
    """Stop a cage gracefully and boot it again."""

    repeatable: ClassVar[bool] = False

    agent: AgentName


class RebuildCage(Call[Cage], frozen=True):
    """Make a cage anew from what is deployed and boot it: its state, credentials and configuration stay."""

    repeatable: ClassVar[bool] = False

    agent: AgentName


class DestroyCage(Call[Cage], frozen=True):
    """Remove a cage. The agent's state, claude and config folders stay as kept state; harness internals go."""

    agent: AgentName


class PurgeAgent(Call[None], frozen=True):
    """Delete kept state for good. `confirm` repeats the name; `conflict` while the cage exists."""

    agent: AgentName
    confirm: AgentName


class JournalLine(Struct, frozen=True):
    """One line of a cage's journal. `offset` is the byte where it starts and grows for ever."""

    offset: int
    text: str


class JournalPage(Struct, frozen=True):
    """Lines in order; `before` leads to older ones and is None at the start of what is kept."""

    lines: tuple[JournalLine, ...]
    before: int | None


class ReadJournal(Call[JournalPage], frozen=True):
    """The newest lines of one cage's journal before an offset."""

    agent: AgentName
    before: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None
    bytes_max: Annotated[int, Meta(ge=1, le=JOURNAL_BYTES_MAX)] = JOURNAL_BYTES_MAX


class WatchJournal(Watch[JournalLine], frozen=True):
    """One cage's journal from an offset on (or from now), line by line."""

    agent: AgentName
    since: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None


class StateKind(StrEnum):
    """What an entry of a folder is; only files can be read and only folders listed."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class StateEntry(Struct, frozen=True):
    """One entry of a folder below an agent's state."""

    name: str
    kind: StateKind
    bytes: int
    modified_ms: int


class StatePage(Struct, frozen=True):
    """Entries by name; `after` is where the next page begins and None at the end."""

    entries: tuple[StateEntry, ...]
    after: str | None


class ListState(Call[StatePage], frozen=True):
    """One folder of an agent's own state, looked at as that agent's uid in a box; kept state too."""

    agent: AgentName
    path: StatePath = ""
    after: StatePath = ""


class StateChunk(Struct, frozen=True):
    """A part of a file. `total_bytes` is the file's length at that moment; the end is reached at it."""

    offset: int
    data: bytes
    total_bytes: int
    modified_ms: int


class ReadState(Call[StateChunk], frozen=True):
    """A part of a regular file of an agent's own state, read as that agent's uid in a box.

    No link of any kind is followed, on the way or at the end.
    """

    agent: AgentName
    path: StatePath
    offset: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] = 0


class StateSize(Struct, frozen=True):
    """What an agent's state takes; `complete` is false when the counting was given up at its bound."""

    bytes: int
    files: int
    complete: bool


class MeasureState(Call[StateSize], frozen=True):
    """Count an agent's state, kept state too, as that agent's uid in a box."""

    agent: AgentName


class CagesNow(Struct, frozen=True, tag_field="kind", tag="cages_now"):
    """The first event: every cage as it stands."""

    cages: tuple[Cage, ...]


class CageChanged(Struct, frozen=True, tag_field="kind", tag="cage_changed"):
    """A cage's whole row after a change."""

    cage: Cage


class CageGone(Struct, frozen=True, tag_field="kind", tag="cage_gone"):
    """An agent was purged."""

    agent: AgentName


class CageCrashed(Struct, frozen=True, tag_field="kind", tag="cage_crashed"):
    """A cage ended without being asked, with the last lines of its journal."""

    agent: AgentName
    at_ms: int
    """The cage's `crashed_ms` from now on."""
    how: str
    journal: tuple[str, ...]


class CageRebuilt(Struct, frozen=True, tag_field="kind", tag="cage_rebuilt"):
    """A cage was made anew and runs."""

    agent: AgentName
    at_ms: int
    """The cage's `rebuilt_ms` from now on."""


class Resource(StrEnum):
    """What a cage can run out of."""

    MEMORY = "memory"
    TASKS = "tasks"
    DISK = "disk"


class CageLimitHit(Struct, frozen=True, tag_field="kind", tag="cage_limit_hit"):
    """A cage met a limit: the kernel ended a process of it, or refused it one, or its disk is full."""

    agent: AgentName
    at_ms: int
    resource: Resource
    times: int
    """Since the last such event of this cage and resource."""
    detail: str
    """One line: what happened, and the limit."""


AnyCageEvent = CagesNow | CageChanged | CageGone | CageCrashed | CageRebuilt | CageLimitHit


class WatchCages(Watch[AnyCageEvent], frozen=True):
    """Every cage now, then every change."""
