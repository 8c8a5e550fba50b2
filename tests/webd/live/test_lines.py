"""Journal lines: our own records become sentences, everything else stays what it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.privd import JournalLine
from webd.live.lines import LineRow, line_row


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("plain words", LineRow(7, None, "info", "plain words")),
        ("\x1b[31mred\x1b[0m", LineRow(7, None, "info", "red")),
        (
            '{"event": "turn ended", "level": "error", "at": "1970-01-01T00:00:01.500Z", "daemon": "x", "turn": 3}',
            LineRow(7, 1_500, "err", "turn ended turn=3"),
        ),
        ('{"event": "x", "level": "warning", "at": "soon"}', LineRow(7, None, "warn", "x")),
        ('{"event": "x", "at": "1970-01-01T00:00:01"}', LineRow(7, None, "info", "x")),
        ('{"event": 1}', LineRow(7, None, "info", '{"event": 1}')),
        ('{"other": 1}', LineRow(7, None, "info", '{"other": 1}')),
        ("{broken", LineRow(7, None, "info", "{broken")),
        ('{"event": "x", "exception": "Trace\\n  line"}', LineRow(7, None, "info", "x \nTrace\n  line")),
        ('{"event": "x", "a": "\\u001b]0;t\\u0007"}', LineRow(7, None, "info", "x a=")),
    ],
)
def test_lines(text: str, row: LineRow) -> None:
    assert line_row(JournalLine(7, text)) == row


@given(st.text())
def test_any_line_is_shown(text: str) -> None:
    assert line_row(JournalLine(7, text)).offset == 7


def test_deep_nesting_is_only_text() -> None:
    assert line_row(JournalLine(7, '{"a":' * 20_000)).level == "info"
