"""Whose uid may use a cage's way out."""

from egressd.policy.admission import cage_uids
from protocol.privd import Cage, Power
from protocol.settings import AgentSettings


def cage(harness_uid: int, agent_uid: int) -> Cage:
    return Cage("iris", Power.RUNNING, 0, "nspawn", harness_uid, agent_uid, AgentSettings("iris"))


def test_a_cage_with_a_range_admits_the_whole_range() -> None:
    uids = cage_uids(cage(harness_uid=655_360 + 1001, agent_uid=655_360 + 1000))
    assert uids == range(655_360, 655_360 + 65_536)
    assert 655_359 not in uids
    assert 0 not in uids


def test_a_cage_of_one_user_admits_that_user_alone() -> None:
    assert list(cage_uids(cage(harness_uid=1000, agent_uid=1000))) == [1000]
