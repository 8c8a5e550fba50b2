"""What the model socket passes on, for whatever bytes an agent sends: one clear request, or a refusal."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.head import BadHead, HeadReader, parse_head
from egressd.policy.passage import (
    BODY_BYTES_MAX,
    MODEL_HEAD_BYTES_MAX,
    PASSED_ON,
    NotOffered,
    Passage,
    passage_of,
    reply_headers,
)
from egressd.policy.site import Key, KeyKind, outward_headers, parse_site, target_of

SITE = parse_site("https://api.example.org/base")
KEY = Key(KeyKind.API_KEY, b"sk-real")
PIECES = st.sampled_from(
    [
        b"POST /v1/messages HTTP/1.1\r\n", b"GET /v1/models HTTP/1.1\r\n", b"POST ", b"/v1/messages", b" HTTP/1.1",
        b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n ", b"\t", b"\x00", b"\x0b", b":", b": ", b" ", b"Host: a\r\n",
        b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"content-length:5\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding:\tchunked\r\n", b"X-Api-Key: mine\r\n", b"Authorization: Bearer mine\r\n",
        b"Connection: close, X-Api-Key\r\n", b"Upgrade: h2c\r\n", b"anthropic-beta: a\r\n", b"0\r\n\r\n", b"\xff",
        b"?a=b", b"//", b"..", b"%2e", b"http://evil", b"x",
    ]
)  # fmt: skip


def read(data: bytes) -> Passage | None:
    reader = HeadReader(MODEL_HEAD_BYTES_MAX)
    raw = reader.feed(data)
    return None if raw is None else passage_of(parse_head(raw))


@given(st.lists(PIECES, max_size=14).map(b"".join) | st.binary(max_size=300))
def test_whatever_comes_only_a_clear_request_goes_on(data: bytes) -> None:
    try:
        found = read(data)
    except (BadHead, NotOffered):
        return
    if found is None:
        return
    assert any(method == found.method and target.search(found.target) for method, target in PASSED_ON)
    request = h11.Request(
        method=found.method, target=target_of(found, SITE), headers=list(outward_headers(found, SITE, KEY))
    )
    sent = h11.Connection(h11.CLIENT).send(request)
    assert sent is not None
    assert b"mine" not in sent
    lines = [line.lower() for line in sent.split(b"\r\n")]
    assert lines.count(b"host: api.example.org") == 1
    framing = [line for line in lines if line.startswith((b"content-length:", b"transfer-encoding:"))]
    assert len(framing) == 1
    assert lines.count(b"x-api-key: sk-real") == 1
    assert sent.count(b"\r\n\r\n") == 1


def test_a_length_that_is_said_has_a_bound() -> None:
    head = f"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n".encode()
    with pytest.raises(BadHead) as caught:
        read(head)
    assert caught.value.status == 413


def test_headers_that_only_look_harmless_stay_behind() -> None:
    names = (
        "Anthropic-Api-Key",
        "anthropic-organization-token",
        "X-Stainless-Secret",
        "X-Claude-Code-Authorization",
    )
    lines = "".join(f"{name}: mine\r\n" for name in (*names, "Forwarded", "Via", "Origin", "Range"))
    found = read(f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{lines}anthropic-version: 1\r\n\r\n".encode())
    assert found is not None
    assert found.headers == ((b"anthropic-version", b"1"),)


def test_a_reply_keeps_what_is_its_own() -> None:
    said = (
        (b"connection", b"close, X-Private"), (b"x-private", b"1"), (b"retry-after", b"5"), (b"set-cookie", b"a=b"),
        (b"content-length", b"2"), (b"transfer-encoding", b"chunked"), (b"www-authenticate", b"Basic"),
    )  # fmt: skip
    assert reply_headers(said) == ((b"retry-after", b"5"), (b"content-length", b"2"))
