"""A process that takes commits in is killed at any moment: what is left is what was there, and the next one goes on."""

import itertools
import subprocess
import sys
from pathlib import Path

from privd.git.applied import Applied
from privd.git.intake import sweep
from tests.privd.git.test_applied import git, take_in

CHECKOUT = Path(__file__).parents[3]
KILLS = 8
WRITER = """
import sys
from pathlib import Path
from privd.git.applied import Applied
from tests.privd.git.test_applied import take_in
applied, turn, commit = Applied(Path(sys.argv[1])), int(sys.argv[2]), ""
applied.make()
for number in range(1, 1_000_000):
    commit = take_in(applied, f"{turn} {number}", (commit,) if commit and number % 3 else ("a" * 40,))
    applied.tag(f"proposal/{turn * 1_000_000 + number}", commit, b"{}", 1_700_000_000)
    print(commit, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_repository(tmp_path: Path) -> None:
    folder = tmp_path / "applied" / "iris.git"
    told: list[str] = []
    for turn in range(1, KILLS + 1):
        command = [sys.executable, "-c", WRITER, str(folder), str(turn)]
        writer = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        told.extend(line.strip() for line in itertools.islice(writer.stdout, turn))
        writer.kill()
        writer.communicate()

        sweep(tmp_path / "applied")
        assert list(folder.glob("incoming-*")) == []
        assert git(folder, "fsck", "--full", "--strict", "--no-dangling") == ""
        tagged = git(folder, "for-each-ref", "--format=%(object)").split()
        assert set(told) <= set(tagged), "what was told is not there"
    take_in(Applied(folder), "afterwards")
