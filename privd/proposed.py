"""Where the manager edits configurations: a work tree for each agent, and all of them in one folder.

    <state>/proposed/agents/<name>/config      /agents/<name>/config inside, where it is made an agent's

The manager's cage is shown `agents` whole, once, so an agent that is made while it runs is there at once. Everything
above `config` is root's: the manager changes what is in a repository, and cannot put anything else in its place. It
could where all cages are one user's; whoever opens something below `agents` therefore follows no link.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from privd.boxes import Boxes
from privd.cages import folders
from privd.cages.identity import Identity
from privd.cages.spec import Folder
from privd.git.applied import Applied
from privd.git.intake import Proposed
from privd.git.worktree import fill
from privd.settings import PrivdSettings
from runtime.log import Log

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


class Editor(Struct, frozen=True):
    """Who edits an agent's configuration."""

    agent: str
    identity: Identity


class WorkTrees:
    """All proposed repositories of one hive. `editor` says who edits an agent's."""

    def __init__(
        self, settings: PrivdSettings, boxes: Boxes, log: Log, editor: Callable[[str], Editor]
    ) -> None:
        self._settings = settings
        self._boxes = boxes
        self._log = log
        self._editor = editor
        self._above = configurations(settings)

    def source(self, agent: str) -> Proposed:
        """Where a commit of an agent's configuration is read."""
        config = self._config(agent)
        return Proposed(Path(config.path), config.uid, config.gid, self._above)

    async def fill(self, agent: str, applied: Applied, commit: str) -> None:
        """Begin an agent's repository with a commit, unless it has one that its editor can work in."""
        config, editor = self._config(agent), self._editor(agent)
        if await trio.to_thread.run_sync(hand_over, config):
            self._log.warning(
                "a proposed configuration begins anew: who edited it has gone",
                agent=agent,
                editor=editor.agent,
            )
        owner = config.uid, config.gid
        await fill(self._boxes, applied, commit, Path(config.path), self._above, owner, editor.agent)

    def is_anothers(self, agent: str) -> bool:
        """Whether an agent has a repository that its editor cannot work in: it was made before there was this one."""
        return is_anothers(self._config(agent))

    def take_along(self, agent: str) -> None:
        """Bring a repository here that an older hyperhive had among the agent's own folders."""
        before = Path(self._settings.state, "agents", agent, CONFIG)
        here = config_folder(self._settings, agent)
        if before.is_dir() and not before.is_symlink() and not os.path.lexists(here):
            for folder in self._folders(agent)[:-1]:
                folders.make(folder)
            before.rename(here)

    def remove(self, agent: str) -> None:
        """Delete an agent's repository, and its name among the others."""
        folders.remove(config_folder(self._settings, agent).parent)

    def _config(self, agent: str) -> Folder:
        return self._folders(agent)[-1]

    def _folders(self, agent: str) -> tuple[Folder, ...]:
        own = os.geteuid(), os.getegid()
        return folders_of(self._settings, agent, own, self._editor(agent).identity, ())


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
