"""Comparing in one run: variants take turns, are repeated, and what counts are ratios of medians with their spread.

A table is a list of variants; the first is ours, each other one a reference. `compare` runs them interleaved and in a
new order each time, `report` prints the ratios and adds them to bench/results/<date>.json.
"""

import datetime as dt
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
BUILT: Final = CHECKOUT / ".hive" / "bench"
RESULTS: Final = CHECKOUT / "bench" / "results"
REPEATS: Final = int(os.environ.get("BENCH_REPEATS", "5"))
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "2"))
PAYLOAD: Final = "x" * 300
"""What every message carries."""
IDLE_LOAD_MAX: Final = 0.4
IDLE_WAIT_S: Final = float(os.environ.get("BENCH_IDLE_WAIT_S", "20"))


@dataclass
class Variant:
    """One way to do the work. `run` does it once and returns its figures; `key` names the one that is compared."""

    name: str
    run: Callable[[], dict[str, float]]
    figures: list[dict[str, float]] = field(default_factory=list)

    def values(self, key: str) -> list[float]:
        return [one[key] for one in self.figures]

    def median(self, key: str) -> float:
        return statistics.median(self.values(key))


def compare(variants: list[Variant], repeats: int = REPEATS) -> None:
    """Fill every variant's figures: all of them once, in random order, then all of them again."""
    for round_ in range(repeats):
        for variant in random.sample(variants, len(variants)):
            wait_for_idle()
            variant.figures.append(variant.run())
            say(f"  {round_ + 1}/{repeats}  {variant.name:<28} {short(variant.figures[-1])}")


def report(table: str, goal: str, variants: list[Variant], key: str, *, more_is_better: bool = True) -> None:
    """Print ours against each reference, and keep it."""
    ours, references = variants[0], variants[1:]
    unit = key.replace("_", " ")
    print(f"\n{table}: {unit}   (goal: {goal})")
    print(f"  {ours.name:<34} {ours.median(key):>12,.1f}   spread {spread(ours.values(key))}")
    ratios: dict[str, dict[str, float]] = {}
    for reference in references:
        pairs = [mine / its for mine, its in zip(ours.values(key), reference.values(key), strict=True)]
        ratios[reference.name] = {"median": statistics.median(pairs), "least": min(pairs), "most": max(pairs)}
        found = ratios[reference.name]
        print(
            f"  {reference.name:<34} {reference.median(key):>12,.1f}   ours is {found['median']:.2f}x of it "
            f"({found['least']:.2f} to {found['most']:.2f})"
        )
    keep(table, {"goal": goal, "key": key, "more_is_better": more_is_better, "ratios": ratios}, variants)


def keep(table: str, verdict: dict[str, Any], variants: list[Variant]) -> None:
    """Add a table to today's file."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    path = RESULTS / f"{now:%Y-%m-%d}.json"
    known = json.loads(path.read_text()) if path.exists() else []
    known.append(
        {
            "at": now.isoformat(timespec="seconds"),
            "table": table,
            **verdict,
            "repeats": len(variants[0].figures),
            "figures": {variant.name: variant.figures for variant in variants},
            "machine": {
                "cores": os.cpu_count(),
                "kernel": platform.release(),
                "python": sys.version.split()[0],
            },
        }
    )
    path.write_text(json.dumps(known, indent=1) + "\n")


def wait_for_idle() -> None:
    """Give another's work on this machine a moment to end; a busy one is measured all the same, and said."""
    until = time.monotonic() + IDLE_WAIT_S
    while busy_share() > IDLE_LOAD_MAX:
        if time.monotonic() > until:
            say("  (the machine is busy with something else)")
            return


def busy_share(over_s: float = 0.2) -> float:
    """Which part of all cores was at work just now."""
    before = cpu_times()
    time.sleep(over_s)
    after = cpu_times()
    whole = sum(after) - sum(before)
    return 1 - (after[3] + after[4] - before[3] - before[4]) / whole if whole else 0.0


def cpu_times() -> list[int]:
    return [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def spread(values: list[float]) -> str:
    return f"{min(values):,.1f} to {max(values):,.1f}"


def short(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:,.1f}" for name, value in figures.items())


def say(text: str) -> None:
    print(text, file=sys.stderr)
