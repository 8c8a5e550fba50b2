"""Whether this machine can make a box (privd.boxes): found out by making one, for `hivectl doctor`."""

import os
from typing import Final

from privd.boxes import Box, boxes_of_this_process
from privd.cages.probe import Finding
from protocol.problem import Refused
from runtime.log import logger

SUBJECT: Final = "boxes"
REQUEST: Final = b'[["agent.toml", null, 2]]\nx\n'
"""One new file of one line, for the program that compares configurations."""
MEND: Final = (
    "without boxes no configuration is taken in or shown: allow mount, pid and network namespaces and seccomp "
    "filters to whatever this machine runs in"
)


async def try_box() -> Finding:
    """Compare two configurations in a box, and look whether it said anything."""
    try:
        said = await boxes_of_this_process(logger("probe")).run(Box("difference", "a box on trial"), REQUEST)
    except Refused as refused:
        return Finding(SUBJECT, good=False, what=refused.detail, mend=MEND)
    if len(said) != 1:
        return Finding(SUBJECT, good=False, what="a box on trial did not say what it should", mend=MEND)
    user = "nobody, or the agent itself" if os.geteuid() == 0 else "this user"
    return Finding(SUBJECT, good=True, what=f"what agents wrote is read as {user}, seeing nothing else")
