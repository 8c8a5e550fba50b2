"""`python -m tests.brokerd.campaign.dying_disk STATE WHEN --config FILE`: brokerd on a disk that dies.

From the moment at which the file WHEN is there, no sync of a database below STATE succeeds any more.
"""

import sys
from pathlib import Path

from brokerd.__main__ import main
from tests.brokerd.campaign.disk import Disk

if __name__ == "__main__":
    state, when = Path(sys.argv[1]), Path(sys.argv[2])
    del sys.argv[1:3]
    with Disk.recorded(state) as disk:
        disk.sync_fails = lambda _number: when.exists()
        sys.exit(main())
