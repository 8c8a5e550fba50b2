"""What a service manager is told (sd_notify) and what it hands over (listening sockets, the watchdog's interval)."""

import os
import socket
from collections.abc import Mapping
from typing import Final

LISTEN_FDS_START: Final = 3


def notify(*assignments: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager, e.g. `notify("READY=1")`. False when there is none. A failing send is raised."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
        peer.sendto("\n".join(assignments).encode(), address)
    return True


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Half the time after which the service manager takes us for hung; None when it does not watch."""
    limit_us = environment.get("WATCHDOG_USEC")
    if not limit_us or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit_us) / 2_000_000


def given_sockets(environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """File descriptors handed over by systemd, by the name given in the socket unit."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    count = int(environment.get("LISTEN_FDS", "0"))
    return {
        (names[index] if index < len(names) and names[index] else str(index)): LISTEN_FDS_START + index
        for index in range(count)
    }
