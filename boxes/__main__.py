"""`python -I -S /code/boxes ORDER`: how bubblewrap starts a program in the box that it has made."""

import json
import os
import sys

CODE = "/code"
INPUT = "/in"
LOG = 2
"""The last descriptor of a box."""

if __name__ == "__main__":
    # bubblewrap hands on whatever it was given, and an open folder leads out
    os.closerange(LOG + 1, os.sysconf("SC_OPEN_MAX"))
    order = json.loads(sys.argv[1])
    if order["input"] is not None:
        found = os.stat(INPUT)  # noqa: PTH116 - pathlib is more than a box needs
        if [found.st_dev, found.st_ino] != order["input"]:
            sys.exit("the folder that was shown is not the one that was meant")
    sys.path.insert(0, CODE)
    sys.dont_write_bytecode = True
    from boxes import confine

    confine.run(
        order["program"],
        memory_bytes=order["memory_bytes"],
        cpu_s=order["cpu_s"],
        files=order["files"],
        written_bytes=order["written_bytes"],
    )
