"""Where keys may go, and what a key file may hold."""

import pytest

from egressd.policy.site import Key, KeyKind, NotAKey, NotASite, parse_key, parse_site
from egressd.policy.target import Target


@pytest.mark.parametrize(
    ("url", "target", "path", "authority"),
    [
        ("https://api.anthropic.com", Target("api.anthropic.com", 443), "", b"api.anthropic.com"),
        (
            "https://API.example.org:8443/a/b/",
            Target("api.example.org", 8443),
            "/a/b",
            b"api.example.org:8443",
        ),
        ("https://192.0.2.1/x", Target("192.0.2.1", 443), "/x", b"192.0.2.1"),
        ("https://[2001:DB8::1]:9/", Target("2001:db8::1", 9), "", b"[2001:db8::1]:9"),
        ("https://[::1]", Target("::1", 443), "", b"[::1]"),
    ],
)
def test_sites(url: str, target: Target, path: str, authority: bytes) -> None:
    site = parse_site(url)
    assert (site.target, site.path, site.authority) == (target, path, authority)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.anthropic.com", "https://", "https://user@example.org", "https://example.org?x=1", "https://a/#b",
        "https://127.1/", "https://example.org:0", "https://exa mple.org", "https://example.org/a b",
        "https://example.org/\r\nX: 1", "https://example.org/x\n", "https://a/../b c",
        "ftp://example.org", "https://[::1", "example.org",
    ],
)  # fmt: skip
def test_no_key_goes_elsewhere(url: str) -> None:
    with pytest.raises(NotASite):
        parse_site(url)


def test_a_key_is_one_word_and_never_shown() -> None:
    key = parse_key(KeyKind.OAUTH, b"  sk-ant-secret\n")
    assert key == Key(KeyKind.OAUTH, b"sk-ant-secret")
    assert "secret" not in repr(key)


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two words", b"a\nb", b"\x00", "schl\u00fcssel".encode(), b"x" * 5000]
)
def test_what_is_no_key(content: bytes) -> None:
    with pytest.raises(NotAKey) as caught:
        parse_key(KeyKind.API_KEY, content)
    assert content[:10].decode("latin-1") not in str(caught.value) or not content.strip()
