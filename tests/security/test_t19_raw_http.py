"""T19 (and the bytes of T17): what no browser sends is refused at webd's real port, whole and at once."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.security.browser import Visitor, fresh_address, parsed, say
from tests.security.peers import User, ask
from tests.support.hive import RunningHive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

ANSWER = re.compile(rb"(?:^|\r\n\r\n.*?)HTTP/1\.1 [0-9]{3} ", re.DOTALL)
FLOOD = 560
"""More connections than webd holds at a time (webd.http.server.CONNECTIONS_MAX)."""
SECRET_WORDS = (b"hm1nd", b"iris", b"snapshot")
"""What only a signed-in browser is shown."""


@pytest.fixture(scope="module")
def visitor(secure_hive: RunningHive) -> Visitor:
    return Visitor(secure_hive)


@pytest.fixture(autouse=True)
def serves(secure_hive: RunningHive, visitor: Visitor) -> Iterator[None]:
    """The same webd serves the next browser, and met no defect."""
    pid = secure_hive.daemon_pid("webd")
    yield
    assert visitor.get("/healthz").startswith(b"HTTP/1.1 200")
    assert secure_hive.daemon_pid("webd") == pid
    assert "met a defect" not in (secure_hive.places.logs / "webd.log").read_text()


def lines(*words: str) -> bytes:
    return "\r\n".join((*words, "", "")).encode("latin-1")


def post(*headers: str, host: str = "{host}", origin: str = "{origin}") -> bytes:
    return lines("POST /login HTTP/1.1", f"Host: {host}", f"Origin: {origin}", *headers)


JSON = "Content-Type: application/json"
BODY = b'{"code":"x"}'
NEXT = b"GET /api/state HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"
"""A request hidden in a body: it would be answered with everything."""
REFUSED: dict[str, tuple[bytes, set[int]]] = {
    "length and chunks": (post(JSON, "Content-Length: 12", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + NEXT, {400}),
    "chunks": (post(JSON, "Transfer-Encoding: chunked") + b"0\r\n\r\n" + NEXT, {400, 411}),
    "chunks, misspelt": (post(JSON, "Transfer-Encoding: xchunked") + b"0\r\n\r\n" + NEXT, {400, 411, 501}),
    "chunks, with a space": (post(JSON, "Transfer-Encoding : chunked") + b"0\r\n\r\n" + NEXT, {400}),
    "chunks, twice": (post(JSON, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + NEXT, {400, 501}),
    "chunks, folded": (post(JSON, "Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n" + NEXT, {400, 411}),
    "two lengths": (post(JSON, "Content-Length: 0", "Content-Length: 40") + NEXT, {400}),
    "a list of lengths": (post(JSON, "Content-Length: 0, 40") + NEXT, {400}),
    "a signed length": (post(JSON, "Content-Length: +12") + BODY, {400, 411}),
    "a negative length": (post(JSON, "Content-Length: -1") + NEXT, {400, 411}),
    "a length in hex": (post(JSON, "Content-Length: 0x0c") + BODY, {400, 411}),
    "a length past every number": (post(JSON, "Content-Length: " + "9" * 30), {400, 411, 413}),
    "300 MB": (post(JSON, "Content-Length: 314572800"), {413}),
    "300 MB, asking first": (post(JSON, "Content-Length: 314572800", "Expect: 100-continue"), {413}),
    "no length": (post(JSON) + BODY, {411}),
    "a body with a GET": (lines("GET / HTTP/1.1", "Host: {host}", "Content-Length: 5") + b"hello", {400}),
    "upgrade to HTTP/2": (
        lines(
            "GET / HTTP/1.1", "Host: {host}", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
            "HTTP2-Settings: AA",
        ),
        {400},
    ),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", {400, 405, 505}),
    "a web socket": (
        lines(
            "GET / HTTP/1.1", "Host: {host}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
        ),
        {400},
    ),
    "an absolute address": (lines("GET http://{host}/api/state HTTP/1.1", "Host: {host}", "Cookie: {cookie}"), {400}),
    "an absolute address elsewhere": (lines("GET http://evil.test/ HTTP/1.1", "Host: {host}"), {400}),
    "CONNECT": (lines("CONNECT {host} HTTP/1.1", "Host: {host}"), {405}),
    "OPTIONS *": (lines("OPTIONS * HTTP/1.1", "Host: {host}"), {405}),
    "TRACE": (lines("TRACE / HTTP/1.1", "Host: {host}", "Cookie: {cookie}"), {405}),
    "PUT": (lines("PUT / HTTP/1.1", "Host: {host}", "Content-Length: 0"), {405}),
    "DELETE": (lines("DELETE /api/v1/agents HTTP/1.1", "Host: {host}", "Cookie: {cookie}"), {405}),
    "a method of its own": (lines("BECOMEROOT / HTTP/1.1", "Host: {host}"), {405}),
    "no host": (lines("GET / HTTP/1.1", "Cookie: {cookie}"), {400, 421}),
    "two hosts": (lines("GET / HTTP/1.1", "Host: {host}", "Host: {host}"), {400, 421}),
    "two hosts, one foreign": (lines("GET / HTTP/1.1", "Host: {host}", "Host: evil.test"), {400, 421}),
    "a foreign host": (lines("GET / HTTP/1.1", "Host: evil.test", "Cookie: {cookie}"), {421}),
    "a rebound host with our port": (lines("GET / HTTP/1.1", "Host: evil.test:{port}", "Cookie: {cookie}"), {421}),
    "the host without its port": (lines("GET / HTTP/1.1", "Host: 127.0.0.1", "Cookie: {cookie}"), {421}),
    "the host with a user": (lines("GET / HTTP/1.1", "Host: evil@{host}", "Cookie: {cookie}"), {400, 421}),
    "HTTP/1.0": (lines("GET / HTTP/1.0", "Host: {host}"), {505}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {400, 505}),
    "HTTP/3.0": (lines("GET / HTTP/3.0", "Host: {host}"), {400, 505}),
    "a large header": (lines("GET / HTTP/1.1", "Host: {host}", "X: " + "a" * 40_000), {431}),
    "a large cookie": (lines("GET / HTTP/1.1", "Host: {host}", "Cookie: " + "a" * 20_000), {431}),
    "many headers": (lines("GET / HTTP/1.1", "Host: {host}", *["X: y"] * 200), {431}),
    "an endless head": (b"GET / HTTP/1.1\r\nX: " + b"a" * (4 << 20), {400, 431}),
    "a long address": (lines("GET /" + "a" * 9_000 + " HTTP/1.1", "Host: {host}"), {414}),
    "a folded header": (lines("GET / HTTP/1.1", "Host: {host}", "X: a\r\n Host: evil.test"), {200, 303, 400}),
    "a NUL in a header": (lines("GET / HTTP/1.1", "Host: {host}", "X: a\0b"), {400}),
    "a bare CR": (b"GET / HTTP/1.1\rHost: {host}\r\n\r\n", {400}),
    "a header without a colon": (lines("GET / HTTP/1.1", "Host: {host}", "nonsense"), {400}),
    "a range": (lines("GET /static/app.js HTTP/1.1", "Host: {host}", "Range: bytes=0-,0-,0-"), {400}),
    "a TLS greeting": (bytes.fromhex("16030100c8010000c40303") + b"\0" * 200, {400}),
    "nonsense": (bytes(range(256)) * 8 + b"\r\n\r\n", {400}),
    "up and out": (lines("GET /static/../service.py HTTP/1.1", "Host: {host}"), {400, 404}),
    "up and out, escaped": (lines("GET /static/%2e%2e/service.py HTTP/1.1", "Host: {host}"), {400, 404}),
    "up and out, twice escaped": (lines("GET /static/%252e%252e/service.py HTTP/1.1", "Host: {host}"), {400, 404}),
    "two slashes": (lines("GET /static//etc/passwd HTTP/1.1", "Host: {host}"), {400, 404}),
    "a backslash": (lines("GET /static/..\\service.py HTTP/1.1", "Host: {host}"), {400, 404}),
    "no origin": (lines("POST /login HTTP/1.1", "Host: {host}", JSON, "Content-Length: 12") + BODY, {403}),
    "a null origin": (post(JSON, "Content-Length: 12", origin="null") + BODY, {403}),
    "an origin on another port": (post(JSON, "Content-Length: 12", origin="http://127.0.0.1:1") + BODY, {403}),
    "an origin over TLS": (post(JSON, "Content-Length: 12", origin="https://{host}") + BODY, {403}),
    "two origins": (post(JSON, "Content-Length: 12", "Origin: {origin}") + BODY, {400, 403}),
    "a cross-site post": (post(JSON, "Content-Length: 12", "Sec-Fetch-Site: cross-site") + BODY, {403}),
    "a same-site post": (post(JSON, "Content-Length: 12", "Sec-Fetch-Site: same-site") + BODY, {403}),
    "a form": (post("Content-Type: application/x-www-form-urlencoded", "Content-Length: 12") + BODY, {415}),
    "plain text": (post("Content-Type: text/plain", "Content-Length: 12") + BODY, {415}),
    "a cross-site read": (
        lines("GET /api/state HTTP/1.1", "Host: {host}", "Cookie: {cookie}", "Sec-Fetch-Site: cross-site"), {403}
    ),
    "a framed page": (
        lines("GET / HTTP/1.1", "Host: {host}", "Cookie: {cookie}", "Sec-Fetch-Site: cross-site",
              "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), {403}
    ),
}  # fmt: skip


def filled(said: bytes, visitor: Visitor) -> bytes:
    host = f"{visitor.host}:{visitor.port}"
    for name, value in {
        "host": host,
        "origin": f"http://{host}",
        "port": visitor.port,
        "cookie": visitor.cookie,
    }.items():
        said = said.replace(f"{{{name}}}".encode(), str(value).encode())
    return said


@pytest.mark.parametrize("name", REFUSED)
def test_t19_is_refused_once_and_leads_nowhere(visitor: Visitor, name: str) -> None:
    said, statuses = REFUSED[name]
    heard = visitor.say(filled(said, visitor), finish=True)
    status, headers, body = parsed(heard)
    assert status in statuses, heard[:300]
    assert len(ANSWER.findall(heard)) == 1, "a hidden request was answered"
    if status not in (200, 303, 404):
        assert headers.get("connection") == "close"
    for word in SECRET_WORDS:
        assert word not in body, word
    assert "set-cookie" not in headers
    assert "default-src 'none'" in headers["content-security-policy"]


def test_t19_what_a_browser_sends_is_served(visitor: Visitor) -> None:
    """Or the refusals above would be worth nothing."""
    assert parsed(visitor.get("/api/state"))[0] == 200
    assert b"iris" in visitor.get("/")


def test_t19_slow_heads_and_bodies_are_given_up(visitor: Visitor) -> None:
    """A byte now and then, before and behind the end of the head; others are served meanwhile."""
    to = (visitor.host, visitor.port)
    whole = filled(post(JSON, "Content-Length: 60000"), visitor)
    found: dict[str, tuple[float, bytes]] = {}

    def drip(name: str, begin: bytes, drop: bytes) -> None:
        began, heard = time.monotonic(), b""
        with socket.create_connection(to, 30, (fresh_address(), 0)) as stream:
            stream.sendall(begin)
            stream.settimeout(0.3)
            while time.monotonic() - began < 25:
                try:
                    data = stream.recv(4096)
                except TimeoutError:
                    try:
                        stream.sendall(drop)
                    except OSError:
                        break
                    continue
                except ConnectionError:
                    break
                heard += data
                if not data:
                    break
        found[name] = time.monotonic() - began, heard

    attacks = {
        "head": (whole[:40], b"x"),
        "headers": (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
        "body": (whole, b"x"),
    }
    threads = [threading.Thread(target=drip, args=(name, *how)) for name, how in attacks.items()]
    for thread in threads:
        thread.start()
    assert visitor.get("/healthz").startswith(b"HTTP/1.1 200")
    for thread in threads:
        thread.join()
    assert {name: heard[:12] for name, (_, heard) in found.items()} == {
        "head": b"HTTP/1.1 408", "headers": b"HTTP/1.1 408", "body": b"HTTP/1.1 408",
    }  # fmt: skip
    assert found["head"][0] < 9
    assert found["headers"][0] < 9
    assert found["body"][0] < 14


def test_t19_a_flood_of_idle_connections_keeps_nobody_out(secure_hive: RunningHive, visitor: Visitor) -> None:
    held: list[socket.socket] = []
    try:
        held.extend(socket.create_connection((visitor.host, visitor.port), 10) for _ in range(FLOOD))
        assert visitor.get("/healthz").startswith(b"HTTP/1.1 200")
        assert held[0].recv(100) == b"", "whoever waited longest gives way"
        assert ask(User(0, 0), secure_hive.socket("webd")).answer["ok"]["daemon"] == "webd"
    finally:
        for stream in held:
            stream.close()
    deadline = time.monotonic() + 10
    while not visitor.get("/healthz").startswith(b"HTTP/1.1 200"):
        assert time.monotonic() < deadline
    assert "incident" not in (secure_hive.places.logs / "webd.log").read_text()


def test_t19_a_login_link_works_once_and_guessing_is_counted(
    secure_hive: RunningHive, visitor: Visitor
) -> None:
    again, _, body = visitor.post("/login", {"code": visitor.code}, signed_in=False)
    assert (again, json.loads(body)["detail"]) == (401, "this link was already used")
    to, address = (visitor.host, visitor.port), fresh_address()
    guess = filled(post(JSON, f"Content-Length: {len(BODY)}", "Connection: close"), visitor) + BODY
    statuses = [parsed(say(to, guess, finish=False, patience_s=10, source=address))[0] for _ in range(7)]
    assert statuses == [401] * 5 + [429] * 2


def test_t19_a_session_ends_and_cannot_be_given(secure_hive: RunningHive) -> None:
    """No fixation: a token that webd did not make is nobody's; two cookies of the name are none; logout is the end."""
    mine = Visitor(secure_hive)
    name, _, token = mine.cookie.partition("=")
    assert len(token) == 43
    for cookie in (
        f"{name}={'A' * 43}",
        f"{name}={token}; {name}={'A' * 43}",
        f"{name}1={token}",
        f"{name}={token}x",
    ):
        heard = mine.say(
            lines("GET /api/state HTTP/1.1", f"Host: {mine.host}:{mine.port}", f"Cookie: {cookie}"),
            finish=True,
        )
        assert parsed(heard)[0] == 401, cookie
    status, headers, _ = mine.post("/logout", {})
    assert status == 200
    assert "Max-Age=0" in headers["set-cookie"]
    assert parsed(mine.get("/api/state"))[0] == 401
    assert parsed(mine.get("/"))[0] == 303


def test_t19_the_cookie_is_closed_to_scripts_and_other_sites(secure_hive: RunningHive) -> None:
    hive_visitor = Visitor(secure_hive)
    code = str(secure_hive.hivectl("login")["url"]).partition("#code=")[2]
    _, headers, _ = hive_visitor.post("/login", {"code": code}, signed_in=False)
    attributes = {each.strip() for each in headers["set-cookie"].split(";")[1:]}
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= attributes
    assert not any(each.startswith("Domain") for each in attributes)
