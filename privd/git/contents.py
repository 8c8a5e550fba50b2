"""What a commit of one of root's own repositories holds. Everything in it was admitted, or made by privd."""

from msgspec import Struct

from privd.git.applied import Applied
from privd.policy.nar import Content
from privd.policy.objects import Kind, parse_commit, parse_tree
from privd.policy.objects_made import Made
from protocol.problem import Problem, Refused

PROGRAM_MODE = b"100755"


class Blob(Struct, frozen=True):
    """One file of a commit."""

    id: str
    executable: bool


def tree_id(applied: Applied, commit: str) -> str:
    return parse_commit(applied.read(Kind.COMMIT, commit)).tree


def blobs(applied: Applied, commit: str) -> dict[str, Blob]:
    """All files by path."""
    found: dict[str, Blob] = {}
    _walk(applied, tree_id(applied, commit), "", found)
    return found


def _walk(applied: Applied, tree: str, path: str, found: dict[str, Blob]) -> None:
    for entry in parse_tree(applied.read(Kind.TREE, tree), path or "the top folder"):
        here = path + entry.name.decode()
        if entry.is_folder:
            _walk(applied, entry.id, f"{here}/", found)
        else:
            found[here] = Blob(entry.id, entry.mode == PROGRAM_MODE)


def files(applied: Applied, commit: str | None) -> dict[str, bytes]:
    """The content of all files by path; none without a commit."""
    if commit is None:
        return {}
    return {path: applied.read(Kind.BLOB, blob.id) for path, blob in blobs(applied, commit).items()}


def whole(applied: Applied, commit: str) -> dict[str, Content]:
    """All files by path, with what makes a program of one."""
    return {
        path: Content(applied.read(Kind.BLOB, blob.id), blob.executable)
        for path, blob in blobs(applied, commit).items()
    }


def file(applied: Applied, commit: str, path: str) -> bytes:
    """One file. Refused(not_found) when the commit has none of that name."""
    found = blobs(applied, commit).get(path)
    if found is None:
        raise Refused(Problem.NOT_FOUND, f"the commit {commit} has no file {path!a}")
    return applied.read(Kind.BLOB, found.id)


def objects(applied: Applied, commit: str) -> tuple[Made, ...]:
    """The commit with all that it needs, each object once."""
    found: dict[str, Made] = {}

    def take(kind: Kind, name: str) -> bytes:
        content = applied.read(kind, name)
        found[name] = Made(kind, name, content)
        return content

    def below(tree: str) -> None:
        for entry in parse_tree(take(Kind.TREE, tree), "the tree"):
            if entry.is_folder:
                below(entry.id)
            else:
                take(Kind.BLOB, entry.id)

    below(parse_commit(take(Kind.COMMIT, commit)).tree)
    return tuple(found.values())
