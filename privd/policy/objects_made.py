"""Git's blobs, trees and commits as privd makes them: the other direction of `privd.policy.objects`. Pure."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from privd.policy.objects import Kind, object_id

AUTHOR: Final = "privd <privd@localhost>"
FILE_MODE, FOLDER_MODE = "100644", "40000"


class Made(Struct, frozen=True):
    """One object, with its id."""

    kind: Kind
    id: str
    content: bytes


def made(kind: Kind, content: bytes) -> Made:
    return Made(kind, object_id(kind, content), content)


def tree_of(files: Mapping[str, bytes]) -> tuple[Made, ...]:
    """All objects of a folder with these files by path; its own tree is the last of them."""
    found: list[Made] = []
    entries: list[tuple[bytes, bytes]] = []
    below: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        folder, slash, rest = path.partition("/")
        if slash:
            below.setdefault(folder, {})[rest] = content
            continue
        blob = made(Kind.BLOB, content)
        found.append(blob)
        entries.append((path.encode(), _entry(FILE_MODE, path, blob.id)))
    for folder, inner in below.items():
        objects = tree_of(inner)
        found += objects
        entries.append((folder.encode() + b"/", _entry(FOLDER_MODE, folder, objects[-1].id)))
    return (*found, made(Kind.TREE, b"".join(entry for _, entry in sorted(entries))))


def commit_of(tree: str, parents: tuple[str, ...], message: str, at_s: int) -> Made:
    """A commit of privd's own."""
    lines = (
        f"tree {tree}",
        *(f"parent {parent}" for parent in parents),
        f"author {AUTHOR} {at_s} +0000",
        f"committer {AUTHOR} {at_s} +0000",
        "",
        f"{message}\n",
    )
    return made(Kind.COMMIT, "\n".join(lines).encode())


def _entry(mode: str, name: str, identity: str) -> bytes:
    return f"{mode} {name}\0".encode() + bytes.fromhex(identity)
