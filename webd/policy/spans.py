"""Since when: a moment in ms, or a span back from now, as it stands in an address."""

import re
from typing import Final

_SPAN: Final = re.compile(r"\A([1-9][0-9]{0,5})([smhd])\Z")
_MOMENT: Final = re.compile(r"\A[0-9]{1,15}\Z")
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def since(text: str, now_ms: int) -> int | None:
    """`6h` or `1732200000000` as a moment in ms, never one to come; None when it is neither."""
    if _MOMENT.match(text):
        return min(int(text), now_ms)
    span = _SPAN.match(text)
    return None if span is None else max(0, now_ms - int(span[1]) * _UNITS_MS[span[2]])
