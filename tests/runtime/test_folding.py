"""Lines that somebody else causes: some are written, of the rest the number."""

from runtime.folding import FOLD_S, LINES_MAX, Folding


def test_a_flood_is_counted_and_told_with_the_next_line() -> None:
    folding = Folding()
    assert [folding.admit(5.0) for _ in range(LINES_MAX)] == [0] * LINES_MAX
    assert [folding.admit(5.0 + FOLD_S / 2) for _ in range(1000)] == [None] * 1000
    assert folding.admit(5.0 + FOLD_S) == 1000
    assert folding.admit(5.0 + FOLD_S) == 0
