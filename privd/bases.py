"""What a cage that is made now would be made from, by what drives its agent; looked up when it may have changed."""

from privd.cages.backend import Backend
from privd.furnish import programs
from privd.settings import PrivdSettings
from protocol.settings import Runner


class Bases:
    """The bases of one hive."""

    def __init__(self, settings: PrivdSettings, backend: Backend) -> None:
        self._settings = settings
        self._backend = backend
        self._known: dict[Runner, dict[str, str]] = {}

    def now(self, runner: Runner) -> dict[str, str]:
        """As of the last look."""
        return self._known.get(runner) or self.look(runner)

    def look(self, runner: Runner) -> dict[str, str]:
        """As of this moment."""
        found = self._known[runner] = self._backend.base(programs(self._settings, runner))
        return found

    def look_again(self) -> None:
        """The system may have been upgraded under a hive that runs."""
        for runner in self._known:
            self.look(runner)
