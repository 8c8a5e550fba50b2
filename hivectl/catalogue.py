"""Every request that the operator can make from the command line: the name people type, and the daemon that answers.

Arguments come from the request's fields, help from its docstring, so that adding a request here is one line.
What a field is for is said in ABOUT, unless its type says so.
What is made of several requests (`up`, `status`, `tail`, `doctor`) has a module of its own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hivectl import approvers, files, history, limited, proposals, questions, reminders, statistics, tables
from protocol.brokerd import (
    Backup,
    ChooseModel,
    CloseThread,
    EditReminder,
    FireReminder,
    ListAccounts,
    ListEgress,
    ListMessages,
    ListQuestions,
    MarkRead,
    PauseAgent,
    ReadStatistics,
    ReadTail,
    ReleaseThread,
    ResumeAccount,
    ResumeAgent,
    RetryDelivery,
    SearchMessages,
    StopTurn,
    WakeParked,
)
from protocol.configuration import (
    CancelDeployment,
    Deny,
    ListApprovers,
    ListDeployments,
    ListProposals,
    ListRefs,
    Propose,
    ReadDiff,
    ReadFile,
    ReadLog,
    RevokeApprover,
    RollBack,
    WithdrawProposal,
)
from protocol.privd import (
    DestroyCage,
    ListCages,
    ListState,
    PurgeAgent,
    RebuildCage,
    RestartCage,
    StartCage,
    StopCage,
)
from protocol.rpc import Call
from protocol.tools import Answer, CancelReminder, ListReminders, Remind, RollUpReminders, Send


@dataclass(frozen=True)
class Command:
    """One sub-command that is one request.

    `confirm` says what it is about to do, and makes it ask first; `retyped` names a field that repeats the agent's
    name, which is then asked for; `slow` shows that it is at work; `plain` are optional fields that need no flag.
    """

    name: str
    request: type[Call[Any]]
    daemon: str
    show: Callable[[Any], str]
    confirm: str | None = None
    retyped: str | None = None
    slow: bool = False
    supplied: frozenset[str] = field(default_factory=frozenset)
    said: str | None = None
    """What it does, where the request's own words are for an agent."""
    plain: frozenset[str] = field(default_factory=frozenset)
    pick: Callable[[Any], Any] = lambda reply: reply
    """What of the reply it is about."""

    @property
    def summary(self) -> str:
        """What it does: the first clause of the request's docstring."""
        if self.said is not None:
            return self.said
        clause = re.split(r"[.;:](?:\s|$)", (self.request.__doc__ or "").strip())[0]
        return " ".join((clause[:1].lower() + clause[1:]).split())


DESTROYS = "destroys the cage of {agent}; its notes and credentials are kept"
CLOSES = "gives up what thread {thread} holds; `retry` brings single deliveries back"
REMINDS = "have a message sent to an agent later: --agent, and one of --in-s, --at, --every-s and --cron"
REVOKES = "lets the key {name} decide nothing any more, for good; without another key nothing can be approved"
ROLLS_BACK = "deploys generation {generation} of {agent} again"
PURGES = "deletes for good everything that {agent} left behind"

ABOUT = {
    "account": "its name, as `accounts` shows it",
    "after": "only what comes after this one",
    "answer": "in words",
    "choices": "what is chosen of the options",
    "open": "only open ones (unless told otherwise)",
    "question": "its number",
    "always": "forget the command that says whether a turn is worth it",
    "commit": "40 digits, as git shows them",
    "description": "why",
    "generation": "its number, as `deployments` shows it",
    "name": "the key's name, as `approvers` shows it",
    "number": "its number, as `proposals` and `deployments` show it",
    "reason": "why; whoever asked is told",
    "template": "without a commit: the role template that it begins with",
    "before": "only what is older than this number",
    "delivery": "its number, as `messages` shows it beside what is dead",
    "cron": "minute, hour, day, month and weekday, in five fields",
    "ended": "those that are over, too",
    "every_s": "again and again after so many seconds",
    "graceful": "whether the running turn may end first (it may, unless told otherwise)",
    "in_reply_to": "number of the message that this answers",
    "in_s": "once, so many seconds from now",
    "limit": "at most so many",
    "messages": "their numbers",
    "model": "the model, as the runner names it",
    "only_if": "a shell command, run in the cage first: when it fails, no turn is spent",
    "reminder": "its number",
    "runner": "what drives its turns (unless told: what the hive's settings say)",
    "since_ms": "from this time on, in milliseconds since 1970 (unless told: a day ago)",
    "since_s": "so many seconds back",
    "text": "the words",
    "thread": "a thread, by the number of its first message",
}

CATALOGUE = (
    Command("cages", ListCages, "privd", tables.cages),
    Command("start", StartCage, "privd", tables.cage, slow=True),
    Command("stop", StopCage, "privd", tables.cage, slow=True, supplied=frozenset({"until_next_start"})),
    Command("restart", RestartCage, "privd", tables.cage, slow=True),
    Command("rebuild", RebuildCage, "privd", tables.cage, slow=True),
    Command("destroy", DestroyCage, "privd", tables.cage, confirm=DESTROYS, slow=True),
    Command(
        "purge",
        PurgeAgent,
        "privd",
        tables.done,
        confirm=PURGES,
        retyped="confirm",
        slow=True,
        supplied=frozenset({"confirm"}),
    ),
    Command(
        "files",
        ListState,
        "privd",
        files.files,
        plain=frozenset({"path"}),
        said="list a folder of an agent's own files; kept ones too",
    ),
    Command("proposals", ListProposals, "privd", proposals.proposals, plain=frozenset({"agent"})),
    Command(
        "propose",
        Propose,
        "privd",
        proposals.proposal,
        said="propose an agent's configuration: a commit of it, or a template for a new agent",
    ),
    Command(
        "deny", Deny, "privd", proposals.proposal, said="decide against a proposal; whoever asked is told why"
    ),
    Command("withdraw", WithdrawProposal, "privd", proposals.proposal),
    Command(
        "drafts",
        ListCages,
        "privd",
        proposals.drafts,
        said="agents that have a configuration and no cage yet",
        pick=proposals.only_drafts,
    ),
    Command("deployments", ListDeployments, "privd", proposals.deployments, plain=frozenset({"agent"})),
    Command("cancel-deployment", CancelDeployment, "privd", proposals.deployment),
    Command("rollback", RollBack, "privd", proposals.begun, confirm=ROLLS_BACK),
    Command("approvers", ListApprovers, "privd", approvers.approvers, said="keys that decide proposals"),
    Command("revoke", RevokeApprover, "privd", approvers.approver, confirm=REVOKES),
    Command("refs", ListRefs, "privd", history.refs, plain=frozenset({"agent"})),
    Command("history", ReadLog, "privd", history.commits, plain=frozenset({"agent"})),
    Command("diff", ReadDiff, "privd", proposals.files_diff),
    Command("config-file", ReadFile, "privd", history.content),
    Command("send", Send, "brokerd", tables.sent),
    Command("messages", ListMessages, "brokerd", tables.messages),
    Command("search", SearchMessages, "brokerd", tables.messages),
    Command("read", MarkRead, "brokerd", tables.done),
    Command("questions", ListQuestions, "brokerd", questions.questions),
    Command("answer", Answer, "brokerd", questions.question, plain=frozenset({"answer"})),
    Command("remind", Remind, "brokerd", reminders.reminder, said=REMINDS),
    Command("reminders", ListReminders, "brokerd", reminders.reminders, said="reminders, the next one first"),
    Command("edit-reminder", EditReminder, "brokerd", reminders.reminder),
    Command("fire", FireReminder, "brokerd", reminders.reminder),
    Command("cancel-reminder", CancelReminder, "brokerd", reminders.reminder),
    Command(
        "reminder-rollup", RollUpReminders, "brokerd", reminders.rollup, said="how reminders went lately"
    ),
    Command("stats", ReadStatistics, "brokerd", statistics.statistics),
    Command("turns", ReadTail, "brokerd", tables.turns),
    Command("cancel", StopTurn, "brokerd", tables.done),
    Command("unpark", WakeParked, "brokerd", tables.done),
    Command("pause", PauseAgent, "brokerd", tables.done),
    Command("resume", ResumeAgent, "brokerd", tables.done),
    Command("model", ChooseModel, "brokerd", tables.done, plain=frozenset({"model"})),
    Command("accounts", ListAccounts, "brokerd", limited.accounts, said="model accounts and their limits"),
    Command("resume-account", ResumeAccount, "brokerd", tables.done),
    Command(
        "egress",
        ListEgress,
        "brokerd",
        limited.refusals,
        said="who was turned away on the way out, newest first",
        plain=frozenset({"agent"}),
    ),
    Command("retry", RetryDelivery, "brokerd", tables.done),
    Command("release", ReleaseThread, "brokerd", tables.done),
    Command("close-thread", CloseThread, "brokerd", tables.done, confirm=CLOSES),
    Command("backup", Backup, "brokerd", tables.backed_up, slow=True),
)
