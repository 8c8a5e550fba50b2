"""Hosts and ports: one spelling, and nothing that a resolver would read as an address in disguise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.target import NotATarget, Target, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("example.org:443", Target("example.org", 443)),
        ("EXAMPLE.org:443", Target("example.org", 443)),
        ("a_b.example.org:8443", Target("a_b.example.org", 8443)),
        ("xn--bcher-kva.example:443", Target("xn--bcher-kva.example", 443)),
        ("192.0.2.1:65535", Target("192.0.2.1", 65535)),
        ("[2001:DB8:0:0::1]:1", Target("2001:db8::1", 1)),
        ("localhost:80", Target("localhost", 80)),
    ],
)
def test_a_target_has_one_spelling(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("example.org", "write host:port"),
        ("", "write host:port"),
        (":443", "0 characters"),
        ("example.org:", "port"),
        ("example.org:0", "port"),
        ("example.org:65536", "port"),
        ("example.org:0443", "port"),
        ("example.org:+443", "port"),
        ("example.org:４４３", "port"),
        ("example.org.:443", "decimal numbers|neither"),
        (".example.org:443", "neither"),
        ("a..b:443", "neither"),
        ("-a.example.org:443", "neither"),
        ("a-.example.org:443", "neither"),
        ("user@example.org:443", "neither"),
        ("example.org/x:443", "neither"),
        ("example.org%00:443", "neither"),
        ("bücher.example:443", "xn--"),
        ("a" * 64 + ".org:443", "neither"),
        ("a." * 127 + "org:443", "257 characters"),
        ("127.1:443", "four decimal numbers"),
        ("2130706433:443", "four decimal numbers"),
        ("0x7f.0.0.1:443", "four decimal numbers"),
        ("127.0.0.0x1:443", "four decimal numbers"),
        ("0177.0.0.1:443", "four decimal numbers"),
        ("127.0.0.1.:443", "neither"),
        ("host.0x:443", "four decimal numbers"),
        ("::1:443", "neither|decimal"),
        ("[::1:443", "brackets"),
        ("[::1%lo]:443", "brackets"),
        ("[127.0.0.1]:443", "brackets"),
        ("[example.org]:443", "brackets"),
    ],
)
def test_what_is_no_target_says_why(text: str, reason: str) -> None:
    with pytest.raises(NotATarget, match=reason):
        parse_target(text)


@given(st.text(max_size=80))
def test_any_text_is_a_target_or_is_refused(text: str) -> None:
    try:
        target = parse_target(text)
    except NotATarget as fault:
        assert str(fault).isascii()  # noqa: PT017 — either way out is right
        return
    assert parse_target(str(target)) == target
    assert target.host.isascii()
    assert target.host == target.host.lower()
    assert 1 <= target.port <= 65535
