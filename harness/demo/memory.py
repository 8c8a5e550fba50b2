"""What the demo agent keeps between turns: whom it owes an answer, and the notes. One small JSON file in its state."""

import json
import os
from pathlib import Path
from typing import Final

from harness.demo.mind import Debt

FILE: Final = "demo.json"
DEBTS_MAX: Final = 200
"""Beyond it the oldest question is forgotten."""


class Memory:
    """The memory in one folder. A file that cannot be read is an error of the turn, not an empty memory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._notes = folder / "notes.md"
        self.debts = self._read()

    def owe(self, sent: int, debt: Debt) -> None:
        self.debts[sent] = debt
        while len(self.debts) > DEBTS_MAX:
            del self.debts[min(self.debts)]
        self._write()

    def settle(self, sent: int) -> None:
        self.debts.pop(sent, None)
        self._write()

    def note(self, text: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(f"- {' '.join(text.split())}\n")

    def _read(self) -> dict[int, Debt]:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {int(sent): Debt(str(asker), int(message)) for sent, (asker, message) in kept["debts"].items()}

    def _write(self) -> None:
        kept = {"debts": {sent: (debt.asker, debt.message) for sent, debt in self.debts.items()}}
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)
