"""How often something may be done: token buckets as values."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Rate:
    """At most `count` at once, refilled evenly over `per_s` seconds."""

    count: int
    per_s: float


LOGIN_PER_ADDRESS: Final = Rate(5, 60)
LOGIN_IN_ALL: Final = Rate(30, 60)
CHANGES_PER_SESSION: Final = Rate(60, 60)


@dataclass(frozen=True)
class Bucket:
    """What is left, as of a moment on a clock that never goes back."""

    left: float
    at_s: float


def full(rate: Rate, now_s: float) -> Bucket:
    return Bucket(float(rate.count), now_s)


def refilled(bucket: Bucket, rate: Rate, now_s: float) -> Bucket:
    gained = max(0.0, now_s - bucket.at_s) * rate.count / rate.per_s
    return Bucket(min(float(rate.count), bucket.left + gained), now_s)


def take(bucket: Bucket, rate: Rate, now_s: float) -> tuple[Bucket, bool]:
    """One more, if one is left: the bucket afterwards, and whether it was."""
    bucket = refilled(bucket, rate, now_s)
    if bucket.left < 1:
        return bucket, False
    return Bucket(bucket.left - 1, now_s), True


def wait_s(bucket: Bucket, rate: Rate) -> float:
    """How long until one is left."""
    return max(0.0, (1 - bucket.left) * rate.per_s / rate.count)
