"""What the demo agent keeps between turns: whom it owes what, its notes and its profile, as files in its state."""

import json
import os
from pathlib import Path
from typing import Final

from harness.demo.actions import Debt
from harness.look import PROFILE_NAME

FILE: Final = "demo.json"
DEBTS_MAX: Final = 200
"""Beyond it the oldest is forgotten."""
PROFILE: Final = "pronouns: it/its\n\n{name} is a demo agent: no model is behind it.\n"


class Memory:
    """The memory in one folder. A file that cannot be read is an error of the turn, not an empty memory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._notes = folder / "notes.md"
        self._profile = folder / PROFILE_NAME
        self.debts = self._read()

    def owe(self, what: str, debt: Debt) -> None:
        self.debts[what] = debt
        while len(self.debts) > DEBTS_MAX:
            del self.debts[next(iter(self.debts))]
        self._write()

    def settle(self, what: str) -> None:
        self.debts.pop(what, None)
        self._write()

    def introduce(self, name: str) -> None:
        """Write a profile at the first turn ever, as every agent does."""
        try:
            with self._profile.open("x", encoding="utf-8") as file:
                file.write(PROFILE.format(name=name))
        except FileExistsError:
            return

    def note(self, text: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(f"- {' '.join(text.split())}\n")

    def _read(self) -> dict[str, Debt]:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {what: Debt(str(asker), int(message)) for what, (asker, message) in kept["debts"].items()}

    def _write(self) -> None:
        kept = {"debts": {what: (debt.asker, debt.message) for what, debt in self.debts.items()}}
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)
