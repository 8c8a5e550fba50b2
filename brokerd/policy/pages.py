"""How much fits into one reply: pages are bounded in bytes as well as in rows."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()


def fitting(items: Iterable[T], bytes_max: int) -> Iterator[T]:
    """Items in order until the next would pass `bytes_max` as JSON; the first always, so that reading gets on."""
    left = bytes_max
    for place, item in enumerate(items):
        left -= len(_encoder.encode(item)) + 1
        if left < 0 and place:
            return
        yield item
