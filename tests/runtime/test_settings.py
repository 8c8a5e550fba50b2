"""Settings: a frozen struct, or one line that says file, key and reason."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from runtime.settings import SettingsFault, load_settings, parse_settings


class Colour(StrEnum):
    RED = "red"


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(ge=1, le=65535)] = 80


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    colour: Colour = Colour.RED
    inner: Inner = Inner()
    hosts: tuple[Annotated[str, Meta(max_length=5)], ...] = ()


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('name = "é"\nhosts = ["a"]\n[inner]\nport = 7\n')
    assert load_settings(path, Shape) == Shape("é", Colour.RED, Inner(7), ("a",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the key `name` is missing"),
        ("name = 1", "name: expected text, got a whole number"),
        ('name = "x"\ncolour = "blue"', "colour: invalid enum value 'blue'; there are: red"),
        ('name = "x"\n[inner]\nport = 0', "inner.port: expected a whole number of at least 1"),
        ('name = "x"\n[inner]\nporz = 1', "inner: unknown key `porz`"),
        ('name = "x"\nnmae = "y"', "unknown key `nmae`"),
        ('name = "x"\nhosts = ["a", "toolong"]', "hosts[1]: expected text with a length of at most 5"),
        ('name = "x', "not TOML: "),
        ('name = "x"\nname = "y"', "not TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(SettingsFault) as caught:
        load_settings(path, Shape)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match=r"gone\.toml: cannot be read: No such file"):
        load_settings(tmp_path / "gone.toml", Shape)
    with pytest.raises(SettingsFault, match="cannot be read: Is a directory"):
        load_settings(tmp_path, Shape)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(SettingsFault, match="not UTF-8 at byte 8"):
        load_settings(tmp_path / "latin.toml", Shape)


def test_text_from_elsewhere_is_named_by_its_origin() -> None:
    assert parse_settings('name = "x"', Shape, origin="the command line") == Shape("x")
    with pytest.raises(SettingsFault, match=r"\Athe command line: name: expected"):
        parse_settings("name = true", Shape, origin="the command line")
