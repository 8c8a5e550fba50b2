"""How long to wait before trying again: exponential, bounded, spread out. Pure; the caller sleeps."""

import random
from collections.abc import Iterator


def delays(first_s: float, max_s: float, factor: float = 2.0, *, spread: float = 0.25) -> Iterator[float]:
    """Yield waits in seconds for ever: `first_s`, then times `factor` up to `max_s`, each moved by up to ±`spread`."""
    wait_s = first_s
    while True:
        yield min(max_s, wait_s * random.uniform(1 - spread, 1 + spread))  # noqa: S311  # no secret
        wait_s = min(max_s, wait_s * factor)
