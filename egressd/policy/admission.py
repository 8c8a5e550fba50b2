"""Whose uid may speak at a cage's egress socket: everybody of that cage, nobody else."""

from typing import Final

from protocol.privd import Cage

HARNESS_UID: Final = 1001
"""The harness's uid inside every cage whose users are mapped; a range's first uid is that much below it outside."""
UIDS: Final = 65_536
"""Uids of one cage."""


def cage_uids(cage: Cage) -> range:
    """The host's uids that this cage's processes have. A cage of one user has that user's alone."""
    if cage.harness_uid == cage.agent_uid:
        return range(cage.agent_uid, cage.agent_uid + 1)
    first = cage.harness_uid - HARNESS_UID
    return range(first, first + UIDS)
