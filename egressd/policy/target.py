"""Where an agent wants to go: a host and a port, in the one spelling that everything after the parser uses.

A host is a name in lower case, or an address in its canonical form. Spellings that a resolver would take for an
address though they do not look like one (`127.1`, `0x7f.0.0.1`, `2130706433`) are neither, and are refused.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

HOST_CHARS_MAX: Final = 253
PORT_MAX: Final = 65_535
_LABEL: Final = re.compile(r"\A[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER: Final = re.compile(r"\A(?:[0-9]+|0x[0-9a-f]*)\Z")
_PORT: Final = re.compile(r"\A[1-9][0-9]{0,4}\Z")


class NotATarget(ValueError):
    """Text that names no host or no port; says what is wrong without repeating it."""


@dataclass(frozen=True)
class Target:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def literal(self) -> Address | None:
        """The address, when the host is one."""
        return address_of(self.host)


def parse_target(untrusted: str) -> Target:
    """`host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`. Raises NotATarget."""
    host, colon, port = untrusted.rpartition(":")
    if not colon:
        raise NotATarget("write host:port")
    return Target(parse_host(host), parse_port(port))


def parse_port(untrusted: str) -> int:
    if not _PORT.search(untrusted) or int(untrusted) > PORT_MAX:
        raise NotATarget(f"the port is a number from 1 to {PORT_MAX}")
    return int(untrusted)


def parse_host(untrusted: str) -> str:
    """The canonical spelling of a host. Raises NotATarget."""
    if untrusted.startswith("["):
        return _parse_bracketed(untrusted)
    host = untrusted.lower()
    if not untrusted.isascii():
        raise NotATarget("the host has characters beyond ASCII: write its xn-- form")
    if not 1 <= len(host) <= HOST_CHARS_MAX:
        raise NotATarget(f"the host has {len(host)} characters, 1 to {HOST_CHARS_MAX} are allowed")
    if _NUMBER.search(host.rpartition(".")[2]):
        if address_of(host) is None:
            raise NotATarget("the host is an address, but not written as four decimal numbers")
    elif not all(_LABEL.search(label) for label in host.split(".")):
        raise NotATarget("the host is neither a name nor an address")
    return host


def _parse_bracketed(untrusted: str) -> str:
    address = address_of(untrusted[1:-1]) if untrusted.endswith("]") else None
    if not isinstance(address, IPv6Address) or address.scope_id is not None:
        raise NotATarget("an address in brackets is an IPv6 address without a zone")
    return str(address)


def address_of(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
