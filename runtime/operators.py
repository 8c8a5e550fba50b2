"""Who is the operator at a daemon's socket: by the uid that the kernel tells, or by membership of one group."""

import grp
import pwd
from collections.abc import Collection

from protocol.rpc import Caller, Role
from runtime.listening import Admit
from runtime.sockets import Ownership


def operators(uids: Collection[int], gid: int | None) -> Admit:
    """Admit root, the listed uids, and members of group `gid`."""

    def admit(uid: int) -> Caller | None:
        if uid == 0 or uid in uids or (gid is not None and is_member(uid, gid)):
            return Caller(Role.OPERATOR, uid)
        return None

    return admit


def operator_socket(gid: int | None) -> Ownership:
    """With a group, the kernel lets only its members connect; without one it lets everybody, and the uid decides."""
    return Ownership(0o666) if gid is None else Ownership(0o660, gid=gid)


def is_member(uid: int, gid: int) -> bool:
    """Whether a user belongs to a group; a uid without a name belongs to none."""
    try:
        user = pwd.getpwuid(uid)
        return user.pw_gid == gid or user.pw_name in grp.getgrgid(gid).gr_mem
    except KeyError:
        return False
