"""Accounts, refusals and limits of cages as people read them."""

import pytest

from hivectl import limited
from hivectl.limited import WHY
from protocol.brokerd import EgressPage
from protocol.egressd import AccountWindow, Refusal
from protocol.limited import EgressRefusal, LimitHit, ModelAccount
from protocol.privd import Resource
from runtime.clock import now_ms


def refusal(host: str = "example.org", times: int = 1, why: Refusal = Refusal.NOT_ALLOWED) -> EgressRefusal:
    now = now_ms()
    return EgressRefusal(7, "iris", why, host, 443 if host else 0, times, now - 90_000, now - 61_000)


def test_accounts_say_how_they_stand_and_what_can_be_done() -> None:
    windows = (
        AccountWindow("tokens", 80_000, 20, 999, 0),
        AccountWindow("5h", used_permille=714),
        AccountWindow("odd\x1b[2J"),
    )
    rows = (
        ModelAccount("calm", seen_ms=now_ms() - 5_000, windows=windows),
        ModelAccount("night", limited_until_ms=1, detail="slow\ndown", held=("hm1nd", "iris")),
        ModelAccount("going", held=("iris",)),
        ModelAccount("unseen"),
    )
    lines = limited.accounts(rows).splitlines()
    assert lines[0] == "account calm: not limited, seen 5s ago"
    assert lines[1].startswith("      tokens: 20 left of 80000, 99.9 % used, anew at ")
    assert lines[2] == "      5h: 71.4 % used"
    assert lines[3] == "      odd\\x1b[2J: nothing more is told"
    assert lines[4].startswith("account night: limited until ")
    assert lines[4].endswith("; held: hm1nd, iris")
    assert lines[5:7] == ["      slow down", "      resume-account night   takes the limit for over"]
    assert lines[7] == "account going: goes on, one agent after the other; held: iris"
    assert lines[8] == "account unseen: not limited, not seen by egressd"
    assert limited.accounts(()).startswith("nothing is known of any model account")


def test_refusals_stand_in_a_table_that_leads_on() -> None:
    page = EgressPage((refusal(times=3), refusal("", why=Refusal.VOLUME), refusal("ex\u202eample")), before=7)
    head, first, second, third, older = limited.refusals(page).splitlines()
    assert head.split() == ["AGENT", "LAST", "TIMES", "DESTINATION", "WHY"]
    assert first.split(maxsplit=5) == ["iris", "1m", "ago", "3", "example.org:443", WHY[Refusal.NOT_ALLOWED]]
    assert "(many)" in second
    assert "ex\\u202eample:443" in third
    assert older == "(older: --before 7)"
    assert limited.refusals(EgressPage((), None)) == "nobody was turned away"


@pytest.mark.parametrize("why", list(Refusal))
def test_every_reason_has_words(why: Refusal) -> None:
    assert limited.refusal_line(refusal(times=2, why=why)) == (
        f"iris may not connect to example.org:443: {WHY[why]}, 2 times"
    )


def test_a_limit_as_an_event() -> None:
    hit = LimitHit("iris", Resource.MEMORY, 3, 1, 2, "a process was ended\x1b[2J")
    assert limited.hit_line(hit) == "iris met a limit: a process was ended\\x1b[2J (3 times)"
