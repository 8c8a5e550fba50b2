"""What is cut says so and stays within its bound."""

from hypothesis import given
from hypothesis import strategies as st

from harness.policy.budget import NOTES_BYTES_MIN, PROMPT_BYTES_MAX, cut_bytes, cut_chars, share, tokens

texts = st.text(max_size=3_000)


@given(texts, st.integers(40, 400))
def test_characters(text: str, chars_max: int) -> None:
    cut = cut_chars(text, chars_max)
    assert len(cut) <= chars_max
    if len(text) <= chars_max:
        assert cut == text
    else:
        kept, note = cut.rsplit(" […", 1)
        assert text.startswith(kept)
        assert note == f"{len(text) - len(kept)} more characters]"


@given(texts, st.integers(150, 600))
def test_bytes(text: str, bytes_max: int) -> None:
    cut = cut_bytes(text, bytes_max, "notes.md")
    assert len(cut.encode()) <= bytes_max
    if len(text.encode()) <= bytes_max:
        assert cut == text
    else:
        assert text.startswith(cut.rsplit("\n[cut: ", 1)[0])
        assert cut.endswith("the whole is in notes.md]")


@given(st.integers(0, 4_000), st.integers(0, 12_000), st.integers(0, 40_000), st.sampled_from("aé漢😀"))
def test_role_prompt_and_notes_share_what_is_left(base: int, role: int, notes: int, letter: str) -> None:
    given_role, given_notes = share("b" * base, letter * role, letter * notes, notes_path="notes.md")
    assert base + len(given_role.encode()) + len(given_notes.encode()) <= PROMPT_BYTES_MAX
    assert len(given_notes.encode()) >= min(notes, NOTES_BYTES_MIN - 100)


def test_tokens_are_counted_up() -> None:
    assert [tokens(text) for text in ("", "a", "abcd", "abcde", "漢漢")] == [0, 1, 1, 2, 2]
