"""Keys that decide proposals: enrol, revoke, list. Only root changes who decides, whoever the socket admits."""

import os

from privd.handlers.deployments import now
from privd.host import Host
from protocol.approvals import Approver
from protocol.configuration import EnrolApprover, ListApprovers, RevokeApprover
from protocol.problem import Problem, Refused
from protocol.rpc import Caller
from runtime.clock import now_ms


async def enrol(request: EnrolApprover, caller: Caller, host: Host) -> Approver:
    _check_root(caller)
    row = host.approvers.enrol(request.name, request.key, now_ms())
    host.log.warning("enrolled a key", name=row.name, fingerprint=row.fingerprint)
    host.decisions.publish(now(host))
    return row


async def revoke(request: RevokeApprover, caller: Caller, host: Host) -> Approver:
    _check_root(caller)
    row = host.approvers.revoke(request.name, now_ms())
    host.log.warning("revoked a key", name=row.name, fingerprint=row.fingerprint)
    host.decisions.publish(now(host))
    return row


async def list_approvers(request: ListApprovers, caller: Caller, host: Host) -> tuple[Approver, ...]:
    return host.approvers.rows()


def _check_root(caller: Caller) -> None:
    if caller.uid != os.geteuid():
        raise Refused(
            Problem.DENIED,
            "only root says whose keys decide, or the hive's own user where it has no root: "
            "do it on the machine itself",
        )
