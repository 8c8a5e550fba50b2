"""What is known of an account from moment to moment: limits that come, are probed, end by themselves or are lifted."""

import pytest
import trio
import trio.testing

from egressd.accounts import PROBE_S, Accounts, Live
from egressd.policy.head import Headers
from protocol.egressd import Account, AccountChanged

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

BEGAN_MS = 1_795_280_000_000
HOUR: Headers = ((b"retry-after", b"3600"),)
BODY = b'{"type":"error","error":{"type":"rate_limit_error","message":"Too much"}}'


class Kept:
    """Accounts on a clock of the loop's own, and what watchers would hear."""

    def __init__(self) -> None:
        self.events: list[AccountChanged] = []
        self.accounts = Accounts(("default", "other"), self.events.append, self.now_ms)

    @staticmethod
    def now_ms() -> int:
        return BEGAN_MS + round(trio.current_time() * 1000)

    @property
    def live(self) -> Live:
        return self.accounts["default"]

    def told(self) -> list[tuple[str, bool, str]]:
        found = [
            (each.account.name, each.account.limited_until_ms is not None, each.account.detail)
            for each in self.events
        ]
        self.events.clear()
        return found


async def test_at_first_nothing_is_known() -> None:
    assert Kept().accounts.rows() == (Account("default"), Account("other"))


async def test_a_limit_is_told_once_and_holds_back_all_but_a_probe() -> None:
    kept = Kept()
    for _ in range(3):
        kept.live.refused(429, HOUR, BODY)
        await trio.sleep(0.5)
    assert kept.told() == [("default", True, "Too much")]
    assert kept.live.held_back_s() == 3599
    await trio.sleep(PROBE_S + 1)
    assert [kept.live.held_back_s() > 0 for _ in range(3)] == [False, True, True]
    assert kept.accounts["other"].held_back_s() == 0


async def test_a_limit_ends_by_itself() -> None:
    kept = Kept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.accounts.serve)
        kept.live.refused(429, HOUR, BODY)
        kept.events.clear()
        await trio.sleep(3599)
        assert kept.told() == []
        await trio.sleep(2)
        assert kept.told() == [("default", False, "")]
        assert kept.live.held_back_s() == 0
        nursery.cancel_scope.cancel()


async def test_a_later_limit_puts_the_end_off() -> None:
    kept = Kept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.accounts.serve)
        kept.live.refused(429, HOUR, BODY)
        await trio.sleep(1800)
        kept.live.refused(429, HOUR, BODY)
        kept.events.clear()
        await trio.sleep(3500)
        assert kept.told() == []
        await trio.sleep(200)
        assert kept.told() == [("default", False, "")]
        nursery.cancel_scope.cancel()


async def test_only_a_success_that_was_asked_after_a_limit_lifts_it() -> None:
    kept = Kept()
    before_s = trio.current_time()
    await trio.sleep(1)
    kept.live.refused(429, HOUR, BODY)
    kept.events.clear()
    kept.live.heard(200, (), before_s)
    assert kept.told() == []
    kept.live.heard(500, (), trio.current_time())
    assert kept.told() == []
    kept.live.heard(200, (), trio.current_time())
    assert kept.told() == [("default", False, "")]


async def test_a_key_that_the_api_does_not_take_is_shown_until_it_does() -> None:
    kept = Kept()
    said = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
    kept.live.refused(401, (), said)
    assert kept.told() == [("default", False, "invalid x-api-key")]
    kept.live.heard(200, (), trio.current_time())
    assert kept.told() == [("default", False, "")]


async def test_windows_are_told_as_they_fill() -> None:
    kept = Kept()
    for used in ("0.11", "0.12", "0.19", "0.2", "0.2"):
        kept.live.heard(200, ((b"anthropic-ratelimit-unified-5h-utilization", used.encode()),), 0)
    windows = [event.account.windows[0].used_permille for event in kept.events]
    assert windows == [110, 200]
    assert kept.live.known.seen_ms == BEGAN_MS
