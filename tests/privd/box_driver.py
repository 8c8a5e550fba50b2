"""Runs scripts inside real boxes, as whoever starts it: `python -m tests.privd.box_driver CODE INPUT <PROBES`.

CODE is a copy of `boxes/` that has one program more, `probe`, which runs the script that it is asked. Each probe is
{"name", "script", "bounds"?, "user"?}; each answer {"frames": [text …]} or {"problem", "detail"}. BOX_SOCKET is
systemd's socket for boxes, where it makes them.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import trio

import privd.boxes
from privd.boxes import Bounds, Box, boxes_of_this_process
from protocol.problem import Refused
from runtime import log

SANDBOX_USER = (700_001_000, 700_001_000)


async def main(code: Path, folder: Path, probes: list[dict[str, Any]]) -> dict[str, Any]:
    privd.boxes.PACKAGE = code  # type: ignore[misc]  # what a box shows as its code
    unit = os.environ.get("BOX_SOCKET")
    boxes = boxes_of_this_process(log.logger("privd"), Path(unit) if unit else None)
    own = (os.getuid(), os.getgid())
    found: dict[str, Any] = {}
    for probe in probes:
        user = tuple(probe.get("user", SANDBOX_USER if own[0] == 0 else own))
        bounds = Bounds(**probe.get("bounds", {}))
        box = Box(
            "probe",
            "probing",
            folder,
            (user[0], user[1]),
            bounds,
            written_bytes=probe.get("written_bytes", 0),
        )
        try:
            frames = await boxes.run(box, probe["script"].encode())
            found[probe["name"]] = {"frames": [frame.decode() for frame in frames]}
        except Refused as refused:
            found[probe["name"]] = {"problem": refused.problem, "detail": refused.detail}
    found["descriptors"] = len(os.listdir("/proc/self/fd"))
    return found


if __name__ == "__main__":
    log.configure()
    answered = trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), json.load(sys.stdin))
    json.dump(answered, sys.stdout)
