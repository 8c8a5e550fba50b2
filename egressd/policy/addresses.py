"""Which addresses nobody is led to by a name: the host itself, its neighbours and the cloud's metadata service.

A listed name may resolve to anything its owner likes. What counts is therefore the address, judged after the
resolution and connected to as judged. The table is the IANA special-purpose registries, with what hides an IPv4
address in an IPv6 one taken apart first.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from egressd.policy.target import Address

_SPECIAL: Final[tuple[tuple[str, str], ...]] = (
    ("169.254.169.254/32", "a metadata service"),
    ("100.100.100.200/32", "a metadata service"),
    ("168.63.129.16/32", "a metadata service"),
    ("192.0.0.192/32", "a metadata service"),
    ("fd00:ec2::254/128", "a metadata service"),
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "private"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "private"),
    ("198.51.100.0/24", "reserved"),
    ("203.0.113.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "reserved"),
    ("3fff::/20", "reserved"),
)
_TABLE: Final = tuple((ip_network(network), kind) for network, kind in _SPECIAL)
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"), IPv6Network("::ffff:0:0/96"))
"""IPv6 networks whose last 32 bits are the IPv4 address that is meant."""


def address_fault(address: Address, *, own: bool = False) -> str | None:
    """What kind of address a name must not lead to this is, or None when it is public. `own`: it is this machine's."""
    kind = _kind(address)
    if kind is None and isinstance(address, IPv6Address):
        hidden = _hidden(address)
        kind = _kind(hidden) if hidden is not None else _beyond_public(address)
    return kind or ("this machine's own" if own else None)


def _kind(address: Address) -> str | None:
    for network, kind in _TABLE:
        if isinstance(address, IPv4Address):
            if isinstance(network, IPv4Network) and address in network:
                return kind
        elif isinstance(network, IPv6Network) and address in network:
            return kind
    return None


def _hidden(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this IPv6 address would end at."""
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _beyond_public(address: IPv6Address) -> str | None:
    return None if address in _PUBLIC_IPV6 else "reserved"
