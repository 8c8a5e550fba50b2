"""Names are resolved once, addresses judged, and the judged address is the one that is connected to."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from egressd.connect import RESOLVE_S, LeadsInside, Place, Unreachable, connect
from egressd.policy.target import Target
from tests.egressd.conftest import echo_host

pytestmark = pytest.mark.anyio


def lookups() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


def answers(monkeypatch: pytest.MonkeyPatch, *found: list[str]) -> list[str]:
    """A resolver that gives another list at each question, as a name's owner may; returns what it is asked."""
    asked: list[str] = []
    lists = iter(found)

    def resolve(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(lists)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


async def test_the_operators_exception_is_connected_to() -> None:
    async with echo_host() as port:
        async with await connect(Target("localhost", port), judged=False, lookups=lookups()) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
async def test_nobody_is_led_to_this_machine(host: str) -> None:
    async with echo_host() as port:
        with pytest.raises(LeadsInside, match="loopback"):
            await connect(Target(host, port), judged=True, lookups=lookups())


async def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with echo_host() as port:
        asked = answers(monkeypatch, ["127.0.0.1"], ["192.0.2.1"])
        async with await connect(Target("example.org", port), judged=False, lookups=lookups()) as stream:
            assert stream.socket.getpeername() == ("127.0.0.1", port)
    assert asked == ["example.org"]


async def test_of_mixed_addresses_only_public_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["127.0.0.1", "198.41.0.4", "10.0.0.1"])
    tried: list[str] = []

    async def refused(place: Place) -> trio.SocketStream:
        tried.append(str(place.address))
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("egressd.connect._open", refused)
    with pytest.raises(Unreachable, match="Connection refused"):
        await connect(Target("example.org", 443), judged=True, lookups=lookups())
    assert tried == ["198.41.0.4"]


async def test_an_unknown_name_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="does not resolve"):
        await connect(Target("no-such-host.invalid", 443), judged=True, lookups=lookups())


async def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="refused"):
            await connect(Target("127.0.0.1", holder.getsockname()[1]), judged=False, lookups=lookups())


@pytest.mark.virtual_time
async def test_a_hanging_lookup_is_given_up_and_holds_its_agents_place_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def hang(*_: object, **__: object) -> list[object]:
        trio.from_thread.run(gone.wait, trio_token=token)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    places = lookups()
    with pytest.raises(Unreachable, match=f"within {RESOLVE_S:g} s"):
        await connect(Target("slow.example", 443), judged=True, lookups=places)
    assert places.borrowed_tokens == 1
    gone.set()
    while places.borrowed_tokens:
        await trio.lowlevel.checkpoint()


OWN_ADDRESS = """
import subprocess, trio
from egressd.connect import LeadsInside, connect
from egressd.policy.target import Target
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "address", "add", "198.41.0.4/32", "dev", "lo"], check=True)
subprocess.run(["ip", "address", "add", "2a00:1450::4/128", "dev", "lo", "nodad"], check=True)

async def main():
    for host in ("198.41.0.4", "2a00:1450::4", "::ffff:198.41.0.4", "64:ff9b::7f00:1"):
        try:
            await connect(Target(host, 4430), judged=True, lookups=trio.CapacityLimiter(1))
        except LeadsInside as inside:
            print(inside)

trio.run(main)
"""


def test_this_machines_own_public_address_is_inside() -> None:
    checkout = Path(__file__).parents[2]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", OWN_ADDRESS],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    own = "this machine's own"
    assert done.stdout.splitlines() == [own, own, own, "loopback"], done.stderr
