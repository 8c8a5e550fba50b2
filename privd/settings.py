"""privd's settings: where the hive lives on this machine and who its other processes are. Root alone writes them."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import PROPOSAL_DAYS
from protocol.settings import CageLimits, Credential, Runner
from runtime.settings import AbsolutePath, Origin, Uid, Url


class BackendChoice(StrEnum):
    """Which kind of cage: `auto` takes nixos on a NixOS host, else nspawn where it works, else bwrap."""

    AUTO = "auto"
    NIXOS = "nixos"
    NSPAWN = "nspawn"
    BWRAP = "bwrap"


class Launching(StrEnum):
    """Whose children cages are: privd's own, or systemd's, each a unit `hive-cage@<name>.service`."""

    CHILDREN = "children"
    UNITS = "units"


class Peers(Struct, frozen=True, forbid_unknown_fields=True):
    """The uids of the other daemons, and who may act as the operator."""

    broker_uid: Uid
    web_uid: Uid
    egress_uid: Uid
    operator_uids: tuple[Uid, ...] = (0,)
    admin_gid: Uid | None = None
    """Members of this group are operators too."""


class ModelApi(Struct, frozen=True, forbid_unknown_fields=True):
    """How agents reach the model; the key is copied into each new agent's credential folder, if cages hold keys."""

    base_url: Url | None = None
    ca_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None


class FlakeInput(Struct, frozen=True, forbid_unknown_fields=True):
    """A folder of the store that systems are built from, and its hash as Nix writes it."""

    path: AbsolutePath
    nar_hash: Annotated[str, Meta(pattern=r"\Asha256-[A-Za-z0-9+/]{43}=\Z")]


class NixosInputs(Struct, frozen=True, forbid_unknown_fields=True):
    """What every agent's system is built from; the NixOS module writes it."""

    hyperhive: FlakeInput
    nixpkgs: FlakeInput


class PrivdSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that privd is told at its start."""

    state: AbsolutePath
    run: AbsolutePath
    peers: Peers
    uid_first: Uid
    """First uid of the hive's block of ranges; the first range belongs to the daemons."""
    environment: AbsolutePath
    """The harness's Python environment, bound read-only into every cage."""
    claude: AbsolutePath | None = None
    """Folder that holds the `claude` program, bound read-only into cages whose runner it is."""
    backend: BackendChoice = BackendChoice.AUTO
    cages: Launching = Launching.CHILDREN
    """`units` needs systemd as the machine's first process, and the unit that `hivectl install` puts there."""
    model_api: ModelApi = ModelApi()
    credential: Credential = Credential.CAGE
    """Who holds the model key of an agent that is created from now on."""
    limits: CageLimits = CageLimits()
    runner: Runner = Runner.DEMO
    """What drives an agent that is created without saying."""
    proposal_days: Annotated[int, Meta(ge=1, le=365)] = PROPOSAL_DAYS
    """How long a proposal waits for the operator before it expires."""
    ended_days: Annotated[int, Meta(ge=1, le=3_650)] = 90
    """How long denials and failures stay in the record; generations stay for ever."""
    passkey_origins: tuple[Origin, ...] = ()
    """Pages where an approval by passkey counts, as a browser names them; a key counts for that page's host alone."""
    approvers_required: Annotated[int, Meta(ge=1, le=2)] = 1
    """How many keys must agree to a deployment, once any key is enrolled."""
    stop_grace_s: Annotated[int, Meta(ge=1, le=600)] = 30
    rebuild_stale: bool = True
    """Whether cages that were made from an older hyperhive or system are rebuilt by themselves."""
    nixos: NixosInputs | None = None
    """With NixOS containers; without it no agent's system can be built."""
