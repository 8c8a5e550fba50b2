"""Where everything is inside the cage. Nothing is read here."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from harness.look import PROFILE_NAME
from protocol.settings import SETTINGS_PATH

CAGE_ROOT: Final = Path("/")
PROGRAM_CLAUDE: Final = "opt/hive/claude/claude"


class Places(Struct, frozen=True):
    """Paths for one agent. `root` is `/` in a cage; tests give a folder of their own."""

    agent: str
    root: Path = CAGE_ROOT

    @property
    def broker_socket(self) -> Path:
        return self.root / "run/hive/broker/broker.sock"

    @property
    def egress_socket(self) -> Path:
        return self.root / "run/hive/egress/egress.sock"

    @property
    def model_socket(self) -> Path:
        """Where egressd passes requests to the model API on, when it holds the credential."""
        return self.root / "run/hive/egress/model.sock"

    @property
    def own(self) -> Path:
        """The harness's own folder for what it makes at each start: the agent may read it, never write."""
        return self.root / "run/harness"

    @property
    def tools_socket(self) -> Path:
        return self.own / "mcp.sock"

    @property
    def mcp_config(self) -> Path:
        return self.own / "mcp.json"

    @property
    def role_prompt(self) -> Path:
        return self.own / "role.md"

    @property
    def state(self) -> Path:
        """The agent's working tree and notes."""
        return self.root / "agents" / self.agent / "state"

    @property
    def notes(self) -> Path:
        return self.state / "notes.md"

    @property
    def profile(self) -> Path:
        """How the agent introduces itself, with its pronouns."""
        return self.state / PROFILE_NAME

    @property
    def credentials(self) -> Path:
        """The CLI's configuration folder: the agent's own, closed to the harness."""
        return self.root / "agents" / self.agent / "claude"

    @property
    def harness(self) -> Path:
        """What the harness keeps from one start to the next."""
        return self.root / "agents" / self.agent / "harness"

    @property
    def claude(self) -> Path:
        return self.root / PROGRAM_CLAUDE


def settings_path(root: Path = CAGE_ROOT) -> Path:
    return root / SETTINGS_PATH.lstrip("/")
