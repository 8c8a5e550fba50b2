"""Nix's own hash of a folder of files, as `nix hash path` says it: of one archive with one way to be written. Pure."""

import base64
import hashlib
from collections.abc import Iterator, Mapping

from msgspec import Struct


class Content(Struct, frozen=True):
    """One file."""

    data: bytes
    executable: bool = False


def nar_hash(files: Mapping[str, Content]) -> str:
    """`sha256-…` of a folder with these files by path."""
    found = hashlib.sha256(_text(b"nix-archive-1"))
    for part in _folder(files):
        found.update(part)
    return f"sha256-{base64.b64encode(found.digest()).decode()}"


def _folder(files: Mapping[str, Content]) -> Iterator[bytes]:
    """A folder's entries in the order of their names' bytes, each file or folder in parentheses of its own."""
    here: dict[str, Content | dict[str, Content]] = {}
    for path, content in files.items():
        name, slash, rest = path.partition("/")
        inner = here.setdefault(name, {}) if slash else here.setdefault(name, content)
        if isinstance(inner, dict):
            inner[rest] = content
    yield _text(b"(") + _text(b"type") + _text(b"directory")
    for name in sorted(here):
        found = here[name]
        yield _text(b"entry") + _text(b"(") + _text(b"name") + _text(name.encode()) + _text(b"node")
        yield from _file(found) if isinstance(found, Content) else _folder(found)
        yield _text(b")")
    yield _text(b")")


def _file(content: Content) -> Iterator[bytes]:
    yield _text(b"(") + _text(b"type") + _text(b"regular")
    if content.executable:
        yield _text(b"executable") + _text(b"")
    yield _text(b"contents") + _text(content.data) + _text(b")")


def _text(content: bytes) -> bytes:
    """Its length, itself, and zeros up to the next eighth byte."""
    return len(content).to_bytes(8, "little") + content + bytes(-len(content) % 8)
