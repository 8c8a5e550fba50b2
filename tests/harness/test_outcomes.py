"""Every recorded transcript of the real CLI, with the outcome that it must lead to."""

import pytest

from harness.claude.reader import Reader
from harness.policy.outcomes import Facts, Stop, Verdict, classify
from protocol.turns import Outcome
from tests.harness.recorded import lines_of, names

ENDS_BY_ITSELF: dict[str, tuple[Outcome, int | None]] = {
    "err-400long": (Outcome.CONTEXT_FULL, None),
    "err-401": (Outcome.AUTH, None),
    "err-403": (Outcome.AUTH, None),
    "err-404": (Outcome.CRASHED, None),  # a model that does not exist: no waiting mends it
    "err-413": (Outcome.CONTEXT_FULL, None),
    "err-429noretry": (Outcome.RATE_LIMITED, None),
    "err-429ra7200": (Outcome.RATE_LIMITED, None),
    "err-429rl": (Outcome.RATE_LIMITED, None),
    "err-429sub": (Outcome.RATE_LIMITED, 1795186401000),
    "err-429uni5h": (Outcome.RATE_LIMITED, None),
    "err-429uni7d": (Outcome.RATE_LIMITED, 1795186403000),
    "err-429x1ra": (Outcome.DONE, None),
    "err-500": (Outcome.OVERLOADED, None),
    "err-500full": (Outcome.OVERLOADED, None),
    "err-500x2": (Outcome.DONE, None),
    "err-529": (Outcome.OVERLOADED, None),
    "err-529full": (Outcome.OVERLOADED, None),
    "err-529nr": (Outcome.OVERLOADED, None),
    "err-credit": (Outcome.BILLING, None),
    "err-drop": (Outcome.OVERLOADED, None),
    "err-midfail": (Outcome.OVERLOADED, None),
    "err-oa-401": (Outcome.AUTH, None),
    "err-oa-429sub": (Outcome.RATE_LIMITED, 1795186443000),
    "err-oa-429uni5h": (Outcome.RATE_LIMITED, 1795186444000),
    "err-oa-429uni7d": (Outcome.RATE_LIMITED, 1795186445000),
    "err-oa-ok": (Outcome.DONE, None),
    "err-oa-warn": (Outcome.DONE, None),
    "err-refused": (Outcome.OVERLOADED, None),
    "flag-accept": (Outcome.DONE, None),
    "flag-agents": (Outcome.DONE, None),
    "flag-allowall": (Outcome.DONE, None),
    "flag-asp": (Outcome.DONE, None),
    "flag-aspf": (Outcome.DONE, None),
    "flag-auto": (Outcome.DONE, None),
    "flag-budget": (Outcome.BUDGET, None),
    "flag-dontask": (Outcome.DONE, None),
    "flag-dsp-sandbox": (Outcome.DONE, None),
    "flag-maxturns": (Outcome.MAX_TURNS, None),
    "flag-model": (Outcome.DONE, None),
    "flag-noprompts": (Outcome.DONE, None),
    "flag-readonly": (Outcome.DONE, None),
    "flag-spf": (Outcome.DONE, None),
    "flag-tools": (Outcome.DONE, None),
    "flag-tools2": (Outcome.DONE, None),
    "mcp-http": (Outcome.DONE, None),
    "mcp-sse": (Outcome.DONE, None),
    "mcp-unix1": (Outcome.CRASHED, None),  # came up without the hive's tools
    "mcp-unix2": (Outcome.CRASHED, None),
    "mcp-unix3": (Outcome.CRASHED, None),
    "mcp-ws": (Outcome.CRASHED, None),
    "ok-hooks-partial": (Outcome.DONE, None),
    "ok-parallel": (Outcome.DONE, None),
    "ok-think": (Outcome.DONE, None),
    "ok-tool": (Outcome.DONE, None),
    "ok-tool-2.1.197": (Outcome.DONE, None),
    "sig-hup-stream": (Outcome.CRASHED, None),  # a signal that nobody of us sent
    "sig-int-bash": (Outcome.CRASHED, None),
    "sig-int-stream": (Outcome.CRASHED, None),
    "sig-int-tool": (Outcome.CRASHED, None),
    "sig-kill-tool": (Outcome.CRASHED, None),
    "sig-kill9-tool": (Outcome.CRASHED, None),
    "sig-term-bash": (Outcome.CRASHED, None),
    "sig-term-stream": (Outcome.CRASHED, None),
    "sig-term-tool": (Outcome.CRASHED, None),
    "tmo-cfgtimeout": (Outcome.DONE, None),
    "tmo-http180": (Outcome.DONE, None),
    "tmo-http420": (Outcome.DONE, None),
    "tmo-slow": (Outcome.DONE, None),
    "tmo-slow2": (Outcome.DONE, None),
    "tmo-slow50": (Outcome.DONE, None),
    "tmo-slow50t": (Outcome.DONE, None),
    "tmo-sse180": (Outcome.DONE, None),
    "tmo-stdio180": (Outcome.DONE, None),
    "tmo-stdio180prog": (Outcome.DONE, None),
    "tmo-stdio420": (Outcome.DONE, None),
    "tmo-stdio420noab": (Outcome.DONE, None),
    "tmo-tt5": (Outcome.DONE, None),
    "tmo-tt5prog": (Outcome.DONE, None),
}

BY_STOP = {
    Stop.OPERATOR: Outcome.CANCELLED,
    Stop.SHUTDOWN: Outcome.INTERRUPTED,
    Stop.DEADLINE: Outcome.TIMEOUT,
    Stop.LEASE_LOST: Outcome.INTERRUPTED,
    Stop.NO_TOOLS: Outcome.CRASHED,
}
STOPPED = [name for name in ENDS_BY_ITSELF if name.startswith("sig-")]


def verdict(name: str, stopped: Stop | None = None) -> Verdict:
    reader = Reader(now_ms=lambda: 0)
    for line in lines_of(name):
        reader.feed(line)
    return classify(reader.facts(exit_code=1, stopped=stopped, stderr_tail=""))


def test_no_transcript_is_left_out() -> None:
    assert set(names()) == set(ENDS_BY_ITSELF)


@pytest.mark.parametrize("name", ENDS_BY_ITSELF)
def test_transcript(name: str) -> None:
    seen = verdict(name)
    assert (seen.outcome, seen.until_ms) == ENDS_BY_ITSELF[name]
    assert (seen.detail == "") == (seen.outcome is Outcome.DONE)
    assert not seen.conversation_unknown


@pytest.mark.parametrize("stop", Stop)
@pytest.mark.parametrize("name", STOPPED)
def test_who_asked_for_the_end_names_it(name: str, stop: Stop) -> None:
    assert verdict(name, stop).outcome is BY_STOP[stop]


@pytest.mark.parametrize("stop", Stop)
def test_a_turn_that_was_done_before_the_signal_took_is_done(stop: Stop) -> None:
    assert verdict("ok-tool", stop).outcome is Outcome.DONE


def test_a_limit_that_was_hit_just_before_a_stop_stays_a_limit() -> None:
    assert verdict("err-oa-429uni5h", Stop.OPERATOR).outcome is Outcome.RATE_LIMITED


def test_an_unknown_conversation_is_said() -> None:
    facts = Facts(
        exit_code=1,
        has_result=True,
        is_error=True,
        subtype="error_during_execution",
        errors=("No conversation found with session ID: 00000000-0000-4000-8000-000000000000",),
    )
    assert classify(facts).conversation_unknown
    assert classify(facts).outcome is Outcome.CRASHED


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.CRASHED),
        (401, Outcome.AUTH),
        (403, Outcome.AUTH),
        (429, Outcome.RATE_LIMITED),
        (500, Outcome.OVERLOADED),
        (529, Outcome.OVERLOADED),
    ],
)
def test_without_the_clis_own_word_the_status_decides(status: int, outcome: Outcome) -> None:
    assert classify(Facts(1, has_result=True, is_error=True, api_status=status)).outcome is outcome


@pytest.mark.parametrize(
    ("code", "words"),
    [(None, "did not start"), (-9, "ended by signal 9"), (3, "ended with code 3")],
)
def test_a_crash_says_how_the_process_went_and_what_it_wrote(code: int | None, words: str) -> None:
    seen = classify(Facts(exit_code=code, stderr_tail="x" * 5_000 + "bad flag\n"))
    assert seen.outcome is Outcome.CRASHED
    assert words in seen.detail
    assert seen.detail.endswith("bad flag")
    assert len(seen.detail) < 1_000


@pytest.mark.parametrize("resets_s", [-1, 2**53, 10**30])
def test_an_end_of_a_limit_that_no_clock_shows_is_not_passed_on(resets_s: int) -> None:
    facts = Facts(1, has_result=True, is_error=True, api_error="rate_limit", limit_resets_s=resets_s)
    verdict = classify(facts)
    assert (verdict.outcome, verdict.until_ms) == (Outcome.RATE_LIMITED, None)
