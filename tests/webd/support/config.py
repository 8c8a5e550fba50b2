"""An agent's proposed repository, edited and committed with real git by whoever owns it, as the manager does."""

from collections.abc import Callable
from pathlib import Path

from tests.support.repositories import Repository

FILE = "agent.toml"
PASSABLE = 0o001


def commit(state: Path, agent: str, change: Callable[[str], str], path: str = FILE) -> str:
    """Change one file and commit it; the commit's id. `state` is privd's folder."""
    folder = state / "proposed" / "agents" / agent / "config"
    for above in (state.parent, state, folder.parents[2]):
        if not above.stat().st_mode & PASSABLE:
            above.chmod(0o711)
    found = object.__new__(Repository)
    found.folder, found.uid, found.inner = folder, folder.stat().st_uid, folder / ".git"
    file = folder / path
    file.write_text(change(file.read_text() if file.exists() else ""))
    found.git("add", path)
    found.git("commit", "-q", "-m", f"change {path}")
    return found.git("rev-parse", "HEAD")
