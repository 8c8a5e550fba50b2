"""Static files: read once at the start, served from memory. No path is ever joined for a request.

All of them are offered under `/static/<hash of everything>`, which may be kept for ever, and under `/static` itself,
which is asked for again each time.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webd.http.answers import Answer
from webd.policy.guard import Head

PREFIX: Final = "/static/"
HASH_CHARS: Final = 12
_HASH: Final = re.compile(r"\A[0-9a-f]{12}\Z")
_KEPT: Final = ("cache-control", "public, max-age=31536000, immutable")
_ASKED_AGAIN: Final = ("cache-control", "no-cache")
_KINDS: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
_NOT_SERVED: Final = (".d.ts",)


@dataclass(frozen=True)
class StaticFile:
    content: bytes
    kind: str
    etag: str


class StaticFiles:
    """The files of one folder, by their path in it."""

    def __init__(self, files: dict[str, StaticFile]) -> None:
        self._files = files
        everything = hashlib.sha256()
        for path in sorted(files):
            everything.update(f"{path}\0{files[path].etag}\0".encode())
        self.hash = everything.hexdigest()[:HASH_CHARS]

    @property
    def prefix(self) -> str:
        """What pages put before a file's path: it changes when any file does."""
        return PREFIX + self.hash

    def answer(self, head: Head) -> Answer | None:
        """The file that a path under `/static/` names; None when there is none."""
        path = head.path.removeprefix(PREFIX)
        first, _, rest = path.partition("/")
        keep = _ASKED_AGAIN
        if _HASH.match(first):
            path, keep = rest, (_KEPT if first == self.hash else _ASKED_AGAIN)
        file = self._files.get(path)
        if file is None:
            return None
        headers = (keep, ("etag", file.etag))
        if head.header("if-none-match") == file.etag:
            return Answer(304, headers=headers)
        return Answer(200, file.content, file.kind, headers)


def read_static(folder: Path) -> StaticFiles:
    """Read every file that browsers may have."""
    files = {}
    for file in sorted(folder.rglob("*")):
        kind = _KINDS.get(file.suffix)
        if kind is None or not file.is_file() or file.name.endswith(_NOT_SERVED):
            continue
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        files[file.relative_to(folder).as_posix()] = StaticFile(content, kind, etag)
    return StaticFiles(files)
