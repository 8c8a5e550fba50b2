"""Who a peer is: from the kernel's word for its uid, and nothing else."""

import pytest

from brokerd.policy.admission import agent_caller
from protocol.rpc import Caller, Role
from protocol.settings import AgentRole


@pytest.mark.parametrize(
    ("role", "expected"), [(AgentRole.AGENT, Role.AGENT), (AgentRole.MANAGER, Role.MANAGER)]
)
def test_a_harness_is_its_agent(role: AgentRole, expected: Role) -> None:
    assert agent_caller(70_001, agent="iris", harness_uid=70_001, role=role) == Caller(
        expected, 70_001, "iris"
    )


@pytest.mark.parametrize("uid", [0, 70_000, 70_002, 135_537])
def test_nobody_else_is_let_in_at_an_agents_socket(uid: int) -> None:
    assert agent_caller(uid, agent="iris", harness_uid=70_001, role=AgentRole.AGENT) is None
