"""Where the manager edits configurations: a work tree for each agent, and all of them in one folder.

    <state>/proposed/agents/<name>/config      /agents/<name>/config inside, where it is made an agent's

The manager's cage is shown `agents` whole, once, so an agent that is made while it runs is there at once. Everything
above `config` is root's: the manager changes what is in a repository, and cannot put anything else in its place. It
could where all cages are one user's; whoever opens something below `agents` therefore follows no link.
"""

import os
from pathlib import Path
from typing import Final

from privd.cages import folders
from privd.cages.identity import Identity
from privd.cages.spec import Folder
from privd.settings import PrivdSettings

CONFIG: Final = "config"
REPOSITORIES: Final = (".git", ".git.new")
"""What the first thing made in a work tree may be called (`boxes/worktree.py`)."""


def configurations(settings: PrivdSettings) -> Path:
    """What the manager is shown as /agents, in a folder that no other user of the host can enter."""
    return Path(settings.state) / "proposed" / "agents"


def config_folder(settings: PrivdSettings, agent: str) -> Path:
    """An agent's proposed repository."""
    return configurations(settings) / agent / CONFIG


def folders_of(
    settings: PrivdSettings, agent: str, own: tuple[int, int], editor: Identity, covered: tuple[str, ...]
) -> tuple[Folder, ...]:
    """The folders down to a repository, outer ones first. `covered` are those that the cage sees others in place of."""
    uid, gid = own
    top = configurations(settings)
    return (
        Folder(str(top.parent), uid, gid, 0o700),
        Folder(str(top), uid, gid, 0o755),
        Folder(str(top / agent), uid, gid, 0o755),
        *(Folder(str(top / agent / name), uid, gid, 0o755) for name in covered),
        Folder(str(top / agent / CONFIG), editor.agent_uid, editor.agent_gid, 0o755),
    )


def take_along(settings: PrivdSettings, agent: str, own: tuple[int, int], editor: Identity) -> None:
    """Bring a repository here that an older hyperhive had among the agent's own folders."""
    before, here = Path(settings.state, "agents", agent, CONFIG), config_folder(settings, agent)
    if before.is_dir() and not before.is_symlink() and not os.path.lexists(here):
        for folder in folders_of(settings, agent, own, editor, ())[:-1]:
            folders.make(folder)
        before.rename(here)


def is_anothers(config: Folder) -> bool:
    """Whether a repository is there that is not its owner's: it was made while another agent edited, or none."""
    for name in REPOSITORIES:
        try:
            return os.lstat(Path(config.path, name)).st_uid != config.uid
        except FileNotFoundError:
            continue
    return False


def hand_over(config: Folder) -> bool:
    """Empty a folder whose repository is another's: whoever edits now could not. Whether it was.

    The folder itself stays, since a cage may be shown it.
    """
    found = is_anothers(config)
    if found:
        for name in os.listdir(config.path):
            folders.remove(Path(config.path, name))
        folders.make(config)
    return found
