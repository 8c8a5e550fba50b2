"""Gives a proposed repository its beginning: a box that is its owner makes an ordinary work tree of one commit."""

import json
from pathlib import Path
from typing import Final

from privd.boxes import Bounds, Box, Boxes
from privd.git.applied import Applied
from privd.git.contents import blobs, objects

BOUNDS: Final = Bounds(memory_bytes=192 << 20, cpu_s=10, wall_s=30.0, files=16)
WRITTEN_BYTES: Final = 1 << 20
HOST: Final = "hive.invalid"
"""No mail goes to whoever commits in a hive."""


async def fill(
    boxes: Boxes,
    applied: Applied,
    commit: str,
    folder: Path,
    above: Path,
    owner: tuple[int, int],
    editor: str,
) -> bool:
    """Make the work tree, unless there is a repository already: then False. `editor` signs what is committed there."""
    content = objects(applied, commit)
    asked = {
        "commit": commit,
        "name": editor,
        "email": f"{editor}@{HOST}",
        "objects": [(each.kind, each.id, len(each.content)) for each in content],
        "files": [
            (path, "100755" if blob.executable else "100644", blob.id)
            for path, blob in blobs(applied, commit).items()
        ],
    }
    request = json.dumps(asked).encode() + b"\n" + b"".join(each.content for each in content)
    box = Box(
        "worktree",
        "making the proposed repository",
        folder,
        owner,
        bounds=BOUNDS,
        written_bytes=WRITTEN_BYTES,
        above=above,
    )
    return await boxes.run(box, request) == (b"made",)
