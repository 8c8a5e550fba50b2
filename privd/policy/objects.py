"""Git's commits and trees from their raw bytes: the two kinds of object that root reads, with code of its own.

Stricter than git on purpose: what git accepts with a warning, skips, or shows otherwise than it is, is refused.
Every refusal is `malformed` (`limit` for a size) and says which commit or folder it is about.
"""

import hashlib
import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.problem import Problem, Refused

COMMIT_BYTES_MAX: Final = 64 * 1024
TREE_BYTES_MAX: Final = 64 * 1024
"""As much as the entries of a whole configuration take, with the longest names."""
PARENTS_MAX: Final = 16
SHOWN_CHARS_MAX: Final = 120
"""Of a name or line of somebody else's, in a refusal."""
ID_RULE: Final = re.compile(r"[0-9a-f]{40}", re.ASCII)
_ID: Final = "[0-9a-f]{40}"
_PERSON: Final = r"[^<>\n]{1,200} <[^<>\n]{0,200}> [0-9]{1,12} [+-][0-9]{4}"
HEADER_RULE: Final = re.compile(
    rf"tree (?P<tree>{_ID})\n(?P<parents>(?:parent {_ID}\n)*)author {_PERSON}\ncommitter {_PERSON}"
)
ENTRY_RULE: Final = re.compile(rb"(?P<mode>[0-7]{1,6}) (?P<name>[^\0]*)\0(?P<id>.{20})", re.DOTALL)
HEADER_WORDS: Final = ("tree", "parent", "author", "committer")
HIDDEN: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0d\ufeff"
    "\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
"""What a reviewer cannot see, or sees in another order: control, format, filling and private characters."""


class Kind(StrEnum):
    """The kinds of object, in git's words. No configuration has a tag; privd makes them."""

    COMMIT = "commit"
    TREE = "tree"
    BLOB = "blob"
    TAG = "tag"


class Commit(Struct, frozen=True):
    """What privd needs to know of a commit; the rest of it was checked and is kept as it came."""

    tree: str
    parents: tuple[str, ...]


class Entry(Struct, frozen=True):
    """One entry of a tree. Mode and name are as they came; nothing but the form was checked."""

    mode: bytes
    name: bytes
    id: str

    @property
    def is_folder(self) -> bool:
        return self.mode == b"40000"


def object_id(kind: Kind, content: bytes) -> str:
    """The id that git gives these bytes."""
    header = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def check_commit_id(text: str) -> None:
    """Refuse everything but a whole id: names, short ids and expressions are never resolved."""
    if not ID_RULE.fullmatch(text):
        raise Refused(
            Problem.MALFORMED,
            f"{shown(text)} is no commit id: 40 hex digits in lower case, as `git rev-parse HEAD` says",
        )


def parse_commit(content: bytes) -> Commit:
    """A commit of exactly tree, parents, author and committer, each on one line, and a message."""
    if len(content) > COMMIT_BYTES_MAX:
        raise Refused(
            Problem.LIMIT, f"the commit has {len(content)} bytes, at most {COMMIT_BYTES_MAX} are allowed"
        )
    try:
        head, gap, message = content.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        raise malformed("the commit", "it is not UTF-8") from error
    if not gap or "\0" in message:
        raise malformed("the commit", "it has no end of its header, or a NUL in its message")
    if hidden := HIDDEN.search(head):
        raise malformed("the commit", f"its header has {shown(hidden[0])}, a control or invisible character")
    found = HEADER_RULE.fullmatch(head)
    if found is None:
        raise malformed("the commit", _header_fault(head))
    parents = tuple(line.removeprefix("parent ") for line in found["parents"].splitlines())
    if len(parents) > PARENTS_MAX:
        raise Refused(
            Problem.LIMIT, f"the commit has {len(parents)} parents, at most {PARENTS_MAX} are allowed"
        )
    return Commit(found["tree"], parents)


def _header_fault(head: str) -> str:
    for line in head.split("\n"):
        word = line.partition(" ")[0]
        if word not in HEADER_WORDS:
            return f"its header has a line {shown(word)}: commit without signature, encoding or merge tag"
    return "its header is not one tree, parents, one author and one committer, each well-formed on its line"


def parse_tree(content: bytes, where: str) -> tuple[Entry, ...]:
    """The entries of one folder, in git's order and each name once."""
    if len(content) > TREE_BYTES_MAX:
        raise Refused(
            Problem.LIMIT,
            f"{where}: the folder takes {len(content)} bytes of names, at most {TREE_BYTES_MAX} are allowed",
        )
    entries: list[Entry] = []
    at = 0
    while at < len(content):
        found = ENTRY_RULE.match(content, at)
        if found is None:
            raise malformed(where, "the tree object is cut off or garbled")
        entries.append(Entry(found["mode"], found["name"], found["id"].hex()))
        at = found.end()
    names = {entry.name: entry for entry in entries}
    if len(names) < len(entries):
        twice = next(entry.name for entry in entries if names[entry.name] is not entry)
        raise malformed(where, f"the name {shown(twice)} appears twice")
    if entries != sorted(entries, key=_order):
        raise malformed(where, "the tree object is not sorted, which git never writes")
    return tuple(entries)


def _order(entry: Entry) -> bytes:
    """Git sorts a folder as if its name ended in a slash."""
    return entry.name + b"/" if entry.is_folder else entry.name


def shown(text: str | bytes) -> str:
    """Somebody else's text as it may stand in a refusal: ASCII, one line, cut."""
    words = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return ascii(words[:SHOWN_CHARS_MAX]) + ("…" if len(words) > SHOWN_CHARS_MAX else "")


def malformed(where: str, what: str) -> Refused:
    return Refused(Problem.MALFORMED, f"{where}: {what}")
