"""Where a model API is, and what it is shown as a credential. Nothing here is asked for by an agent."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from egressd.policy.head import Headers
from egressd.policy.passage import Passage
from egressd.policy.scope import PORT_DEFAULT
from egressd.policy.target import NotATarget, Target, parse_host, parse_port

MODEL_API: Final = "https://api.anthropic.com"
KEY_CHARS_MAX: Final = 4096
OAUTH_BETA: Final = b"oauth-2025-04-20"
"""Without it the API takes no OAuth token."""
_URL: Final = re.compile(r"\A(https?)://([A-Za-z0-9._:\[\]-]+)((?:/[A-Za-z0-9._~,=%-]+)*)/?\Z")
_KEY: Final = re.compile(rb"\A[\x21-\x7e]+\Z")


class KeyKind(StrEnum):
    """What an account's key file holds, and so which header carries it."""

    API_KEY = "api_key"
    """`x-api-key`."""
    OAUTH = "oauth"
    """`authorization: Bearer`: a token of a subscription."""


class NotASite(ValueError):
    """An address that no key is sent to; says what is wrong."""


class NotAKey(ValueError):
    """A key file that holds no key. Never says what it holds."""


@dataclass(frozen=True)
class Site:
    """A model API: a host, a port, and the path in front of the API's own."""

    target: Target
    path: str

    @property
    def authority(self) -> bytes:
        """As a Host header has it."""
        host = self.target.host
        shown = f"[{host}]" if ":" in host else host
        port = "" if self.target.port == PORT_DEFAULT else f":{self.target.port}"
        return f"{shown}{port}".encode()


@dataclass(frozen=True)
class Key:
    """A credential. Its text is in no repr and so in no log."""

    kind: KeyKind
    text: bytes = field(repr=False)


def parse_site(url: str) -> Site:
    """Read `https://host[:port][/path]`. Raises NotASite."""
    found = _URL.search(url)
    if found is None:
        raise NotASite("the address is not https://host[:port][/path]")
    scheme, netloc, path = found.groups()
    if scheme != "https":
        raise NotASite("a key goes to https:// addresses only")
    try:
        return Site(_target(netloc), path)
    except NotATarget as fault:
        raise NotASite(str(fault)) from None


def _target(netloc: str) -> Target:
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        return Target(parse_host(netloc), PORT_DEFAULT)
    return Target(parse_host(host), parse_port(port))


def parse_key(kind: KeyKind, content: bytes) -> Key:
    """What a key file holds: one word. Raises NotAKey."""
    text = content.strip()
    if not text:
        raise NotAKey("it is empty")
    if len(text) > KEY_CHARS_MAX or not _KEY.search(text):
        raise NotAKey(f"it holds something else than one word of at most {KEY_CHARS_MAX} characters")
    return Key(kind, text)


def target_of(passage: Passage, site: Site) -> bytes:
    """The path that the API is asked for."""
    return (site.path + passage.target).encode("ascii")


def outward_headers(passage: Passage, site: Site, key: Key) -> Headers:
    """A request's headers as the API gets them: the agent's own that go on, framing, and the key.

    The reply is asked for uncompressed, so that what it says of limits can be read as it passes.
    """
    framing = (
        (b"transfer-encoding", b"chunked")
        if passage.length is None
        else (b"content-length", str(passage.length).encode())
    )
    own = ((b"host", site.authority), (b"accept-encoding", b"identity"), framing)
    match key.kind:
        case KeyKind.API_KEY:
            return (*own, *passage.headers, (b"x-api-key", key.text))
        case KeyKind.OAUTH:
            headers = _with_beta(passage.headers)
            return (*own, *headers, (b"authorization", b"Bearer " + key.text))


def _with_beta(headers: Headers) -> Headers:
    """With OAUTH_BETA among the features that the request asks for, once."""
    betas = [
        word.strip() for name, value in headers if name == b"anthropic-beta" for word in value.split(b",")
    ]
    others = tuple((name, value) for name, value in headers if name != b"anthropic-beta")
    wanted = dict.fromkeys([*filter(None, betas), OAUTH_BETA])
    return (*others, (b"anthropic-beta", b",".join(wanted)))
