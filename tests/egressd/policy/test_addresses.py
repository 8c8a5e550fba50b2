"""Addresses that no name may lead to, in every disguise that a resolver can give them."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egressd.policy.addresses import address_fault

IPV4 = st.integers(0, 2**32 - 1).map(IPv4Address)
IPV6 = st.integers(0, 2**128 - 1).map(IPv6Address)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12:3456::1", "private"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("169.254.169.254", "a metadata service"),
        ("fd00:ec2::254", "a metadata service"),
        ("168.63.129.16", "a metadata service"),
        ("100.100.100.200", "a metadata service"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("192.0.2.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),
        ("100::1", "reserved"),
        ("5f00::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "a metadata service"),
        ("64:ff9b::10.0.0.1", "private"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::1", "a metadata service"),
    ],
)
def test_inside_addresses_have_a_kind(address: str, kind: str) -> None:
    assert address_fault(ip_address(address)) == kind


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"],
)
def test_public_addresses_pass(address: str) -> None:
    assert address_fault(ip_address(address)) is None
    assert address_fault(ip_address(address), own=True) == "this machine's own"


@given(IPV4)
def test_no_disguise_changes_the_verdict_on_an_ipv4_address(address: IPv4Address) -> None:
    verdict = address_fault(address)
    number = int(address)
    assert address_fault(IPv6Address((0xFFFF << 32) | number)) == verdict
    assert address_fault(IPv6Address((0x64_FF9B << 96) | number)) == verdict
    assert address_fault(IPv6Address((0x2002 << 112) | (number << 80))) == verdict


@given(st.one_of(IPV4, IPV6))
def test_what_the_standard_library_calls_inside_is_never_public(address: IPv4Address | IPv6Address) -> None:
    inside = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if inside:
        assert address_fault(address) is not None
    if isinstance(address, IPv4Address) and address.is_private:
        assert address_fault(address) is not None
