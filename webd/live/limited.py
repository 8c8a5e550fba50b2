"""What holds agents back from outside, as the dashboard keeps it: accounts, the newest refusals, limits met. Pure."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from protocol.brokerd import AccountChanged, EgressRefused, LimitReached, Snapshot
from protocol.limited import EgressRefusal, LimitHit, ModelAccount
from webd.policy.text import plain
from webd.policy.topics import ACCOUNTS, LIMITS, REFUSALS

REFUSALS_KEPT_MAX: Final = 100
TEXT_CHARS_MAX: Final = 300

Told = tuple[str, str, Any]
"""What to tell of one row: its topic, its key, and None when it is shown no more."""


class Limited:
    """Rows by key: an account's name, a refusal's number, an agent and what its cage ran out of."""

    def __init__(self) -> None:
        self.accounts: dict[str, ModelAccount] = {}
        self.refusals: dict[str, EgressRefusal] = {}
        """The one that was counted last is the last."""
        self.hits: dict[str, LimitHit] = {}

    def start_from(self, snapshot: Snapshot) -> None:
        self.accounts = {account.name: account_row(account) for account in snapshot.accounts}
        self.refusals = {str(refusal.id): refusal_row(refusal) for refusal in snapshot.refusals}
        self.hits = {_place(hit): hit_row(hit) for hit in snapshot.limit_hits}

    def changed(self, told: AccountChanged | EgressRefused | LimitReached) -> list[Told]:
        match told:
            case AccountChanged(account):
                row = self.accounts[account.name] = account_row(account)
                return [(ACCOUNTS, account.name, row)]
            case EgressRefused(refusal):
                return self._refused(refusal_row(refusal))
            case LimitReached(hit):
                shown = self.hits[_place(hit)] = hit_row(hit)
                return [(LIMITS, _place(hit), shown)]

    def _refused(self, row: EgressRefusal) -> list[Told]:
        key = str(row.id)
        self.refusals.pop(key, None)
        self.refusals[key] = row
        told: list[Told] = [(REFUSALS, key, row)]
        if len(self.refusals) > REFUSALS_KEPT_MAX:
            oldest = next(iter(self.refusals))
            del self.refusals[oldest]
            told.append((REFUSALS, oldest, None))
        return told

    def forget(self, agent: str) -> list[Told]:
        """An agent is gone."""
        gone = [key for key, hit in self.hits.items() if hit.agent == agent]
        for key in gone:
            del self.hits[key]
        return [(LIMITS, key, None) for key in gone]


def account_row(account: ModelAccount) -> ModelAccount:
    windows = tuple(replace(window, name=_short(window.name)) for window in account.windows)
    return replace(account, detail=_short(account.detail), windows=windows)


def refusal_row(refusal: EgressRefusal) -> EgressRefusal:
    return replace(refusal, host=_short(refusal.host))


def refusal_rows(refusals: Iterable[EgressRefusal]) -> list[EgressRefusal]:
    return [refusal_row(refusal) for refusal in refusals]


def hit_row(hit: LimitHit) -> LimitHit:
    return replace(hit, detail=_short(hit.detail))


def _place(hit: LimitHit) -> str:
    return f"{hit.agent} {hit.resource}"


def _short(text: str) -> str:
    return plain(text, TEXT_CHARS_MAX)
