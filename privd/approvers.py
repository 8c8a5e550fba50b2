"""The keys that decide proposals: `approvers.json` in the hive's folder. Root enrols and revokes; none is forgotten."""

from pathlib import Path
from typing import Final

import msgspec

from privd import durable
from privd.policy.keys import normal
from privd.policy.proofs import check_new
from protocol.approvals import AnyKey, Approver
from protocol.problem import Problem, Refused

NAME: Final = "approvers.json"


class Approvers:
    """Who may approve. A list that cannot be read approves nothing: it is no empty list."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / NAME
        self._rows: tuple[Approver, ...] = ()
        self._fault = ""

    def load(self) -> str:
        """Read the list; what is wrong with it, if anything is."""
        try:
            content = self._place.read_bytes()
            self._rows = msgspec.json.decode(content, type=tuple[Approver, ...])
        except FileNotFoundError:
            self._rows = ()
        except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
            self._fault = f"{self._place}: {error}"
        return self._fault

    def rows(self) -> tuple[Approver, ...]:
        """Everybody who was ever enrolled, by name. Refused(failed) when the list could not be read."""
        if self._fault:
            raise Refused(
                Problem.FAILED, f"the list of keys cannot be read, so nothing is approved: {self._fault}"
            )
        return self._rows

    def entitled(self) -> tuple[Approver, ...]:
        """Those that were not revoked."""
        return tuple(each for each in self.rows() if each.revoked_ms is None)

    @property
    def is_click_enough(self) -> bool:
        """As long as no key was ever enrolled."""
        return not self._fault and not self._rows

    def enrol(self, name: str, key: AnyKey, at_ms: int) -> Approver:
        """Add a key. Refused(malformed) for what is none, Refused(conflict) for one that is there."""
        key, fingerprint = normal(key)
        check_new(key, name, fingerprint, self.rows())
        row = Approver(name, key, fingerprint, at_ms)
        self._save((*self._rows, row))
        return row

    def revoke(self, name: str, at_ms: int) -> Approver:
        """Let a key prove nothing from now on. Doing it twice is doing it once."""
        found = next((each for each in self.rows() if each.name == name), None)
        if found is None:
            raise Refused(Problem.NOT_FOUND, f"no key {name} was ever enrolled")
        if found.revoked_ms is not None:
            return found
        row = msgspec.structs.replace(found, revoked_ms=at_ms)
        self._save(tuple(row if each is found else each for each in self._rows))
        return row

    def _save(self, rows: tuple[Approver, ...]) -> None:
        rows = tuple(sorted(rows, key=lambda each: each.name))
        try:
            durable.write(self._place, msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
        except OSError as error:
            raise Refused(Problem.FAILED, f"{self._place}: {error.strerror}: nothing was changed") from error
        self._rows = rows
