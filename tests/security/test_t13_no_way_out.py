"""T13: from inside a cage there is no network, no name, no neighbour and no host; only egressd, which says no."""

from typing import Any

import pytest

from tests.security.inside import HARNESS_UID, run_inside
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

PROBE = r"""
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(3)
        s.connect(address)
        if kind == socket.SOCK_DGRAM:
            s.send(b"x")
        return "connected"

def egress(host):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect("/run/hive/egress/egress.sock")
        s.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return s.recv(4096).decode()

def via_forwarder(host):
    with socket.create_connection(("127.0.0.1", 3128), 5) as s:
        s.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
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

port = int(sys.argv[1])
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
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
    "vsock": attempt(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()),
    "new interface": attempt(add_interface),
    "new namespace": attempt(lambda: call("unshare", 0x50000000)),
    "unlisted": egress("example.org:443"),
    "unlisted, by the forwarder": via_forwarder("example.org:443"),
    "dashboard, by egressd": egress(f"127.0.0.1:{port}"),
    "metadata, by egressd": egress("169.254.169.254:80"),
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
    "dns", "dns over udp", "public", "public, by IPv6", "metadata", "multicast", "dashboard", "raw", "packet", "vsock",
    "new interface", "new namespace", "neighbour",
]  # fmt: skip
BY_EGRESSD = ["unlisted", "unlisted, by the forwarder", "dashboard, by egressd", "metadata, by egressd"]


@pytest.fixture(scope="module", params=["agent", "harness"])
def seen(secure_hive: RunningHive, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What each of the cage's two users can reach. The harness may do no more than the agent."""
    uid = {"agent": 1_000, "harness": HARNESS_UID}[request.param]
    port = secure_hive.base_url.rsplit(":", 1)[1]
    found: dict[str, Any] = run_inside(secure_hive, "iris", PROBE, port, uid=uid)
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


def test_t13_nobody_else_is_there(seen: dict[str, Any]) -> None:
    assert seen["agents"] == ["iris"]
    assert seen["run"] == ["broker", "egress"]
    assert seen["groups"] == []
    assert len(seen["processes"]) <= 8
    for command in seen["commands"]:
        assert not any(word in command for word in ("hm1nd", "nspawn", "brokerd", "privd", "webd")), command
