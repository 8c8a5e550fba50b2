"""What a message's text may be. Bytes are counted, not characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.policy.bodies import check_body
from protocol.limits import BODY_BYTES_MAX
from protocol.problem import Problem, Refused


@pytest.mark.parametrize(
    "body", ["x", " ", "\n", "/clear", "x" * BODY_BYTES_MAX, "€" * (BODY_BYTES_MAX // 3)]
)
def test_ordinary_texts_pass(body: str) -> None:
    check_body(body)


@pytest.mark.parametrize(
    ("body", "problem", "words"),
    [
        ("", Problem.MALFORMED, "empty"),
        ("a\0b", Problem.MALFORMED, "NUL"),
        ("x" * (BODY_BYTES_MAX + 1), Problem.LIMIT, f"the body has {BODY_BYTES_MAX + 1} bytes"),
        (
            "€" * 30_000,
            Problem.LIMIT,
            "the body has 90000 bytes, at most 65536 are allowed: put it into a file under /shared",
        ),
    ],
)
def test_others_are_refused_with_the_reason(body: str, problem: Problem, words: str) -> None:
    with pytest.raises(Refused) as refused:
        check_body(body)
    assert refused.value.problem is problem
    assert words in refused.value.detail


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200).map(lambda text: text * 400))
def test_the_bound_is_on_utf8(body: str) -> None:
    fits = bool(body) and "\0" not in body and len(body.encode()) <= BODY_BYTES_MAX
    try:
        check_body(body)
    except Refused:
        assert not fits
    else:
        assert fits
