"""The request that every socket serves."""

from typing import Final

from msgspec import Struct

from protocol.rpc import Call

WIRE_VERSION: Final = 1
"""Counts up when an older peer could misread a frame."""


class Greeting(Struct, frozen=True):
    """Who answers: daemon, version, and what this machine cannot give."""

    daemon: str
    version: str
    wire: int
    backend: str = ""
    separated: bool = True
    """Whether the daemons and the agents run as different users."""
    degraded: tuple[str, ...] = ()


class Hello(Call[Greeting], frozen=True):
    """Ask who is there."""
