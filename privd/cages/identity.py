"""Which host uids belong to which agent: blocks for hives, ranges for cages, users in a range. Pure.

A range is 65 536 uids wide, as container tools expect, and lies where systemd and shadow leave room for
containers. A hive takes its ranges from one block that its state folder decides, so two hives on a machine
do not meet. A range is recorded when an agent is created and never changes.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

from msgspec import Struct

from protocol.problem import Problem, Refused

RANGE_UIDS: Final = 65_536
UID_FIRST: Final = 524_288
UID_LAST: Final = 1_879_048_191
RANGES_PER_BLOCK: Final = 128
BLOCK_FIRST: Final = 9_160 * RANGE_UIDS
"""Past 600 100 000, up to which useradd hands subordinate uids to people: also to those who come later."""
BLOCKS: Final = (UID_LAST + 1 - BLOCK_FIRST) // (RANGE_UIDS * RANGES_PER_BLOCK)
BLOCK_UIDS: Final = RANGE_UIDS * RANGES_PER_BLOCK

INIT_UID: Final = 0
AGENT_UID: Final = 1_000
HARNESS_UID: Final = 1_001
"""Users inside a cage; each has a group of the same number."""


class Identity(Struct, frozen=True):
    """The host's ids of the users inside one cage."""

    init_uid: int
    agent_uid: int
    agent_gid: int
    harness_uid: int
    harness_gid: int

    @property
    def separated(self) -> bool:
        """Whether harness and agent are different users to the kernel."""
        return self.agent_uid != self.harness_uid


def mapped(uid_base: int) -> Identity:
    """Users of a cage that has a whole range."""
    agent, harness = uid_base + AGENT_UID, uid_base + HARNESS_UID
    return Identity(uid_base + INIT_UID, agent, agent, harness, harness)


def single(uid: int, gid: int) -> Identity:
    """Users of a cage that has one uid: they are all the same to the kernel."""
    return Identity(uid, uid, gid, uid, gid)


def hive_tag(state: str) -> str:
    """Eight hex digits that tell this hive from another on the same machine, from its state folder's real path."""
    return hashlib.sha256(state.encode()).hexdigest()[:8]


def block_of(state: str, taken: Collection[int] = ()) -> int:
    """The first uid of a hive's block, from its state folder's real path; the next one where another hive sits."""
    wanted = int.from_bytes(hashlib.sha256(state.encode()).digest()[:8], "big") % BLOCKS
    for step in range(BLOCKS):
        base = BLOCK_FIRST + (wanted + step) % BLOCKS * BLOCK_UIDS
        if base not in taken:
            return base
    raise Refused(Problem.LIMIT, f"all {BLOCKS} blocks of uids on this machine belong to other hives")


def allocate(block: int, recorded: Collection[int], foreign: Iterable[range] = ()) -> int:
    """A range for a new agent: past the highest that was ever recorded, and only at the end of the block a freed one.

    `foreign` are uids that somebody else on this machine may hand out (see `foreign_ranges`).
    """
    bases = [block + index * RANGE_UIDS for index in range(RANGES_PER_BLOCK)]
    others = tuple(foreign)
    free = [base for base in bases if base not in recorded and not _meets(base, others)]
    if not free:
        raise Refused(
            Problem.LIMIT, f"all {RANGES_PER_BLOCK} uid ranges of this hive are taken; purge an agent"
        )
    highest = max((base for base in recorded if base in bases), default=block - 1)
    return next((base for base in free if base > highest), free[0])


def _meets(base: int, others: tuple[range, ...]) -> bool:
    return any(base < other.stop and other.start < base + RANGE_UIDS for other in others)


def foreign_ranges(subuid: str) -> tuple[range, ...]:
    """The ranges of /etc/subuid or /etc/subgid; lines that say nothing usable are not anybody's."""
    ranges = []
    for line in subuid.splitlines():
        match line.split(":"):
            case [_, first, count] if first.isdecimal() and count.strip().isdecimal():
                ranges.append(range(int(first), int(first) + int(count)))
    return tuple(ranges)


def is_base(uid: int) -> bool:
    """Whether a range may start at this uid."""
    return UID_FIRST <= uid <= UID_LAST + 1 - RANGE_UIDS and uid % RANGE_UIDS == 0
