"""Wrong codes, counted for each address and in all. A code that is good is never counted and never refused for them."""

from collections import OrderedDict
from typing import Final

import trio

from webd.policy import rates

ADDRESSES_MAX: Final = 1_024
"""Addresses whose wrong codes are remembered."""


class Attempts:
    """How often somebody may still be wrong."""

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, rates.Bucket] = OrderedDict()
        self._in_all: rates.Bucket | None = None

    def count(self, address: str) -> bool:
        """One more wrong code from there; false when there have been too many."""
        now_s = trio.current_time()
        bucket = self._by_address.pop(address, None) or rates.full(rates.LOGIN_PER_ADDRESS, now_s)
        self._by_address[address], own = rates.take(bucket, rates.LOGIN_PER_ADDRESS, now_s)
        if len(self._by_address) > ADDRESSES_MAX:
            self._by_address.popitem(last=False)
        if not own:
            return False
        in_all = self._in_all or rates.full(rates.LOGIN_IN_ALL, now_s)
        self._in_all, any_left = rates.take(in_all, rates.LOGIN_IN_ALL, now_s)
        return any_left
