"""Model accounts: how they stand, and the operator's word that a limit is over."""

from brokerd.host import Host
from brokerd.store import accounts
from protocol.brokerd import ListAccounts, Marked, ResumeAccount
from protocol.limited import ModelAccount
from protocol.rpc import Caller


async def list_accounts(request: ListAccounts, caller: Caller, host: Host) -> tuple[ModelAccount, ...]:
    return await host.store.read(accounts.read_all)


async def resume_account(request: ResumeAccount, caller: Caller, host: Host) -> Marked:
    """Those whom the limit holds go on from now, one after the other."""
    return Marked(await host.accounts.resume(request.account))
