"""A browser by hand: raw HTTP at webd's real port, with a session from a real login link."""

import itertools
import json
import secrets
import socket
from typing import Any

from tests.support.hive import RunningHive

PATIENCE_S = 60.0
_numbers = itertools.count(10)
"""Of addresses: webd counts attempts to sign in by address."""


def fresh_address() -> str:
    """A loopback address that no visitor of this run came from."""
    return f"127.0.1.{next(_numbers)}"


class Visitor:
    """One signed-in browser, as bytes."""

    def __init__(self, hive: RunningHive) -> None:
        self.host, _, port = hive.base_url.removeprefix("http://").partition(":")
        self.port = int(port)
        self._address = fresh_address()
        self.code = str(hive.hivectl("login")["url"]).partition("#code=")[2]
        status, headers, _ = self.post("/login", {"code": self.code}, signed_in=False)
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]

    @property
    def token(self) -> str:
        return self.cookie.partition("=")[2]

    def say(self, said: bytes, *, finish: bool = False, patience_s: float = PATIENCE_S) -> bytes:
        """Raw bytes, and everything that comes back until webd closes or nothing more comes in time."""
        return say((self.host, self.port), said, finish=finish, patience_s=patience_s, source=self._address)

    def get(self, target: str) -> bytes:
        """The whole answer to a page's address, as bytes."""
        head = f"Host: {self.host}:{self.port}\r\nCookie: {self.cookie}\r\nConnection: close\r\n\r\n"
        return self.say(f"GET {target} HTTP/1.1\r\n{head}".encode("latin-1"))

    def post(self, path: str, said: Any, *, signed_in: bool = True) -> tuple[int, dict[str, str], bytes]:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        cookie = f"Cookie: {self.cookie}\r\n" if signed_in else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nOrigin: http://{self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{cookie}Connection: close\r\n\r\n"
        )
        return parsed(self.say(head.encode("latin-1") + body))

    def act(self, path: str, **said: Any) -> tuple[int, Any]:
        """An action of the operator: its status and its answer."""
        status, _, body = self.post(path, {"key": new_key(), **said})
        return status, json.loads(body)


def new_key() -> str:
    return secrets.token_urlsafe(16)


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return int(first.split(" ")[1]), headers, body


def say(
    to: tuple[str, int], said: bytes, *, finish: bool, patience_s: float, source: str = "127.0.0.1"
) -> bytes:
    heard = b""
    with socket.create_connection(to, patience_s, (source, 0)) as stream:
        try:
            stream.sendall(said)
            if finish:
                stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed before it was all said: what was answered can still be read
        try:
            while data := stream.recv(65_536):
                heard += data
        except (ConnectionError, TimeoutError):
            pass
    return heard
