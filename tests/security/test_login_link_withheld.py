"""Whoever takes the dashboard's port before webd does gets no login link of the operator's: it would sign them in."""

import socket
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.hive import LINK, RunningHive, remove, start_hive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

DEADLINE_S = 60


def until(hive: RunningHive, words: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not any(words in line for line in hive.lines):
        assert time.monotonic() < deadline, hive.lines
        assert hive.process.poll() is None, hive.lines
        time.sleep(0.05)


def test_a_port_in_other_hands_withholds_the_link() -> None:
    folder = Path(mkdtemp(prefix="hive-port-", dir="/tmp"))
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        port = trap.getsockname()[1]
        hive = start_hive("--runner", "demo", "--port", str(port), folder=folder)
        try:
            until(hive, f"port {port} is held by another process")
            refused = hive.hivectl_raw("login")
            assert refused.returncode == 1
            assert "no link is made" in refused.stderr
            assert not LINK.search("\n".join([*hive.lines, refused.stdout, refused.stderr]))
            trap.close()
            deadline = time.monotonic() + DEADLINE_S
            while (shown := hive.hivectl_raw("login")).returncode:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert LINK.search(shown.stdout)
        finally:
            hive.stop()
            remove(folder)
