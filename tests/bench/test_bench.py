"""The benchmarks: explained, pinned apart from the product, and honest about ratios. Their figures are not tested."""

import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from bench import measure, ways
from bench.measure import Variant

CHECKOUT = Path(__file__).parents[2]
BENCH = CHECKOUT / "bench"
SCRIPTS = sorted(re.findall(r"\w+", re.findall(r"\|\| scripts=\((.*)\)", (BENCH / "run").read_text())[0]))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_run_and_is_explained(script: str) -> None:
    module = importlib.import_module(f"bench.{script}")
    assert callable(module.main)
    assert re.match(r"P\d", module.__doc__ or "")
    assert f"| `{script}.py` |" in (BENCH / "README.md").read_text()


def test_every_script_with_a_table_is_run_by_default() -> None:
    tables = {path.stem for path in BENCH.glob("*.py") if re.match(r'"""P\d', path.read_text())}
    assert tables == set(SCRIPTS)


def test_the_references_are_pinned_and_hashed_and_not_the_products() -> None:
    lines = (BENCH / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if "==" in line]
    assert pins
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[^ ]+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
    assert not re.search(r"^uvloop==", (CHECKOUT / "requirements" / "run.txt").read_text(), re.MULTILINE)
    for package in ("protocol", "runtime", "privd", "brokerd", "webd", "egressd", "harness", "hivectl"):
        for file in (CHECKOUT / package).rglob("*.py"):
            assert not re.search(r"^(from|import) bench", file.read_text(), re.MULTILINE), file


def test_the_shell_reads() -> None:
    subprocess.run(["bash", "-n", str(BENCH / "run")], check=True)


def test_variants_take_turns_and_ratios_stay_within_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "wait_for_idle", lambda: None)
    turns: list[str] = []
    speed = iter(range(1, 100))

    def run(name: str, factor: float) -> dict[str, float]:
        turns.append(name)
        return {"calls_per_s": factor * (1 + (next(speed) - 1) // 2)}

    variants = [Variant("ours", lambda: run("ours", 2.0)), Variant("theirs", lambda: run("theirs", 4.0))]
    measure.compare(variants, repeats=5)
    assert [set(turns[at : at + 2]) for at in range(0, 10, 2)] == [{"ours", "theirs"}] * 5
    measure.report("P0 nothing", "0.5x", variants, "calls_per_s")
    assert "ours is 0.50x of it (0.50 to 0.50)" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    (kept,) = json.loads(path.read_text())
    assert kept["ratios"]["theirs"] == {"median": 0.5, "least": 0.5, "most": 0.5}
    assert len(kept["figures"]["ours"]) == 5


def test_both_brokers_are_told_the_same_payload() -> None:
    redis, brokerd = ways.RedisStreams(Path("/r")), ways.Brokerd(Path("/o"), Path("/a"))
    for way in (redis, brokerd):
        assert way.send(3).request.count(measure.PAYLOAD.encode()) == 1
    taken = b"*1\r\n*2\r\n$7\r\ncycle03\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$4\r\nbody\r\n$1\r\nx\r\n"
    assert b"XACK" in next(redis.settle(3, taken)).request
    assert b"1-0" in next(redis.settle(3, taken)).request
    steps = brokerd.settle(3, b'{"ok":{"delivery":{"id":7,"token":"t"}}}')
    assert json.loads(next(steps).request)["delivery"] == 7
    assert json.loads(steps.send(b'{"ok":{"turn":9}}').request)["turn"] == 9
