"""Where an agent may go: exact ports, sub-domains only below a wildcard, nothing by default."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.scope import Scope, parse_rule, scope_of
from egressd.policy.target import NotATarget, Target, parse_target

LABELS = st.from_regex(r"\A[a-z][a-z0-9]{0,8}\Z")
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PORTS = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("pattern", "admitted", "refused"),
    [
        ("example.org", ["example.org:443"], ["example.org:80", "www.example.org:443", "xexample.org:443"]),
        ("Example.ORG", ["example.org:443", "EXAMPLE.org:443"], []),
        ("example.org:8443", ["example.org:8443"], ["example.org:443"]),
        (
            "*.example.org",
            ["a.example.org:443", "a.b.example.org:443"],
            ["example.org:443", "badexample.org:443", "a.example.org:80", "a.example.org.evil.net:443"],
        ),
        ("*.example.org:99", ["a.example.org:99"], ["a.example.org:443"]),
        ("192.0.2.1", ["192.0.2.1:443"], ["192.0.2.11:443", "192.0.2.1:80"]),
        ("[2001:db8::1]:99", ["[2001:db8:0::1]:99"], ["[2001:db8::2]:99", "[2001:db8::1]:443"]),
        ("[::1]", ["[::1]:443"], ["127.0.0.1:443"]),
        ("*.org", ["example.org:443"], ["192.0.2.1:443"]),
    ],
)
def test_a_rule_admits_what_it_says(pattern: str, admitted: list[str], refused: list[str]) -> None:
    rule = parse_rule(pattern)
    assert [text for text in admitted if not rule.admits(parse_target(text))] == []
    assert [text for text in refused if rule.admits(parse_target(text))] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "*.",
        "example.org:0",
        "example.org:99999",
        "*.1.2.3.4",
        "*.127.0.0.1",
        "127.1",
        "*.[::1]",
        "a:b:c",
        "[::1]:",
    ],
)
def test_an_entry_that_could_never_match_is_a_fault(pattern: str) -> None:
    with pytest.raises(NotATarget):
        parse_rule(pattern)


def test_faulty_entries_are_named_and_admit_nothing() -> None:
    scope, faults = scope_of(["example.org", "*.1.2.3.4", "bad\u202ename"])
    assert [rule.host for rule in scope.rules] == ["example.org"]
    assert len(faults) == 2
    assert faults[1].startswith(r"'bad\u202ename': ")


@given(NAMES, PORTS)
def test_an_empty_scope_is_nowhere(host: str, port: int) -> None:
    assert not Scope().admits(Target(host, port))
    assert not scope_of([])[0].admits(Target(host, port))


@given(st.lists(NAMES, max_size=4), NAMES, PORTS)
def test_literal_entries_admit_exactly_themselves(listed: list[str], host: str, port: int) -> None:
    scope, faults = scope_of(listed)
    assert faults == ()
    assert scope.admits(Target(host, port)) == (port == 443 and host in listed)


@given(NAMES, NAMES, PORTS)
def test_a_wildcard_admits_below_and_never_itself_or_beside(below: str, host: str, port: int) -> None:
    rule = parse_rule(f"*.{host}:{port}")
    assert rule.admits(Target(f"{below}.{host}", port))
    assert not rule.admits(Target(host, port))
    assert not rule.admits(Target(f"{below}{host}", port)) or f"{below}{host}".endswith(f".{host}")
    assert not rule.admits(Target(f"{below}.{host}", port % 65535 + 1))
