"""P9: a page of the history and a search, with a million messages and with ten thousand.

Ours is what brokerd runs for `ListMessages` and `SearchMessages`, each page with its deliveries, against a database of
a million messages; the reference is the same against ten thousand. Beside it stand two ways that do not keep up: a page
by OFFSET from the middle, and a search by rank.
"""

import itertools
import random
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.measure import Variant, compare, report, say
from bench.processes import on_disk
from brokerd.policy.search import search_for
from brokerd.store import behind, deliveries, history, messages, schema, search
from runtime.store import Db, StoreShape, connect

MANY = 1_000_000
FEW = 10_000
AGENTS = 100
PAGE = 50
PAGES = 40
WORDS = 20_000
BODIES = 5_000
BODY_WORDS = 42
"""About 300 bytes."""
STEP = 5_000

INSERT_MESSAGES = (
    "INSERT INTO messages (id, sender, addressed_to, broadcast, body, sent_ms, hops) "
    "VALUES (?, ?, ?, 0, ?, ?, 0)"
)
INSERT_DELIVERIES = (
    "INSERT INTO deliveries (id, recipient, state, changed_ms, bytes) VALUES (?, ?, 'done', ?, ?)"
)
SET_LAST = "INSERT INTO broker.sqlite_sequence (name, seq) VALUES ('messages', ?)"
BY_OFFSET = f"SELECT {messages.COLUMNS} FROM messages ORDER BY id DESC LIMIT ? OFFSET ?"
BY_RANK = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?"


class Vocabulary:
    """Words as often as in a language, the n-th 1/n as often as the first."""

    def __init__(self) -> None:
        dice = random.Random(9)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.words = ["".join(dice.choices(letters, k=dice.randint(3, 10))) for _ in range(WORDS)]
        often = list(itertools.accumulate(1 / (place + 1) for place in range(WORDS)))
        self.bodies = [
            " ".join(dice.choices(self.words, cum_weights=often, k=BODY_WORDS)) for _ in range(BODIES)
        ]


def filled(folder: Path, count: int, vocabulary: Vocabulary) -> Db:
    """A database of so many messages between all agents, all of them in the index."""
    began = time.monotonic()
    shape = StoreShape(folder / "events.sqlite", attached={"broker": folder / "broker.sqlite"})
    schema.migrate(shape.path, shape)
    with closing(connect(shape)) as db:
        db.execute("PRAGMA main.synchronous = OFF")
        db.execute("PRAGMA broker.synchronous = OFF")
        dice = random.Random(count)
        for first in range(1, count + 1, STEP):
            numbers = range(first, first + STEP)
            pairs = [dice.sample(range(AGENTS), 2) for _ in numbers]
            bodies = dice.choices(vocabulary.bodies, k=STEP)
            db.execute("BEGIN")
            db.executemany(
                INSERT_MESSAGES,
                [
                    (number, f"a{one:02}", f"a{two:02}", body, number)
                    for number, (one, two), body in zip(numbers, pairs, bodies, strict=True)
                ],
            )
            db.executemany(
                INSERT_DELIVERIES,
                [
                    (deliveries.id_of(number, 0), f"a{two:02}", number, len(body))
                    for number, (_, two), body in zip(numbers, pairs, bodies, strict=True)
                ],
            )
            db.execute("COMMIT")
        db.execute(SET_LAST, (count,))
        while behind.head(db) < count:
            db.execute("BEGIN")
            behind.catch_up(db, count, STEP)
            db.execute("COMMIT")
    say(f"  {count:,} messages in {time.monotonic() - began:.0f} s")
    return connect(shape, read_only=True)


class Pages:
    """Every kind of page, from every place of a history."""

    def __init__(self, db: Db, count: int, vocabulary: Vocabulary) -> None:
        self.db = db
        self.count = count
        self.common, self.other = vocabulary.words[3], vocabulary.words[11]
        self.seldom = vocabulary.words[300]

    def start(self, turn: int) -> int:
        """Where a page begins: anywhere but at the very beginning, the same places in every run."""
        return self.count - self.count * turn // (2 * PAGES)

    def everybody(self, turn: int) -> int:
        return len(messages.newest(self.db, self.start(turn), PAGE, None, None)[0])

    def one_agent(self, turn: int) -> int:
        return len(history.newest(self.db, f"a{turn:02}", self.start(turn), PAGE)[0])

    def search(self, text: str, agent: str | None, turn: int) -> int:
        wanted = search_for(text)
        assert wanted is not None
        return len(search.newest(self.db, wanted, agent, self.start(turn), PAGE)[0])

    def by_offset(self, turn: int) -> int:
        return len(self.db.execute(BY_OFFSET, (PAGE, self.count // 2)).fetchall())

    def by_rank(self, turn: int) -> int:
        return len(self.db.execute(BY_RANK, (self.common, PAGE)).fetchall())

    def figures(self) -> dict[str, float]:
        """The median of each, in microseconds."""
        works: dict[str, Callable[[int], int]] = {
            "history_us": self.everybody,
            "of_one_agent_us": self.one_agent,
            "common_word_us": partial(self.search, self.common, None),
            "seldom_word_us": partial(self.search, self.seldom, None),
            "beginning_us": partial(self.search, self.common[:2], None),
            "two_words_us": partial(self.search, f"{self.other} {self.common[:4]}", None),
            "word_of_one_agent_us": partial(self.search, self.common, "a07"),
        }
        return {name: self.median(work) for name, work in works.items()}

    def median(self, work: Callable[[int], int]) -> float:
        taken = []
        for turn in range(PAGES):
            began = time.perf_counter()
            rows = work(turn)
            taken.append((time.perf_counter() - began) * 1e6)
            if rows != PAGE:
                raise SystemExit(f"a page of {rows} rows: this compares pages of {PAGE}")
        return statistics.median(taken)

    def slow_figures(self) -> dict[str, float]:
        return {"by_offset_us": self.median(self.by_offset), "by_rank_us": self.median(self.by_rank)}


def main() -> None:
    """Measure and print."""
    vocabulary = Vocabulary()
    with on_disk() as few, on_disk() as many:
        with closing(filled(few, FEW, vocabulary)) as small, closing(filled(many, MANY, vocabulary)) as large:
            pages = {count: Pages(db, count, vocabulary) for count, db in ((MANY, large), (FEW, small))}
            variants = [
                Variant(f"{MANY:,} messages", pages[MANY].figures),
                Variant(f"{FEW:,} messages", pages[FEW].figures),
            ]
            compare(variants)
            for key in variants[0].figures[0]:
                report(f"P9 {key}", "2x", variants, key, more_is_better=False)
            apart = pages[MANY].slow_figures()
            ours = variants[0]
            for name, beside in (("by_offset_us", "history_us"), ("by_rank_us", "common_word_us")):
                ratio = apart[name] / ours.median(beside)
                print(f"  {name.removesuffix('_us').replace('_', ' '):<12} takes {ratio:,.0f}x as long")


if __name__ == "__main__":
    main()
