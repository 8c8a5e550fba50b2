"""T6: by none of git's ways of pointing elsewhere does another agent's repository, or a file of root's, come along.

The other repository may be read by everybody here, so that what keeps it away is the box and the reader, and not its
mode. Where git has such a way, git is asked first, as the same user: it shows the secret.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxes.reply import Refused as BoxRefused
from protocol.problem import Problem
from tests.security.proposals import OWNER, VICTIM, Proposal, proposal
from tests.support.repositories import ENVIRONMENT, FILE, FOLDER, Repository, commit_of, read_alone

pytestmark = [pytest.mark.root]

TRUSTING = {
    **ENVIRONMENT,
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
"""For the git that is asked first: as people set it who are told of dubious ownership."""
SECRET = "a secret of another agent's"


class Neighbour:
    """A proposal, and the repository of another agent whose secret it wants."""

    def __init__(self, made: Proposal) -> None:
        self.proposal = made
        self.mine = made.repository
        self.other = Repository(made.place / "other", VICTIM)
        self.commit = self.other.commit({"secret.md": f"{SECRET}\n"})
        self.tree = self.other.git("rev-parse", "HEAD^{tree}")
        self.blob = self.other.git("rev-parse", "HEAD:secret.md")
        self.root_file = made.place / "of-root"
        self.root_file.write_text(f"{SECRET}: root's\n")
        self.root_file.chmod(0o600)
        self.mine.commit({"agent.toml": "a = 1\n"})

    def objects(self, repository: Repository) -> Path:
        return repository.inner / "objects"

    def file_of(self, repository: Repository, name: str) -> Path:
        return self.objects(repository) / name[:2] / name[2:]


def alternates(pair: Neighbour) -> None:
    pair.mine.write(".git/objects/info/alternates", f"{pair.objects(pair.other)}\n")


def relative_alternates(pair: Neighbour) -> None:
    pair.mine.write(".git/objects/info/alternates", "../../../other/.git/objects\n")


def objects_link(pair: Neighbour) -> None:
    shutil.rmtree(pair.objects(pair.mine))
    pair.objects(pair.mine).symlink_to(pair.objects(pair.other))


def git_link(pair: Neighbour) -> None:
    shutil.rmtree(pair.mine.inner)
    pair.mine.inner.symlink_to(pair.other.inner)


def git_file(pair: Neighbour) -> None:
    shutil.rmtree(pair.mine.inner)
    pair.mine.write(".git", f"gitdir: {pair.other.inner}\n")


def common_folder(pair: Neighbour) -> None:
    shutil.rmtree(pair.objects(pair.mine))
    shutil.rmtree(pair.mine.inner / "refs")
    pair.mine.write(".git/commondir", f"{pair.other.inner}\n")


def linked_work_tree(pair: Neighbour) -> None:
    """As `git worktree add` makes one, for a work tree that another repository never heard of."""
    shutil.rmtree(pair.mine.inner)
    inner = pair.other.inner / "worktrees" / "config"
    inner.mkdir(parents=True)
    (inner / "commondir").write_text("../..\n")
    (inner / "gitdir").write_text(f"{pair.mine.folder}/.git\n")
    (inner / "HEAD").write_text(f"{pair.commit}\n")
    subprocess.run(["chmod", "-R", "a+rX", str(inner.parent)], check=True)
    pair.mine.write(".git", f"gitdir: {inner}\n")


def linked_object_folders(pair: Neighbour) -> None:
    for name in {pair.commit[:2], pair.tree[:2], pair.blob[:2]}:
        place = pair.objects(pair.mine) / name
        if place.exists():
            shutil.rmtree(place)
        place.symlink_to(pair.objects(pair.other) / name)


def linked_objects(pair: Neighbour) -> None:
    for name in (pair.commit, pair.tree, pair.blob):
        place = pair.file_of(pair.mine, name)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(pair.file_of(pair.other, name))


def linked_packs(pair: Neighbour) -> None:
    pair.other.git("gc", "-q")
    place = pair.objects(pair.mine) / "pack"
    place.rmdir()
    place.symlink_to(pair.objects(pair.other) / "pack")


def linked_pack_files(pair: Neighbour) -> None:
    pair.other.git("gc", "-q")
    for file in (pair.objects(pair.other) / "pack").iterdir():
        (pair.objects(pair.mine) / "pack" / file.name).symlink_to(file)


def git_link_upwards(pair: Neighbour) -> None:
    shutil.rmtree(pair.mine.inner)
    pair.mine.inner.symlink_to("../other/.git")


WAYS: tuple[Callable[[Neighbour], None], ...] = (
    alternates, relative_alternates, objects_link, git_link, git_file, common_folder, linked_work_tree,
    linked_object_folders, linked_objects, linked_packs, linked_pack_files, git_link_upwards,
)  # fmt: skip


@pytest.fixture
def pair() -> Iterator[Neighbour]:
    with proposal() as made:
        yield Neighbour(made)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_t6_the_secret_of_another_repository_is_nowhere(
    pair: Neighbour, way: Callable[[Neighbour], None]
) -> None:
    """BI-175, BI-176."""
    way(pair)
    subprocess.run(["chmod", "-R", "a+rX", str(pair.other.folder)], check=True)
    seen = subprocess.run(
        ["git", "cat-file", "-p", pair.blob], cwd=pair.mine.folder, env=TRUSTING, capture_output=True, text=True,
        user=OWNER, group=OWNER, extra_groups=[], check=False,
    )  # fmt: skip
    assert SECRET in seen.stdout, f"git does not go this way: {seen.stderr}"

    mine, wanted = pair.mine, [pair.commit]
    if has_own_objects(pair):
        wanted.append(mine.put("commit", commit_of(pair.tree)))
        wanted.append(mine.commit_tree((FILE, "mine.md", pair.blob)))
        wanted.append(mine.commit_tree((FOLDER, "theirs", pair.tree)))
    for commit in wanted:
        assert pair.proposal.refusal(commit).problem in {Problem.NOT_FOUND, Problem.FAILED}
    assert SECRET.encode() not in pair.proposal.everything()
    assert pair.proposal.left() == []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_t6_the_reader_follows_nothing_even_without_its_box(
    pair: Neighbour, way: Callable[[Neighbour], None]
) -> None:
    """Two defences, each of which would do: here the reader stands alone, and with all of root's power."""
    way(pair)
    names = [
        pair.commit,
        pair.mine.put("commit", commit_of(pair.tree)) if has_own_objects(pair) else pair.tree,
    ]
    for name in names:
        with pytest.raises(BoxRefused):
            assert SECRET.encode() not in b"".join(read_alone(pair.mine.folder, name))


def has_own_objects(pair: Neighbour) -> bool:
    """Whether the proposed repository still has a folder of objects that is its own."""
    places = (pair.mine.inner, pair.objects(pair.mine))
    return all(place.is_dir() and not place.is_symlink() for place in places)


def test_t6_what_is_its_own_is_taken_in_whatever_else_it_points_at(pair: Neighbour) -> None:
    commit = pair.mine.git("rev-parse", "HEAD")
    alternates(pair)
    pair.mine.write(".git/info/grafts", f"{commit} {pair.commit}\n")
    pair.mine.write(
        ".git/packed-refs", f"{pair.commit} refs/heads/main\n{pair.commit} refs/replace/{commit}\n"
    )
    pair.mine.write(".git/HEAD", f"{pair.commit}\n")
    pair.mine.write(
        ".git/config", f"[include]\n\tpath = {pair.root_file}\n[core]\n\tworktree = {pair.other.folder}\n"
    )
    pair.mine.write(".git/objects/info/http-alternates", f"file://{pair.objects(pair.other)}\n")
    admitted = pair.proposal.ingest(commit)
    assert [file.path for file in admitted.files] == ["agent.toml"]
    assert SECRET.encode() not in pair.proposal.everything()


@pytest.mark.parametrize(
    "place", ["config", "HEAD", "packed-refs", "objects/info/alternates", "shallow", "commondir"]
)
def test_t6_a_file_of_roots_is_not_even_quoted_in_a_refusal(pair: Neighbour, place: str) -> None:
    """Git says `bad config line 1: …` of what it cannot read; here nothing of a repository's files is ever told."""
    commit = pair.mine.git("rev-parse", "HEAD")
    target = pair.mine.inner / place
    target.unlink(missing_ok=True)
    target.symlink_to(pair.root_file)
    pair.proposal.ingest(commit)
    pair.proposal.refusal("a" * 40)
    pair.file_of(pair.mine, commit).unlink()
    pair.file_of(pair.mine, commit).symlink_to(pair.root_file)
    pair.proposal.refusal(commit)
    assert SECRET.encode() not in pair.proposal.everything()


def test_t6_a_folder_that_becomes_a_link_is_not_followed(pair: Neighbour) -> None:
    """The proposed folder itself is root's to name; a link in its place is refused before any box is made."""
    shutil.rmtree(pair.mine.folder)
    pair.mine.folder.symlink_to(pair.other.folder)
    assert "no real folder" in pair.proposal.refusal(pair.commit).detail
    assert pair.proposal.boxes.said == []


@pytest.mark.parametrize("what", ["fifo", "file", "nothing", "empty folder"])
def test_t6_what_is_no_repository(pair: Neighbour, what: str) -> None:
    """BI-193: at once, whoever waits at the other end of a pipe."""
    shutil.rmtree(pair.mine.folder)
    match what:
        case "fifo":
            os.mkfifo(pair.mine.folder, 0o666)
        case "file":
            pair.mine.folder.write_text("x")
        case "empty folder":
            pair.mine.folder.mkdir()
    assert pair.proposal.refusal(pair.commit).problem in {Problem.NOT_FOUND, Problem.FAILED}


@pytest.mark.parametrize("place", ["", "/objects", "/objects/pack"])
def test_t6_a_pipe_inside_keeps_nobody_waiting(pair: Neighbour, place: str) -> None:
    commit = pair.mine.git("rev-parse", "HEAD")
    target = Path(f"{pair.mine.inner}{place}")
    shutil.rmtree(target)
    os.mkfifo(target, 0o666)
    if place == "/objects/pack":
        pair.proposal.ingest(commit)
        commit = "a" * 40
    assert pair.proposal.refusal(commit).problem in {Problem.NOT_FOUND, Problem.FAILED}
