"""Root's whole authority: what may be asked, what does it, and who may ask. Nothing else in privd can be reached."""

from typing import Final

from privd.handlers import agents, approvers, cages, deployments, greeting, history, journal, proposals, state
from protocol.configuration import (
    Approve,
    CancelDeployment,
    ConfirmHealth,
    Deny,
    EnrolApprover,
    ListApprovers,
    ListDeployments,
    ListProposals,
    ListRefs,
    Propose,
    ReadBuildLog,
    ReadDiff,
    ReadFile,
    ReadLog,
    RevokeApprover,
    RollBack,
    ShowProposal,
    WatchDeployments,
    WithdrawProposal,
)
from protocol.hello import Hello
from protocol.privd import (
    DestroyCage,
    ListCages,
    ListState,
    MeasureState,
    PurgeAgent,
    ReadJournal,
    ReadState,
    RebuildCage,
    RestartCage,
    StartCage,
    StopCage,
    WatchCages,
    WatchJournal,
)
from protocol.rpc import Request, Role

OPERATOR, BROKER, EGRESS = Role.OPERATOR, Role.BROKER, Role.EGRESS

CHANGES_NOTHING: Final = frozenset[type[Request]](
    {
        Hello,
        ListCages,
        ReadJournal,
        ListState,
        ReadState,
        MeasureState,
        ListProposals,
        ShowProposal,
        ListApprovers,
        ListDeployments,
        ReadBuildLog,
        ListRefs,
        ReadLog,
        ReadDiff,
        ReadFile,
        ConfirmHealth,
    }
)
"""Beside the watches. Whatever is not named here stands in the audit log, before and after.

What comes of `ConfirmHealth` stands in the step that waits for it; a cage could make brokerd send many.
"""

ROUTES: Final = (
    Hello.answered_by(greeting.hello, callers=OPERATOR | BROKER | EGRESS),
    ListCages.answered_by(cages.list_cages, callers=OPERATOR | BROKER),
    WatchCages.answered_by(cages.watch, callers=OPERATOR | BROKER | EGRESS),
    StartCage.answered_by(cages.start, callers=OPERATOR | BROKER),
    StopCage.answered_by(cages.stop, callers=OPERATOR | BROKER),
    RestartCage.answered_by(cages.restart, callers=OPERATOR | BROKER),
    RebuildCage.answered_by(cages.rebuild, callers=OPERATOR | BROKER),
    DestroyCage.answered_by(cages.destroy, callers=OPERATOR),
    PurgeAgent.answered_by(agents.purge, callers=OPERATOR),
    ReadJournal.answered_by(journal.read, callers=OPERATOR | BROKER),
    WatchJournal.answered_by(journal.watch, callers=OPERATOR | BROKER),
    ListState.answered_by(state.list_state, callers=OPERATOR),
    ReadState.answered_by(state.read, callers=OPERATOR),
    MeasureState.answered_by(state.measure, callers=OPERATOR),
    Propose.answered_by(proposals.propose, callers=OPERATOR | BROKER),
    WithdrawProposal.answered_by(proposals.withdraw, callers=OPERATOR | BROKER),
    ListProposals.answered_by(proposals.list_proposals, callers=OPERATOR | BROKER),
    ShowProposal.answered_by(proposals.show, callers=OPERATOR),
    Approve.answered_by(proposals.approve, callers=OPERATOR),
    Deny.answered_by(proposals.deny, callers=OPERATOR),
    EnrolApprover.answered_by(approvers.enrol, callers=OPERATOR),
    RevokeApprover.answered_by(approvers.revoke, callers=OPERATOR),
    ListApprovers.answered_by(approvers.list_approvers, callers=OPERATOR),
    ListDeployments.answered_by(deployments.list_deployments, callers=OPERATOR),
    WatchDeployments.answered_by(deployments.watch, callers=OPERATOR | BROKER),
    ReadBuildLog.answered_by(deployments.read_log, callers=OPERATOR),
    CancelDeployment.answered_by(deployments.cancel, callers=OPERATOR),
    RollBack.answered_by(deployments.roll_back, callers=OPERATOR),
    ConfirmHealth.answered_by(deployments.confirm_health, callers=BROKER),
    ListRefs.answered_by(history.list_refs, callers=OPERATOR),
    ReadLog.answered_by(history.read_log, callers=OPERATOR),
    ReadDiff.answered_by(history.read_diff, callers=OPERATOR),
    ReadFile.answered_by(history.read_file, callers=OPERATOR),
)
