"""Opening what lies below a folder: the kernel refuses every link, every way up and every other file system.

A check of the path before the opening would be raced by whoever owns the folder; here the opening is the check.
It needs Linux 5.6.
"""

import ctypes
import os
import struct
from typing import Final

OPENAT2: Final = 437
"""The same number on every architecture."""
NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH = 0x01, 0x02, 0x04, 0x08
HOW: Final = struct.Struct("QQQ")

_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(folder: int, path: bytes, flags: int = os.O_RDONLY) -> int:
    """Open `path` below the folder, never blocking. OSError: ELOOP for a link, EXDEV for a way out."""
    if not flags & os.O_PATH:  # which opens nothing, and takes none of these
        flags |= os.O_NONBLOCK | os.O_NOCTTY
    how = HOW.pack(flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0, BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV)
    opened: int = _libc.syscall(OPENAT2, folder, path, how, ctypes.c_size_t(len(how)))
    if opened < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return opened
