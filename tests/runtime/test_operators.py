"""Who is the operator: root, listed uids, members of one group; nobody else."""

import grp
import os
import pwd

import pytest

from protocol.rpc import Caller, Role
from runtime.operators import is_member, operator_socket, operators
from runtime.sockets import Ownership

NOBODY = 3_999_999_999
"""A uid that no account has."""


def test_root_and_the_listed_are_operators() -> None:
    admit = operators((1234,), None)
    assert admit(0) == Caller(Role.OPERATOR, 0)
    assert admit(1234) == Caller(Role.OPERATOR, 1234)
    assert admit(1235) is None


def test_members_of_the_group_are_operators() -> None:
    account = pwd.getpwnam("daemon")
    assert operators((), account.pw_gid)(account.pw_uid) == Caller(Role.OPERATOR, account.pw_uid)
    assert operators((), account.pw_gid + 1)(account.pw_uid) is None


@pytest.mark.parametrize("gid", [None, 0, os.getgid()])
def test_a_uid_without_an_account_is_nobody(gid: int | None) -> None:
    assert operators((), gid)(NOBODY) is None


def test_a_group_that_is_not_there_has_no_members() -> None:
    gid = next(
        number for number in range(60_000, 65_000) if number not in {one.gr_gid for one in grp.getgrall()}
    )
    assert not is_member(pwd.getpwnam("daemon").pw_uid, gid)


def test_the_kernel_helps_when_there_is_a_group() -> None:
    assert operator_socket(1000) == Ownership(0o660, gid=1000)
    assert operator_socket(None) == Ownership(0o666)
