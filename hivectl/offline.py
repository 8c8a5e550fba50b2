"""Programs of the daemons that work on a hive's files without asking a daemon; run as whom the files belong to.

No command of ours imports anything of a daemon.
"""

import os
import sys
from pathlib import Path

import trio

from hivectl.up.become import WITHOUT_NETWORK
from hivectl.up.supervisor import BECOME
from protocol.problem import Problem, Refused


async def run_module(module: str, folder: Path, *words: str, answers: tuple[int, ...] = (0,)) -> bytes:
    """Run a module over a folder, without network; what it printed, if it ended with one of the codes in *answers*.

    `not_found` without the folder, `denied` to those who are neither its owner nor root, `conflict` with its last word.
    """
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        raise Refused(Problem.NOT_FOUND, f"{folder}: no hive is in this folder") from None
    command = [sys.executable, "-I", "-m", module, str(folder), *words]
    if owner != os.geteuid():
        if os.geteuid() != 0:
            raise Refused(
                Problem.DENIED, f"{folder}: belongs to uid {owner}; do this as that user, or as root"
            )
        command = [sys.executable, "-I", "-S", str(BECOME), str(owner), WITHOUT_NETWORK, *command]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode not in answers:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Refused(Problem.CONFLICT, said[-1] if said else f"{module} ended with {done.returncode}")
    return bytes(done.stdout)
