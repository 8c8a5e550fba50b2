"""What `status` says of agents and threads that wait for the operator."""

from hivectl.status import limited_line, parked_line, stale_lines, state_of
from protocol.brokerd import Activity, Agent, AgentNow, ParkedThread
from protocol.limited import ModelAccount
from protocol.privd import Cage, Power
from protocol.settings import AgentRole, AgentSettings


def cage(power: Power, stale: str = "", agent: str = "iris") -> Cage:
    return Cage(agent, power, 1, "nspawn", 1, 2, AgentSettings(agent), stale=stale)


def now(activity: Activity, *, paused: bool = False, model: str | None = None) -> AgentNow:
    return AgentNow(Agent("iris", AgentRole.AGENT, activity, 1, paused=paused, model=model), 0, ())


def test_a_paused_agent_says_so_beside_what_it_does() -> None:
    assert state_of(cage(Power.RUNNING), now(Activity.IDLE)) == "idle"
    assert state_of(cage(Power.RUNNING), now(Activity.IDLE, paused=True)) == "idle, paused"
    assert state_of(cage(Power.RUNNING), now(Activity.THINKING, paused=True)) == "thinking, paused"
    assert state_of(cage(Power.STOPPED), now(Activity.ABSENT, paused=True)) == "stopped"


def test_a_model_that_the_operator_chose_stands_beside_it() -> None:
    assert state_of(cage(Power.RUNNING), now(Activity.IDLE, model="opus")) == "idle, with opus"
    assert (
        state_of(cage(Power.RUNNING), now(Activity.IDLE, paused=True, model="opus"))
        == "idle, paused, with opus"
    )


def test_a_parked_thread_says_what_happened_and_what_can_be_done() -> None:
    assert parked_line(ParkedThread(12, ("atlas", "iris"), 41, 3, 0)) == (
        "⚠ atlas, iris wrote 41 messages in a row: thread 12 holds 3 deliveries; "
        "`release 12` lets it go on, `close-thread 12` gives them up"
    )
    assert "holds 1 delivery;" in parked_line(ParkedThread(12, ("atlas", "iris"), 41, 1, 0))


def test_a_limited_account_says_whom_it_holds_and_what_can_be_done() -> None:
    said = limited_line(ModelAccount("night", limited_until_ms=1, held=("hm1nd", "iris")))
    assert said.startswith("⚠ account night: limited until ")
    assert said.endswith("; held: hm1nd, iris; `resume-account night` takes the limit for over")


def test_stale_cages_say_why_and_what_can_be_done() -> None:
    assert stale_lines((cage(Power.RUNNING),)) == []
    rows = (cage(Power.RUNNING, "host was a, is b\x1b", "ada"), cage(Power.RUNNING, "host was a, is b"))
    assert stale_lines(rows) == [
        "⚠ 2 cages are stale (ada, iris): host was a, is b\\x1b; `rebuild-all` makes what runs anew"
    ]
    assert stale_lines(rows[1:])[0].startswith("⚠ 1 cage is stale (iris): ")
