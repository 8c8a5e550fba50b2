"""T5: whatever a proposed repository tells git to run, nothing of it runs, for nobody on the host.

Git itself is shown the same repository first, so that each plant is known to work.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from privd.git.applied import Applied
from protocol.names import MANAGER_NAME
from tests.security import population
from tests.security.inside import run_inside
from tests.security.proposals import NOW_S, OWNER, Proposal, proposal
from tests.security.test_t4_source import modules
from tests.support.hive import RunningHive
from tests.support.repositories import ENVIRONMENT

pytestmark = [pytest.mark.root]

HOOKS = (
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-pre-submit", "post-applypatch", "post-checkout",
    "post-commit", "post-index-change", "post-merge", "post-receive", "post-rewrite", "post-update", "pre-applypatch",
    "pre-auto-gc", "pre-commit", "pre-merge-commit", "pre-push", "pre-rebase", "pre-receive", "prepare-commit-msg",
    "proc-receive", "push-to-checkout", "reference-transaction", "sendemail-validate", "update",
)  # fmt: skip
CONFIG = """
[core]
    fsmonitor = {marker} fsmonitor
    sshCommand = {marker} ssh
    editor = {marker} editor
    pager = {marker} pager
    askPass = {marker} askpass
    gitProxy = {marker} proxy
    alternateRefsCommand = {marker} alternates
    attributesFile = {attributes}
    worktree = {worktree}
[filter "mark"]
    clean = {marker} clean
    smudge = {marker} smudge
[diff]
    external = {marker} external
[diff "mark"]
    command = {marker} driver
    textconv = {marker} textconv
[merge "mark"]
    driver = {marker} merge
[include]
    path = {included}
[includeIf "gitdir:**"]
    path = {included}
[credential]
    helper = !{marker} credential
[gpg]
    program = {marker} gpg
[uploadpack]
    packObjectsHook = {marker} uploadpack
[receive]
    procReceiveRefs = refs
[remote "origin"]
    url = ext::{marker} remote
    vcs = mark
[alias]
    show = !{marker} alias
    cat-file = !{marker} alias
[pack]
    packSizeLimit = 1
"""
INCLUDED = """
[core]
    hooksPath = {hooks}
[diff]
    external = {marker} included
"""
PORCELAIN = (
    ("status",), ("diff", "HEAD~1"), ("log", "-p", "--ext-diff"), ("checkout", "-q", "-f", "HEAD~1"), ("add", "-A"),
    ("commit", "-q", "-m", "again"), ("fetch", "origin"),
)  # fmt: skip


class Trap:
    """A program that leaves a mark wherever it is started from, and a repository that names it everywhere."""

    def __init__(self, made: Proposal) -> None:
        self.proposal = made
        self.marks = made.place / "marks"
        self.marks.mkdir()
        self.marks.chmod(0o777)
        self.marker = made.place / "marker"
        self.marker.write_text(f'#!/bin/sh\ndate > "{self.marks}/$(basename "$0")-$1-$$"\ncat\nexit 0\n')
        self.marker.chmod(0o755)
        self.commit = ""

    def plant(self) -> None:
        """Every kind at once, in a repository with two commits."""
        repository = self.proposal.repository
        repository.commit({"agent.toml": "a = 1\n", "notes.md": "one\n"})
        self.commit = repository.commit({"agent.toml": "a = 2\n", "notes.md": "two\n"})
        inner = repository.inner
        for hook in HOOKS:
            place = repository.write(f".git/hooks/{hook}", self.marker.read_text(), 0o755)
            assert place.exists()
        names = {
            "marker": self.marker,
            "attributes": inner / "info" / "attributes",
            "included": inner / "included",
            "hooks": inner / "hooks",
            "worktree": repository.folder,
        }
        repository.write(".git/info/attributes", "* filter=mark diff=mark merge=mark\n")
        repository.write(".git/included", INCLUDED.format(**names))
        config = inner / "config"
        repository.write(".git/config", config.read_text() + CONFIG.format(**names))

    def found(self) -> set[str]:
        return {mark.name.rsplit("-", 1)[0] for mark in self.marks.iterdir()}

    def clear(self) -> None:
        for mark in self.marks.iterdir():
            mark.unlink()


@pytest.fixture
def trap() -> Iterator[Trap]:
    with proposal() as made:
        yield Trap(made)


def test_t5_the_trap_works_on_git(trap: Trap) -> None:
    """What follows would pass with plants that no git obeys."""
    trap.plant()
    for words in PORCELAIN:
        trap.proposal.repository.git(*words, check=False)
    found = trap.found()
    kinds = {"marker-fsmonitor", "marker-clean", "marker-smudge"}
    assert kinds <= found
    assert any(name.startswith("post-index-change") for name in found), found
    assert any(name.startswith(("marker-external", "marker-included", "marker-driver")) for name in found), (
        found
    )


def test_t5_nothing_that_was_planted_runs(trap: Trap) -> None:
    """BI-178, BI-179."""
    trap.plant()
    trap.clear()
    made = trap.proposal
    admitted = made.ingest(trap.commit)
    applied = Applied(made.applied)
    applied.tag("proposal/1", admitted.commit, b"{}", NOW_S)
    assert [file.path for file in admitted.files] == ["agent.toml", "notes.md"]
    assert trap.found() == set()

    for words in (("log", "-p", "--ext-diff", "proposal/1"), ("show", "proposal/1"), ("fsck",)):
        subprocess.run(
            ["git", "--git-dir", str(made.applied), *words], check=True, capture_output=True, env=ENVIRONMENT
        )
    assert trap.found() == set(), "something of it came along into root's repository"
    assert not any(b"marker" in path.read_bytes() for path in made.applied.rglob("*") if path.is_file())
    assert str(trap.marker).encode() not in made.everything()


def test_t5_a_repository_that_is_being_worked_in_is_read(trap: Trap) -> None:
    """BI-194: locks of somebody else's git, held for ever, keep nobody waiting; nothing is written there."""
    repository = trap.proposal.repository
    commit = repository.commit({"agent.toml": "a = 1\n"})
    for lock in ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"):
        repository.write(f".git/{lock}", "")
    before = picture(repository.folder)
    trap.proposal.ingest(commit)
    assert picture(repository.folder) == before


def picture(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size, path.lstat().st_uid)
        for path in folder.rglob("*")
    }


def test_t5_the_reader_is_its_owner_and_sees_only_that(trap: Trap) -> None:
    """Closed to everybody but its owner, it can be read; closed to its owner, it cannot: no power of root's is used."""
    made = trap.proposal
    commit = made.repository.commit({"agent.toml": "a = 1\n"})
    made.repository.inner.chmod(0o700)
    made.repository.folder.chmod(0o700)
    made.ingest(commit)
    objects = made.repository.inner / "objects"
    objects.chmod(0)
    assert "cannot be opened (Permission denied)" in made.refusal(commit).detail
    objects.chmod(0o700)
    assert (made.repository.folder.stat().st_uid, OWNER) == (OWNER, OWNER)
    made.ingest(commit)


def names_git(text: str) -> bool:
    """Whether a text of a program could start git, or let root's git trust somebody's repository."""
    return text.partition(" ")[0].rpartition("/")[2] == "git" or "safe.directory" in text


def test_t5_nobody_of_ours_starts_git() -> None:
    assert all(map(names_git, ("git", "/usr/bin/git", "git fetch /x", "-csafe.directory=*")))
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not names_git(node.value), f"{file}:{node.lineno}"


COMMIT = r"""
home = f"/agents/{sys.argv[1]}/config"
names = {f"GIT_{role}_{what}": "manager" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
def git(*words):
    return subprocess.run(["git", *words], cwd=home, env={"PATH": "/usr/bin", "HOME": "/tmp", **names},
        check=True, capture_output=True, text=True).stdout.strip()
git("init", "-q")
with open(f"{home}/agent.toml", "w") as file:
    file.write("a = 1\n")
git("add", "-A")
git("commit", "-q", "-m", "from a cage")
for hook in ("post-checkout", "post-index-change", "reference-transaction"):
    with open(f"{home}/.git/hooks/{hook}", "w") as file:
        file.write("#!/bin/sh\ndate > /tmp/marked-by-a-hook\n")
    os.chmod(f"{home}/.git/hooks/{hook}", 0o755)
print(json.dumps(git("rev-parse", "HEAD")))
"""


@pytest.mark.whole
@pytest.mark.cage
def test_t5_what_a_manager_commits_in_its_cage_can_be_taken_in(secure_hive: RunningHive, trap: Trap) -> None:
    """The real way: the manager's own git writes the repository, and the box of its uid reads it."""
    commit = run_inside(secure_hive, MANAGER_NAME, COMMIT, MANAGER_NAME)
    folder = secure_hive.places.state / "proposed" / "agents" / MANAGER_NAME / "config"
    assert folder.stat().st_uid == population.users(secure_hive)[f"{MANAGER_NAME} agent"].uid
    admitted = trap.proposal.ingest(commit, folder, folder.stat().st_uid)
    assert ("agent.toml", 6) in [(file.path, file.bytes) for file in admitted.files]
    assert not Path("/tmp/marked-by-a-hook").exists()
