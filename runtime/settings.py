"""Settings from TOML: a frozen struct, or an error that says file, key and what is wrong with it.

Also the kinds of values that several programs' settings hold. Which settings there are is each program's own.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from protocol.names import RULES
from runtime.faults import INVALID_CHOICE, choices_at, in_plain_words

S = TypeVar("S", bound=msgspec.Struct)

EXIT_SETTINGS: Final = 78
"""The exit code of a program whose settings cannot be used: starting it again does not help."""

PATH_PATTERN: Final = r"\A/[^\x00-\x1f\x7f]{0,4000}\Z"
ADDRESS_PATTERN: Final = r"\A[0-9a-fA-F.:]{2,45}\Z"
URL_PATTERN: Final = r"\Ahttps?://[^\x00-\x20\x7f]{1,290}\Z"
SITE_PATTERN: Final = r"\A(?:[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?|\[[0-9a-f:]{2,45}\])(?::[0-9]{1,5})?\Z"
ORIGIN_PATTERN: Final = r"\Ahttps?://[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?(?::[0-9]{1,5})?\Z"

AbsolutePath = Annotated[str, Meta(pattern=PATH_PATTERN)]
Uid = Annotated[int, Meta(ge=0, le=2**31 - 2)]
ListenAddress = Annotated[str, Meta(pattern=ADDRESS_PATTERN)]
"""An address of this machine, in numbers."""
SiteName = Annotated[str, Meta(pattern=SITE_PATTERN)]
"""A host as the browser writes it in Host: lower case, with its port unless that is the scheme's own."""
Origin = Annotated[str, Meta(pattern=ORIGIN_PATTERN)]
"""Scheme, host and port as a browser says where a page is from."""
Url = Annotated[str, Meta(pattern=URL_PATTERN)]
LogLevel = Literal["debug", "info", "warning", "error"]

WORDS: Final = {
    **RULES,
    PATH_PATTERN: "an absolute path",
    ADDRESS_PATTERN: "an address in numbers, as 127.0.0.1 or ::1",
    SITE_PATTERN: "a host in lower case, or host:port",
    ORIGIN_PATTERN: "a page's scheme and host, as https://hive.example.org or http://localhost:7000",
    URL_PATTERN: "an address that begins with http:// or https://",
}
"""Patterns in words, for whoever broke one."""


class SettingsFault(Exception):
    """A settings file that cannot be used. Its text is one line for the operator: file, key, reason."""


def load_settings(path: Path, shape: type[S]) -> S:
    """Read *path* into *shape*. SettingsFault for a missing file, broken TOML, an unknown key or a wrong value."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SettingsFault(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsFault(f"{path}: not UTF-8 at byte {error.start}") from None
    return parse_settings(text, shape, origin=str(path))


def parse_settings(text: str, shape: type[S], *, origin: str) -> S:
    """Turn TOML into *shape*; `origin` names the source in errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsFault(f"{origin}: not TOML: {error}") from None
    try:
        return msgspec.convert(table, shape)
    except msgspec.ValidationError as error:
        reason, _, place = in_plain_words(str(error), WORDS).partition(" - at ")
        key = place.strip("`").removeprefix("$.")
        if reason.startswith(INVALID_CHOICE):
            reason += f"; there are: {', '.join(choices_at(shape, key))}"
        raise SettingsFault(f"{origin}: {key + ': ' if key else ''}{reason[0].lower()}{reason[1:]}") from None
