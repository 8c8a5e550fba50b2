"""What a service manager is told, over real datagram sockets, and what it hands over."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.notify import given_sockets, notify, watchdog_interval_s

ME = str(os.getpid())


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.settimeout(5)
        yield receiving


def test_assignments_arrive_in_one_datagram(manager: socket.socket, tmp_path: Path) -> None:
    manager.bind(str(tmp_path / "notify"))
    assert notify("READY=1", "STATUS=ready", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert manager.recv(100) == b"READY=1\nSTATUS=ready"


def test_an_abstract_address(manager: socket.socket) -> None:
    name = f"hyperhive-test-{ME}"
    manager.bind(f"\0{name}")
    assert notify("STOPPING=1", environment={"NOTIFY_SOCKET": f"@{name}"})
    assert manager.recv(100) == b"STOPPING=1"


def test_without_a_manager_nobody_is_told() -> None:
    assert not notify("READY=1", environment={})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": ""})


def test_a_manager_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        notify("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ME}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(environment: dict[str, str], interval_s: float | None) -> None:
    assert watchdog_interval_s(environment) == interval_s


@pytest.mark.parametrize(
    ("environment", "sockets"),
    [
        ({}, {}),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {}),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "2"}, {"0": 3, "1": 4}),
        (
            {"LISTEN_PID": ME, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "operator:swarm"},
            {"operator": 3, "swarm": 4},
        ),
        (
            {"LISTEN_PID": ME, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "operator:"},
            {"operator": 3, "1": 4, "2": 5},
        ),
    ],
)
def test_given_sockets_have_names(environment: dict[str, str], sockets: dict[str, int]) -> None:
    assert given_sockets(environment) == sockets
