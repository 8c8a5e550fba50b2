"""The roster in memory: what agents have in common is there once, and each agent's settings are its own."""

from msgspec import json
from msgspec.structs import replace

from brokerd.store.agents import Known
from brokerd.swarm.roster import VALUES_SHARED_MAX, Roster
from protocol.settings import AgentSettings, CageLimits, McpServer, StandingReminder

ROUNDS = StandingReminder("rounds", "make your rounds", every_s=3_600)


def told(name: str, settings: AgentSettings) -> Known:
    """As it comes from privd: every value anew."""
    return Known(name, 1_000, json.decode(json.encode(replace(settings, name=name)), type=AgentSettings))


def test_what_agents_have_in_common_is_there_once() -> None:
    settings = AgentSettings(
        "any",
        model="sonnet",
        limits=CageLimits(tasks_max=700),
        reminders=(ROUNDS,),
        egress_hosts=("a.example:443",),
    )
    roster = Roster()
    iris, otto = (roster.know(told(name, settings)).settings for name in ("iris", "otto"))
    for setting in ("model", "limits", "reminders", "egress_hosts"):
        assert getattr(iris, setting) is getattr(otto, setting)
    assert (iris, otto) == (replace(settings, name="iris"), replace(settings, name="otto"))


def test_settings_that_are_shared_change_for_one_agent_alone() -> None:
    roster = Roster()
    for name in ("iris", "otto"):
        roster.know(told(name, AgentSettings(name, allowed_recipients=("iris", "otto"))))
    roster.know(
        told("iris", AgentSettings("iris", allowed_recipients=("otto",), limits=CageLimits(tasks_max=64)))
    )
    assert roster.of("iris").settings.allowed_recipients == ("otto",)
    assert roster.of("iris").settings.limits.tasks_max == 64
    assert roster.of("otto").settings == AgentSettings("otto", allowed_recipients=("iris", "otto"))


def test_none_empty_and_what_only_looks_alike_stay_apart() -> None:
    """Of more agents than values are shared by, too."""
    roster = Roster()
    every = [
        AgentSettings(
            f"a{number}",
            model=("haiku", "agent", "default")[number % 3],
            account=("default", "haiku")[number % 2],
            allowed_recipients=(None, (), (f"a{number}",))[number % 3],
            allowed_commands=((), None)[number % 2],
            environment={"NUMBER": str(number)},
            mcp_servers={"one": McpServer((f"/bin/{number}",))},
        )
        for number in range(VALUES_SHARED_MAX * 2)
    ]
    for settings in every:
        roster.know(told(settings.name, settings))
    assert [known.settings for known in roster.all()] == every
    assert all(type(known.settings.model) is str for known in roster.all())
