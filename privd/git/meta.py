"""The meta repository: what is deployed where, one commit for each deployment. Root's own, never packed, no git runs.

agents/<name>.json      generation, commit, tree, when
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from privd.git.applied import Applied
from privd.git.contents import tree_id
from privd.policy.objects_made import commit_of, tree_of


class Live(Struct, frozen=True):
    """What is deployed for one agent."""

    generation: int
    commit: str
    tree: str
    at_ms: int


def write(folder: Path, live: Mapping[str, Live], message: str, at_ms: int) -> None:
    """One commit more, unless the repository says all this already."""
    repository = Applied(folder)
    repository.make()
    files = {
        f"agents/{agent}.json": msgspec.json.format(msgspec.json.encode(each)) for agent, each in live.items()
    }
    if not files:
        return
    objects = tree_of(files)
    head = repository.main()
    if head is not None and tree_id(repository, head) == objects[-1].id:
        return
    commit = commit_of(objects[-1].id, () if head is None else (head,), message, at_ms // 1000)
    repository.put((*objects, commit))
    repository.move_main(commit.id)
