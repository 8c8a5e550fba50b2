"""The guard over the whole catalogue of bad input, and over generated heads."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webd.policy.guard import BODY_BYTES_MAX, CHANGES, READS, Head, Names, judge

CORPUS = Path(__file__).parents[1] / "corpus" / "bad_inputs.jsonl"
ROWS = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]
JUDGED = [row for row in ROWS if "status" in row]
NAMES = Names(frozenset({"localhost:7000", "127.0.0.1:7000"}))


def head_of(row: dict[str, Any]) -> Head:
    method, target = row["request"].split(" ", 1)
    headers = tuple((name.lower(), value) for name, value in row["headers"])
    return Head(method, target, row.get("version", "1.1"), headers)


@pytest.mark.parametrize("row", JUDGED, ids=[f"{row['id']} {row['what']}" for row in JUDGED])
def test_every_row_of_the_catalogue(row: dict[str, Any]) -> None:
    turned = judge(head_of(row), NAMES)
    assert (turned.status if turned else None) == row["status"]
    assert row["reason"] in (turned.reason if turned else "")


@pytest.mark.parametrize("row", [row for row in ROWS if "proved_by" in row], ids=lambda row: row["id"])
def test_rows_that_are_proved_elsewhere_are(row: dict[str, Any]) -> None:
    file, _, name = row["proved_by"].partition("::")
    assert f"def {name}(" in (CORPUS.parents[1] / file).read_text("utf-8")


def test_no_row_is_left_out() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert all(("status" in row) != ("proved_by" in row) for row in ROWS)


TEXTS = st.text(st.characters(max_codepoint=255), max_size=30)
TARGETS = st.one_of(TEXTS, TEXTS.map(lambda text: "/" + text), st.just("/api/v1/send"))
HEADERS = st.lists(
    st.one_of(
        st.tuples(TEXTS.map(str.lower), TEXTS),
        st.tuples(
            st.sampled_from(
                [
                    "host",
                    "origin",
                    "content-type",
                    "content-length",
                    "sec-fetch-site",
                    "transfer-encoding",
                    "upgrade",
                ]
            ),
            st.sampled_from(
                [
                    "localhost:7000",
                    "127.0.0.1:7000",
                    "http://localhost:7000",
                    "http://127.0.0.1:7000",
                    "application/json",
                    "same-origin",
                    "cross-site",
                    "12",
                    "70000",
                    "chunked",
                ]
            ),
        ),
    ),
    max_size=8,
)


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "get", ""]), TARGETS, HEADERS)
def test_what_passes_is_exactly_what_a_page_of_ours_sends(
    method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    head = Head(method, target, "1.1", tuple(headers))
    if judge(head, NAMES) is not None:
        return
    assert head.method in READS | CHANGES
    assert [value for name, value in headers if name == "host"] == [head.header("host")]
    assert head.header("host") in NAMES.hosts
    assert not {"transfer-encoding", "upgrade", "range"} & {name for name, _ in headers}
    assert head.path.startswith("/")
    assert "//" not in head.path
    assert not {".", ".."} & set(head.path.split("/"))
    if method == "POST":
        assert head.header("origin") == f"http://{head.header('host')}"
        assert int(head.header("content-length") or "x") <= BODY_BYTES_MAX


def test_over_tls_only_the_tls_origin_counts() -> None:
    names = Names(frozenset({"hive.example"}), "https")
    headers = (("host", "hive.example"), ("content-type", "application/json"), ("content-length", "2"))
    good = Head("POST", "/api/v1/send", "1.1", (*headers, ("origin", "https://hive.example")))
    bad = Head("POST", "/api/v1/send", "1.1", (*headers, ("origin", "http://hive.example")))
    assert judge(good, names) is None
    turned = judge(bad, names)
    assert turned is not None
    assert turned.status == 403
