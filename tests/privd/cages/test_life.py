"""How cages begin and end: stop, kill, crash, lost supervisor, privd or record. Nothing may be left, nor doubled."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.privd.cages.hive import PYTHON, Hive, until

pytestmark = [pytest.mark.cage, pytest.mark.root]

SLEEPER = "from subprocess import *; Popen(['sleep', '1000'], stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)"
KILLED = {"how": "signal", "code": 9}
UNSEEN = {"how": "unknown", "code": 0}


def nothing_is_left(hive: Hive, agent: str = "iris") -> None:
    hive.until_all_ended()
    assert hive.driver.do("locked", agent=agent) is False
    assert not (hive.layout.cages / agent / "running.json").exists()
    assert hive.groups() == []


def works(hive: Hive) -> None:
    """A fresh cage can be started and stopped."""
    inside = hive.enter()
    assert inside.harness("value = 1") == 1
    hive.driver.do("kill", agent="iris")
    nothing_is_left(hive)


class TestStop:
    def test_the_harness_may_finish(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="finish")
        assert hive.driver.do("stop", agent="iris", grace_s=20) == {"how": "exit", "code": 7}
        assert "stand-in: finished\n" in hive.journal()
        nothing_is_left(hive)

    def test_one_that_will_not_end_is_ended(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="ignore")
        inside.agent(SLEEPER)
        assert hive.driver.do("stop", agent="iris", grace_s=0.3) == KILLED
        assert "stand-in: asked to stop\n" in hive.journal()
        nothing_is_left(hive)

    def test_kill(self, hive: Hive) -> None:
        hive.start()
        assert hive.driver.do("kill", agent="iris") == KILLED
        nothing_is_left(hive)

    def test_stopping_what_has_ended_says_how_it_ended(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="finish")
        first = hive.driver.do("stop", agent="iris", grace_s=20)
        assert hive.driver.do("stop", agent="iris", grace_s=20) == first
        assert hive.driver.do("kill", agent="iris") == first
        assert hive.driver.do("wait", agent="iris") == first

    def test_it_starts_again(self, hive: Hive) -> None:
        works(hive)
        works(hive)


class TestRebuild:
    def test_the_root_is_made_anew_and_what_the_agent_has_stays(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.agent("open('/agents/iris/state/notes.md', 'w').write('mine')")
        inside.harness("open('/agents/iris/harness/kept', 'w').write('the harness')")
        hive.driver.do("kill", agent="iris")
        root = hive.layout.cages / "iris" / "root"
        (root / "etc/hyperhive/agent.json").write_text('{"name": "stale"}')
        (root / "usr" / "left-over").mkdir()
        os.chown(root / "usr" / "left-over", hive.uid, hive.uid)
        assert "agent.json is not what is deployed" in hive.driver.do("fault", agent="iris")
        hive.driver.do("clear", agent="iris")
        assert not root.exists()
        inside = hive.enter()
        assert hive.driver.do("fault", agent="iris") is None
        assert (
            inside.agent("import json; value = json.load(open('/etc/hyperhive/agent.json'))['name']")
            == "iris"
        )
        assert inside.agent("import os; value = os.path.exists('/usr/left-over')") is False
        assert not (root / "usr" / "left-over").exists()
        assert inside.agent("value = open('/agents/iris/state/notes.md').read()") == "mine"
        assert inside.harness("value = open('/agents/iris/harness/kept').read()") == "the harness"
        assert hive.journal()

    def test_a_running_cage_keeps_its_root(self, hive: Hive) -> None:
        inside = hive.enter()
        answer = hive.driver.ask("clear", agent="iris")
        assert answer["problem"] == "conflict"
        assert inside.agent("import os; value = os.path.exists('/etc/hyperhive/agent.json')")


class TestCrash:
    @pytest.mark.parametrize(
        ("source", "code"), [("import os; os._exit(3)", 3), ("import os; os.kill(os.getpid(), 11)", 128 + 11)]
    )
    def test_the_harness_ends(self, hive: Hive, source: str, code: int) -> None:
        hive.start(harness=(PYTHON, "-I", "-c", source))
        assert hive.driver.do("wait", agent="iris") == {"how": "exit", "code": code}
        assert "init: the harness ended" in hive.journal()
        nothing_is_left(hive)

    def test_a_harness_that_is_not_there(self, hive: Hive) -> None:
        hive.start(harness=("/usr/bin/no-such-harness",))
        assert hive.driver.do("wait", agent="iris") == {"how": "exit", "code": 71}
        assert "init: cannot run /usr/bin/no-such-harness" in hive.journal()
        nothing_is_left(hive)

    def test_the_agent_ends_all_that_is_its_own(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="finish")
        inside.send(agent="import os; os.kill(os.getppid(), 9)")
        assert hive.driver.do("wait", agent="iris") == {"how": "exit", "code": 70}
        assert "init: the spawner was lost" in hive.journal()
        assert "stand-in: finished\n" in hive.journal()
        nothing_is_left(hive)

    def test_init_is_killed_from_outside(self, hive: Hive) -> None:
        started = hive.start()
        os.kill(started["leader"], signal.SIGKILL)
        assert hive.driver.do("wait", agent="iris")["code"] in {9, 1, 137}
        nothing_is_left(hive)

    def test_a_killed_supervisor_leaves_no_orphan(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.agent(SLEEPER)
        os.kill(hive.record()["supervisor"]["pid"], signal.SIGKILL)
        hive.driver.do("wait", agent="iris")
        nothing_is_left(hive)
        works(hive)


class TestStart:
    def test_a_missing_folder_is_told(self, hive: Hive) -> None:
        answer = hive.driver.ask("start", agent="iris", environment=str(hive.folder / "nowhere"))
        assert answer["problem"] == "failed"
        assert "nowhere" in answer["detail"]
        nothing_is_left(hive)
        works(hive)

    def test_an_init_that_is_no_init_is_told(self, hive: Hive) -> None:
        answer = hive.driver.ask("start", agent="iris", init=("/usr/bin/false",))
        assert answer["problem"] == "failed"
        nothing_is_left(hive)

    def test_a_folder_that_became_a_link_is_refused(self, hive: Hive) -> None:
        works(hive)
        state = hive.folder / "agents/iris/state"
        state.rmdir()
        secret = hive.folder / "secret"
        secret.mkdir()
        state.symlink_to(secret)
        before = secret.stat()
        answer = hive.driver.ask("start", agent="iris")
        assert (answer["problem"], "not a real folder" in answer["detail"]) == ("failed", True)
        assert (secret.stat().st_uid, secret.stat().st_mode) == (before.st_uid, before.st_mode)
        nothing_is_left(hive)

    def test_remove_leaves_what_others_put_there(self, hive: Hive) -> None:
        works(hive)
        (hive.layout.cages / "iris" / "agent.json").write_text("{}")
        assert hive.driver.do("remove", agent="iris") == ["agent.json"]
        works(hive)

    def test_a_running_cage_is_not_removed(self, hive: Hive) -> None:
        hive.start()
        assert hive.driver.ask("remove", agent="iris")["problem"] == "conflict"


class TestTogether:
    def test_many_may_wait_for_one_end(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="finish")
        assert hive.driver.do("stop_while_others_wait", agent="iris") == [{"how": "exit", "code": 7}] * 4
        nothing_is_left(hive)

    def test_many_cages_start_at_once(self, hive: Hive) -> None:
        agents = [f"agent{number}" for number in range(6)]
        hive.driver.do("start_all", agents=agents)
        assert len({hive.record(agent)["leader"]["pid"] for agent in agents}) == len(agents)
        for agent in agents:
            assert hive.driver.do("kill", agent=agent) == KILLED
        nothing_is_left(hive, "agent0")

    @pytest.mark.parametrize("after_ms", [0, 10, 30, 60])
    def test_a_start_that_is_given_up_leaves_nothing(self, hive: Hive, after_ms: int) -> None:
        if hive.driver.do("start_and_give_up", agent="iris", after_ms=after_ms):
            nothing_is_left(hive)
            works(hive)
        else:
            hive.driver.do("kill", agent="iris")

    def test_no_moment_of_a_start_leaves_what_nobody_can_end(self, hive: Hive) -> None:
        """Bubblewrap that is killed alone leaves a child that waits for it for ever, hidden from an ordinary user."""
        for after_ms in range(4, 84, 4):
            if not hive.driver.do("start_and_give_up", agent="iris", after_ms=after_ms):
                hive.driver.do("kill", agent="iris")
        nothing_is_left(hive)

    def test_no_descriptor_stays_behind(self, hive: Hive) -> None:
        works(hive)
        before = hive.driver.descriptors()
        for _ in range(3):
            works(hive)
            hive.driver.ask("start", agent="iris", environment=str(hive.folder / "nowhere"))
            hive.driver.do("start_and_give_up", agent="iris", after_ms=10)
            hive.driver.do("adopt", agent="iris")
        assert hive.driver.descriptors() == before

    def test_a_cage_that_was_let_go_runs_on(self, hive: Hive) -> None:
        inside = hive.enter()
        before = hive.driver.descriptors()
        hive.driver.do("let_go", agent="iris")
        assert hive.driver.descriptors() == before - 2
        assert inside.harness("value = 1") == 1
        assert hive.driver.do("adopt", agent="iris") is not None
        assert hive.driver.do("kill", agent="iris") == KILLED
        nothing_is_left(hive)


class TestLostPrivd:
    def test_the_cage_lives_on_and_is_adopted(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="finish")
        hive.lose_driver()
        assert inside.harness("value = 1") == 1
        assert hive.driver.ask("start", agent="iris")["problem"] == "conflict"
        adopted = hive.driver.do("adopt", agent="iris")
        assert adopted["leader"] == hive.record()["leader"]["pid"]
        assert adopted["base"] == {"hyperhive": hive.layout.environment.resolve().name}
        assert inside.harness("value = 2") == 2
        ended = hive.driver.do("stop", agent="iris", grace_s=20)
        assert ended in ({"how": "exit", "code": 7}, {"how": "unknown", "code": 0})
        assert "stand-in: finished\n" in hive.journal()
        nothing_is_left(hive)

    def test_adoption_twice_over(self, hive: Hive) -> None:
        inside = hive.enter()
        for _ in range(3):
            hive.lose_driver()
            assert hive.driver.do("adopt", agent="iris") is not None
        assert inside.harness("value = 1") == 1
        assert hive.driver.do("kill", agent="iris") == KILLED
        nothing_is_left(hive)

    def test_an_adopted_cage_whose_supervisor_is_killed(self, hive: Hive) -> None:
        hive.enter()
        hive.lose_driver()
        hive.driver.do("adopt", agent="iris")
        os.kill(hive.record()["supervisor"]["pid"], signal.SIGKILL)
        hive.driver.do("wait", agent="iris")
        nothing_is_left(hive)

    def test_nothing_to_adopt(self, hive: Hive) -> None:
        assert hive.driver.do("adopt", agent="iris") is None
        works(hive)
        assert hive.driver.do("adopt", agent="iris") is None

    def test_it_ended_meanwhile(self, hive: Hive) -> None:
        started = hive.start()
        hive.driver.die()
        os.kill(started["leader"], signal.SIGKILL)
        hive.until_all_ended()
        hive.driver = hive.new_driver()
        assert hive.driver.do("adopt", agent="iris") == UNSEEN
        assert hive.driver.do("adopt", agent="iris") is None, "it is told once"
        nothing_is_left(hive)
        works(hive)

    def test_it_ended_meanwhile_as_it_was_asked_to(self, hive: Hive) -> None:
        inside = hive.enter()
        inside.ask(on_stop="ignore")
        hive.driver.send("stop", agent="iris", grace_s=60)
        until(lambda: "stand-in: asked to stop\n" in hive.journal(), "the request to stop")
        hive.driver.die()
        os.kill(hive.record()["leader"]["pid"], signal.SIGKILL)
        hive.until_all_ended()
        hive.driver = hive.new_driver()
        assert hive.driver.do("adopt", agent="iris") is None
        nothing_is_left(hive)

    def test_the_supervisor_was_killed_meanwhile(self, hive: Hive) -> None:
        inside = hive.enter()
        hive.driver.die()
        os.kill(hive.record()["supervisor"]["pid"], signal.SIGKILL)
        assert inside.harness("value = 1") == 1, "the orphan lives until somebody ends it"
        hive.driver = hive.new_driver()
        assert hive.driver.ask("start", agent="iris")["problem"] == "conflict"
        assert hive.driver.do("adopt", agent="iris") == UNSEEN
        nothing_is_left(hive)
        works(hive)

    @pytest.mark.parametrize("damage", ["unlink", "garbage", "another boot", "another process"])
    def test_without_a_record_that_explains_it_a_cage_is_ended(self, hive: Hive, damage: str) -> None:
        hive.enter()
        record = hive.layout.cages / "iris" / "running.json"
        hive.driver.die()
        match damage:
            case "unlink":
                record.unlink()
            case "garbage":
                record.write_text('{"boot": 7')
            case "another boot":
                record.write_text(record.read_text().replace(hive.record()["boot"], "0" * 36))
            case "another process":
                ticks = hive.record()["leader"]["start_ticks"]
                record.write_text(
                    record.read_text().replace(f'"start_ticks":{ticks}', f'"start_ticks":{ticks + 1}')
                )
        hive.driver = hive.new_driver()
        assert hive.driver.do("adopt", agent="iris") == (UNSEEN if damage == "another process" else None)
        hive.until_all_ended()
        works(hive)

    @pytest.mark.parametrize("after_ms", [1, 20, 45, 70, 100, 150])
    def test_privd_dies_while_a_cage_starts(self, hive: Hive, after_ms: int) -> None:
        """At any moment of the start: what is there afterwards is whole and adopted, or ended."""
        hive.driver.do("locked", agent="iris")
        hive.driver.send("start", agent="iris")
        threading.Event().wait(after_ms / 1000)
        hive.lose_driver()
        adopted = hive.driver.do("adopt", agent="iris")
        if adopted is None:
            hive.until_all_ended()
            works(hive)
        else:
            inside = hive.entered()
            assert inside.harness("value = 1") == 1
            hive.driver.do("kill", agent="iris")
            nothing_is_left(hive)


class TestNeverTwo:
    def test_two_privds_start_the_same_cage(self, hive: Hive) -> None:
        other = hive.new_driver()
        try:
            for driver in (hive.driver, other):
                driver.do("locked", agent="iris")
            for driver in (hive.driver, other):
                driver.send("start", agent="iris")
            answers: list[dict[str, Any]] = [hive.driver.answer(), other.answer()]
            assert sorted("problem" in answer for answer in answers) == [False, True]
            assert next(answer["problem"] for answer in answers if "problem" in answer) == "conflict"
            inits = [
                pid
                for pid in hive.processes()
                if b"harness.init" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            leader = hive.record()["leader"]["pid"]
            assert [pid for pid in inits if f"\t{pid}\t1\n" in Path(f"/proc/{pid}/status").read_text()] == [
                leader
            ]
            (hive.driver if "value" in answers[0] else other).do("kill", agent="iris")
        finally:
            other.die()
        nothing_is_left(hive)

    def test_the_lock_goes_with_the_last_process(self, hive: Hive) -> None:
        hive.start()
        leader, supervisor = (hive.record()[name]["pid"] for name in ("leader", "supervisor"))
        hive.driver.die()
        hive.driver = hive.new_driver()
        assert hive.driver.do("locked", agent="iris") is True
        os.kill(supervisor, signal.SIGKILL)
        assert hive.driver.do("locked", agent="iris") is True
        os.kill(leader, signal.SIGKILL)
        until(lambda: hive.driver.do("locked", agent="iris") is False, "the end of the lock")
