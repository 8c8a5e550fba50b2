"""brokerd as shipped, but that it removes what is over as soon as it is told to, instead of once an hour.

python -m bench.servers.broker_that_sweeps WHEN_S --config FILE
"""

import sys

from brokerd.__main__ import main
from brokerd.live import sweeping

if __name__ == "__main__":
    sweeping.FIRST_S = float(sys.argv.pop(1))  # type: ignore[misc]  # a constant, but for this
    sys.exit(main())
