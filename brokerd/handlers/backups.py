"""Backups, made at the operator's request."""

from brokerd.host import Host
from protocol.brokerd import BackedUp, Backup
from protocol.rpc import Caller


async def back_up(request: Backup, caller: Caller, host: Host) -> BackedUp:
    """Returns when it is on disk and was looked through, which takes as long as the databases are large."""
    return await host.backups.make()
