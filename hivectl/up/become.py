"""The step between `up` and a daemon with a user of its own: become that user for good, then become the daemon.

    python -I -S become.py UID [--without-network] PROGRAM ARGUMENT…

Standard library only, no import of ours: it runs at each start of a daemon and must be quick. What a taken-over daemon
could do afterwards is what its uid may: no capability, no setuid program, no core file, and without network no socket
but those that have a path.
"""

import ctypes
import errno
import os
import resource
import sys
from typing import Final, NoReturn

WITHOUT_NETWORK: Final = "--without-network"
CLONE_NEWNET: Final = 0x4000_0000
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 23, 24, 38
CAPABILITIES_MAX: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """The result of a C call; -1 raises what errno says."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, argument: int) -> int:
    return check(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0), f"prctl {option}")


def empty_bounding_set() -> None:
    """No program started from here on can regain a capability, whatever its file says."""
    for capability in range(CAPABILITIES_MAX):
        try:
            held = prctl(PR_CAPBSET_READ, capability)
        except OSError as fault:
            if fault.errno == errno.EINVAL:  # past the last one this kernel knows
                return
            raise
        if held:
            prctl(PR_CAPBSET_DROP, capability)


def main(uid: int, words: list[str]) -> NoReturn:
    """Give everything up, in the order that allows it, and run the program."""
    if words[0] == WITHOUT_NETWORK:
        words = words[1:]
        check(_libc.unshare(CLONE_NEWNET), "unshare")
    empty_bounding_set()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.execv(words[0], words)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2:])
    except OSError as fault:
        sys.exit(f"become: {fault}")
