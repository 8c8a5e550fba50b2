"""A work tree that a box makes is one of git's own: clean, whole, and worked in at once."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxes.worktree import HALF, make
from privd.policy.objects_made import commit_of, tree_of
from tests.support.repositories import ENVIRONMENT

FILES = {
    "agent.toml": b"model = 'opus'\n",
    "role.md": b"You.\n",
    "notes/deep/a.md": b"a\n",
    "notes-b": b"b\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a box would be in; the box's umask goes with it, ours comes back."""
    place = tmp_path / "config"
    place.mkdir()
    monkeypatch.chdir(place)
    before = os.umask(0o022)
    yield place
    os.umask(before)


def request() -> tuple[dict[str, object], bytes, str]:
    objects = tree_of(FILES)
    commit = commit_of(objects[-1].id, (), "Begin iris", 1_700_000_000)
    every = (*objects, commit)
    by_content = {each.content: each.id for each in objects}
    asked: dict[str, object] = {
        "commit": commit.id,
        "name": "hm1nd",
        "email": "hm1nd@hive.invalid",
        "objects": [(each.kind, each.id, len(each.content)) for each in every],
        "files": [(path, "100644", by_content[content]) for path, content in FILES.items()],
    }
    return json.loads(json.dumps(asked)), b"".join(each.content for each in every), commit.id


def git(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("GIT_AUTHOR")}
    environment = {name: value for name, value in environment.items() if not name.startswith("GIT_COMMITTER")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_git_finds_nothing_wrong_and_works_there(folder: Path) -> None:
    asked, contents, commit = request()
    assert make(asked, contents) == b"made"
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "fsck", "--full", "--strict") == ""
    assert git(folder, "rev-parse", "main") == commit
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    (folder / "role.md").write_text("You too.\n")
    git(folder, "commit", "-qam", "change")
    assert git(folder, "log", "-1", "--format=%an <%ae> %P") == f"hm1nd <hm1nd@hive.invalid> {commit}"


def test_one_that_is_there_is_left_alone(folder: Path) -> None:
    asked, contents, _ = request()
    make(asked, contents)
    (folder / "role.md").write_text("mine")
    assert make(asked, contents) == b"there"
    assert (folder / "role.md").read_text() == "mine"


def test_what_a_crash_left_is_made_whole_and_files_stay(folder: Path) -> None:
    asked, contents, _ = request()
    (folder / HALF).mkdir()
    (folder / HALF / "objects").mkdir()
    (folder / HALF / "HEAD").write_text("half")
    (folder / "role.md").write_text("mine")
    assert make(asked, contents) == b"made"
    assert git(folder, "status", "--porcelain") == "M role.md"
    assert not (folder / HALF).exists()


def test_nothing_is_followed(folder: Path, tmp_path: Path) -> None:
    """Not that it would lead anywhere: the box has nothing else in it."""
    asked, contents, _ = request()
    (folder / "role.md").symlink_to(tmp_path / "elsewhere")
    make(asked, contents)
    assert not (tmp_path / "elsewhere").exists()
