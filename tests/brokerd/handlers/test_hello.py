"""Who answers."""

import pytest

from protocol.hello import WIRE_VERSION, Greeting, Hello
from runtime import VERSION
from tests.brokerd.hive import Hive

pytestmark = pytest.mark.anyio


async def test_every_socket_greets(hive: Hive) -> None:
    """In this test every process runs as one user, and the greeting says so."""
    for client in (hive.operator, hive.agent("iris"), hive.agent("hm1nd")):
        greeting = await client.call(Hello())
        assert greeting == Greeting("brokerd", VERSION, WIRE_VERSION, separated=False)
