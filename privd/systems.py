"""What the cages of a hive are made from: the base that a new one would have, and on NixOS a system for each agent."""

from collections.abc import Callable
from pathlib import Path

from privd.cages.backend import Backend
from privd.cages.journal import Journal
from privd.cages.spec import Places
from privd.furnish import programs
from privd.repositories import Repositories
from privd.settings import PrivdSettings
from protocol.settings import Runner


class Systems:
    """Those of one hive."""

    def __init__(self, settings: PrivdSettings, backend: Backend, repositories: Repositories) -> None:
        self._settings = settings
        self._backend = backend
        self._repositories = repositories
        self._bases: dict[Runner, dict[str, str]] = {}

    def base(self, runner: Runner) -> dict[str, str]:
        """What a cage that is made now would be made from, as of the last look; by what drives its agent."""
        return self._bases.get(runner) or self.look(runner)

    def pinned(self) -> dict[str, str]:
        """The sources of every system that is built here, by their whole hashes; nothing where none is."""
        return self._backend.sources()

    def look(self, runner: Runner) -> dict[str, str]:
        """As of this moment."""
        found = self._bases[runner] = self._backend.base(programs(self._settings, runner))
        return found

    def look_again(self) -> None:
        """The system may have been upgraded under a hive that runs."""
        for runner in self._bases:
            self.look(runner)

    async def build(self, agent: str, commit: str, say: Callable[[str], None]) -> None:
        """Build what a commit needs, before anything is switched; each line is told as it comes."""
        files = await self._repositories.files(agent, commit)
        await self._backend.build(agent, files, self._places(agent), say)

    async def build_again(self, agent: str, commit: str | None) -> None:
        """Build what is deployed over the base of now, told in the cage's journal; None: nothing is.

        Refused(failed) while the cage runs on as it is.
        """
        if commit is not None:
            await self.build(agent, commit, Journal(self._places(agent).journal).say)

    async def aim(self, agent: str, commit: str) -> None:
        """From its next start on this commit counts."""
        await self._backend.aim(agent, await self._repositories.files(agent, commit))

    def _places(self, agent: str) -> Places:
        return Places(Path(self._settings.state) / "cages" / agent)
