"""Agents made in privd's own process, without a proposal: for tests of what becomes of them."""

from privd.host import Host
from privd.policy.agents import role_of
from protocol.privd import Cage
from protocol.settings import MODEL_DEFAULT, AgentSettings


def plain(name: str, host: Host) -> AgentSettings:
    """What the plain template says, in a hive with these settings."""
    return AgentSettings(
        name=name,
        role=role_of(name),
        runner=host.settings.runner,
        model=MODEL_DEFAULT,
        credential=host.settings.credential,
        limits=host.settings.limits,
        api_base_url=host.settings.model_api.base_url,
    )


async def make(host: Host, name: str) -> Cage:
    """An agent whose cage is stopped."""
    return await host.make(plain(name, host))
