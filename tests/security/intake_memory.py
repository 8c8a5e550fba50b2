"""Takes commits in, one after the other, in a process of its own, and says what each of them cost that process.

    python -m tests.security.intake_memory FOLDER-OF-APPLIED UID [PROPOSED COMMIT]...

One line of JSON for each: {"problem", "detail", "peak_kib"}. The first is only there to load everything.
"""

import json
import sys
from pathlib import Path

import trio
from msgspec import structs

import privd.git.intake
from privd.boxes import boxes_of_this_process
from privd.git.applied import Applied
from privd.git.intake import BOUNDS, Intake, Proposed
from protocol.problem import Refused
from runtime.log import logger

PATIENCE_S = 200.0
"""What a busy machine may take; processor time has the bound that it has in a hive."""
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"


def peak_kib() -> int:
    """The most that this process had in memory since it was last reset."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))


async def main(applied: Path, uid: int, proposals: list[tuple[str, str]]) -> None:
    privd.git.intake.BOUNDS = structs.replace(BOUNDS, wall_s=PATIENCE_S)  # type: ignore[misc]  # slow machines
    intake = Intake(boxes_of_this_process(logger("test")))
    for folder, commit in proposals:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        problem = detail = ""
        if commit == "control":
            detail = str(len(bytearray(b"x") * (32 << 20)))
        else:
            try:
                await intake.ingest(commit, Proposed(Path(folder), uid, uid), Applied(applied / "iris.git"))
            except Refused as refused:
                problem, detail = refused.problem, refused.detail
        print(json.dumps({"problem": problem, "detail": detail, "peak_kib": peak_kib()}), flush=True)


if __name__ == "__main__":
    words = sys.argv[3:]
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), list(zip(words[::2], words[1::2], strict=True)))
