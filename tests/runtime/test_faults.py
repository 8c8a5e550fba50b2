"""A decoder's complaints are said in words, and what is no complaint of its own is left as it is."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from protocol.names import AgentName, Recipient
from protocol.settings import ModelName
from runtime.faults import in_plain_words


class Colour(StrEnum):
    RED = "red"


class Shape(Struct, forbid_unknown_fields=True):
    sides: int


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("x", int, "Expected a whole number, got text"),
        (None, str, "Expected text, got nothing"),
        ("x", int | None, "Expected a whole number or nothing, got text"),
        ({}, list[int], "Expected a list, got a table"),
        (3, bool, "Expected true or false, got a whole number"),
        (0, Annotated[int, Meta(ge=1)], "Expected a whole number of at least 1"),
        (-2, Annotated[int, Meta(ge=-1)], "Expected a whole number of at least -1"),
        (0.0, Annotated[float, Meta(gt=0)], "Expected a number of more than 0.0"),
        ("", Annotated[str, Meta(min_length=1)], "Expected text with a length of at least 1"),
        ([1, 2], Annotated[list[int], Meta(max_length=1)], "Expected a list with a length of at most 1"),
        ({"sides": 3, "colour": 1}, Shape, "Unknown key `colour`"),
        ({}, Shape, "The key `sides` is missing"),
        ({"sides": "int"}, Shape, "Expected a whole number, got text - at `$.sides`"),
        ("blue", Colour, "Invalid enum value 'blue'"),
        ("Iris", AgentName, "Expected an agent's name: lowercase letters"),
        ("a b", Recipient, "Expected an agent's name, `manager`, `operator`, or `*`"),
        ("a;b", ModelName, "Expected a model's name: letters, digits"),
        ("x", Annotated[str, Meta(pattern="y")], "Expected text of another form"),
    ],
)
def test_every_kind_of_complaint(value: object, kind: Any, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as fault:
        msgspec.convert(value, kind)
    assert in_plain_words(str(fault.value)).startswith(said)


@given(st.text())
def test_anything_else_stays_as_it_is(text: str) -> None:
    assert in_plain_words(f"first: {text}") == f"first: {text}"
