"""Who a peer at an agent's socket is, from its uid alone. The operator's socket is runtime.operators'."""

from protocol.rpc import Caller, Role
from protocol.settings import AgentRole


def agent_caller(uid: int, *, agent: str, harness_uid: int, role: AgentRole) -> Caller | None:
    """That cage's harness and nobody else, root neither."""
    if uid != harness_uid:
        return None
    return Caller(Role.MANAGER if role is AgentRole.MANAGER else Role.AGENT, uid, agent)
