"""The inside of a box: the program is loaded, power and limits are given up for good, then the request is read.

Whoever made the box has already taken away capabilities, network and files (`privd/boxing.py`, or bubblewrap).
"""

import ctypes
import os
import resource
import struct
import sys
from typing import Final, NoReturn

from boxes import reply, system_calls

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
SECCOMP_MODE_FILTER: Final = 2
INSTRUCTION_BYTES: Final = 8
REQUEST, REPLY = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)


def run(program: str, *, memory_bytes: int, cpu_s: int, files: int, written_bytes: int) -> NoReturn:
    """Answer the request on standard input with the named program, and end."""
    try:
        answer = find(program)
        confine(memory_bytes, cpu_s, files, written_bytes)
    except OSError as fault:
        _say(f"the box cannot be closed: {fault}")
        os._exit(reply.EXIT_DEFECT)
    try:
        reply.write_reply(answer, os.read(REQUEST, reply.REQUEST_BYTES_MAX), REPLY)
    except MemoryError:
        os._exit(reply.EXIT_MEMORY)
    except BaseException:
        import traceback  # noqa: PLC0415 - needed by boxes that go wrong alone

        _say(traceback.format_exc())
        os._exit(reply.EXIT_DEFECT)
    os._exit(0)


def find(program: str) -> reply.Answer:
    """The program of this name. All of them are named here; each imports what it needs when it is loaded."""
    match program:
        case "state":
            from boxes import state  # noqa: PLC0415 - one box needs one program

            return state.answer
        case "repository":
            from boxes import repository  # noqa: PLC0415 - as above

            return repository.answer
        case "difference":
            from boxes import difference  # noqa: PLC0415 - as above

            return difference.answer
        case "worktree":
            from boxes import worktree  # noqa: PLC0415 - as above

            return worktree.answer
        case _:
            raise ValueError(f"there is no program {program!a}")


def confine(memory_bytes: int, cpu_s: int, files: int, written_bytes: int = 0) -> None:
    """Limits first, the filter last: it forbids to set either again. `written_bytes` is the longest file; 0: none."""
    for limit, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_FSIZE, written_bytes),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(limit, (most, most))
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    steps = system_calls.program(writing=written_bytes > 0)
    if steps is None:
        raise OSError(f"no system call filter for {os.uname().machine}: x86_64 and aarch64 have one")
    held = ctypes.create_string_buffer(steps, len(steps))
    header = struct.pack("HL", len(steps) // INSTRUCTION_BYTES, ctypes.addressof(held))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def _prctl(option: int, *arguments: object) -> None:
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in (*arguments, 0, 0, 0, 0)]
    if _libc.prctl(option, *words[:4]) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def _say(text: str) -> None:
    """To privd's log. What does not fit is lost: nobody reads it before we have ended."""
    try:
        os.write(sys.stderr.fileno(), text.encode("utf-8", "backslashreplace"))
    except BlockingIOError:
        return
