"""The meta repository: what is deployed where, one commit for each deployment. Root's own, never packed, no git runs.

agents/<name>.json      generation, commit, tree, when
flake.nix, flake.lock   on NixOS: an input for each agent, everything pinned
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from privd.git.applied import Applied
from privd.git.contents import blobs, tree_id
from privd.policy.objects import Kind, parse_commit
from privd.policy.objects_made import commit_of, tree_of

FOLDER: Final = "agents/"


class Live(Struct, frozen=True):
    """What is deployed for one agent."""

    generation: int
    commit: str
    tree: str
    at_ms: int


def write(
    folder: Path,
    live: Mapping[str, Live],
    message: str,
    at_ms: int,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """One commit more, unless the repository says all this already. *beside* are files of the backend."""
    repository = Applied(folder)
    repository.make()
    files = {
        f"{FOLDER}{agent}.json": msgspec.json.format(msgspec.json.encode(each))
        for agent, each in live.items()
    }
    if not files:
        return
    objects = tree_of({**files, **(beside or {})})
    head = repository.main()
    if head is not None and tree_id(repository, head) == objects[-1].id:
        return
    commit = commit_of(objects[-1].id, () if head is None else (head,), message, at_ms // 1000)
    repository.put((*objects, commit))
    repository.move_main(commit.id)


def history(repository: Applied) -> Iterator[tuple[str, dict[str, Live]]]:
    """Each commit, the newest first, and what was deployed by then. ValueError for a file that is none of ours."""
    known: dict[str, Live] = {}
    at = repository.main()
    while at is not None:
        live = {}
        for path, blob in blobs(repository, at).items():
            if path.startswith(FOLDER) and path.count("/") == 1:
                if blob.id not in known:
                    known[blob.id] = msgspec.json.decode(repository.read(Kind.BLOB, blob.id), type=Live)
                live[path.removeprefix(FOLDER).removesuffix(".json")] = known[blob.id]
        yield at, live
        at = next(iter(parse_commit(repository.read(Kind.COMMIT, at)).parents), None)
