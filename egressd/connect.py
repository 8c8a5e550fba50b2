"""From a target to a connected stream: resolved once, judged, and connected to the very address that was judged."""

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import trio

from egressd.policy.addresses import address_fault
from egressd.policy.target import Address, Target

RESOLVE_S: Final = 5.0
CONNECT_S: Final = 10.0
"""For all addresses of a host together."""
RESOLVING_MAX: Final = 4
"""Lookups of one agent at a time: a resolver that hangs holds that agent's threads only."""
ADDRESSES_MAX: Final = 8


class Unreachable(Exception):
    """The destination is allowed, but no connection came about; one line says why."""


class LeadsInside(Exception):
    """The destination's name leads to addresses that no name may lead to; says to what kind."""


@dataclass(frozen=True)
class Place:
    """One address of a host, as the resolver gave it."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def address(self) -> Address:
        return ip_address(self.sockaddr[0].partition("%")[0])


async def connect(target: Target, *, judged: bool, lookups: trio.CapacityLimiter) -> trio.SocketStream:
    """A connection to *target*; `judged` is false for the operator's exceptions. Raises Unreachable or LeadsInside."""
    places = await _resolve(target, lookups)
    if judged:
        places = _public(places)
    fault = "no address"
    with trio.move_on_after(CONNECT_S):
        for place in places:
            try:
                return await _open(place)
            except OSError as error:
                fault = error.strerror or str(error)
        raise Unreachable(fault)
    raise Unreachable(f"no answer within {CONNECT_S:g} s")


async def _resolve(target: Target, lookups: trio.CapacityLimiter) -> list[Place]:
    def look_up() -> list[Place]:
        numeric = socket.AI_NUMERICHOST if target.literal else 0
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, flags=numeric)
        return [Place(family, sockaddr) for family, _, _, _, sockaddr in found if len(sockaddr) in (2, 4)]  # type: ignore[arg-type]  # looked at in the same line

    with trio.move_on_after(RESOLVE_S):
        try:
            places = await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=lookups)
        except OSError as error:
            raise Unreachable(f"the name does not resolve ({error.strerror})") from None
        return places[:ADDRESSES_MAX]
    raise Unreachable(f"the name does not resolve within {RESOLVE_S:g} s")


def _public(places: list[Place]) -> list[Place]:
    faults = [address_fault(place.address, own=_is_own(place)) for place in places]
    kept = [place for place, fault in zip(places, faults, strict=True) if fault is None]
    if not kept and places:
        raise LeadsInside(next(fault for fault in faults if fault is not None))
    return kept


def _is_own(place: Place) -> bool:
    """Whether the kernel would answer itself: it takes the destination as the source. No packet is sent."""
    with socket.socket(place.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(place.sockaddr)
        except OSError:
            return False
        own: bool = probe.getsockname()[0] == probe.getpeername()[0]
        return own


async def _open(place: Place) -> trio.SocketStream:
    opened = trio.socket.socket(place.family, socket.SOCK_STREAM)
    try:
        await opened.connect(place.sockaddr)
    except BaseException:
        opened.close()
        raise
    return trio.SocketStream(opened)
