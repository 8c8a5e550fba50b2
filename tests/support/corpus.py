"""The bad inputs that every socket and every name has been shown: tests/corpus/bad_inputs.jsonl, one row each.

surface   `name` (an agent's name), `sha` (a commit id) or `rpc` (bytes at privd's socket, whose frames are canonical)
expect    what must come back: a problem code, `refused` for a name or an id, null when nothing may be answered
ends      whether the connection is over afterwards
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.problem import Problem
from protocol.rpc import Role

CORPUS = Path(__file__).parents[1] / "corpus" / "bad_inputs.jsonl"


@dataclass(frozen=True)
class Frame:
    """Bytes that a peer says, and the answer it must get."""

    id: str
    what: str
    role: Role
    said: bytes
    problem: Problem | None
    words: str
    ends: bool


def rows(surface: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    return [row for row in found if row["surface"] == surface]


def frames() -> list[Frame]:
    return [
        Frame(
            row["id"],
            row["what"],
            Role[row["role"].upper()],
            _said(row),
            None if row["expect"] is None else Problem(row["expect"]),
            row["words"],
            row["ends"],
        )
        for row in rows("rpc")
    ]


def _said(row: dict[str, Any]) -> bytes:
    if "hex" in row:
        return bytes.fromhex(row["hex"])
    said: str = row["say"] * row.get("times", 1) + row.get("then", "")
    return said.encode()
