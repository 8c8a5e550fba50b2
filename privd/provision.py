"""What a new agent gets before it ever runs: a uid range that nobody has, a folder that is its own, credentials."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from privd.cages.identity import Identity, allocate, foreign_ranges
from privd.furnish import CA_NAME, KEY_NAME
from privd.settings import PrivdSettings
from protocol.problem import Problem, Refused
from protocol.settings import Credential

SUBORDINATE_IDS: Final = (Path("/etc/subuid"), Path("/etc/subgid"))
CREDENTIAL_MODE: Final = 0o400


def next_range(block: int, recorded: Collection[int]) -> int:
    """A uid range nobody has; the block's first one belongs to the daemons."""
    foreign = [span for path in SUBORDINATE_IDS if path.exists() for span in foreign_ranges(path.read_text())]
    return allocate(block, {block, *recorded}, foreign)


def credentials(settings: PrivdSettings) -> dict[str, bytes]:
    """The model key and the trusted certificate, by the names they get. Refused(failed) when one cannot be read."""
    api = settings.model_api
    in_cages = settings.credential is Credential.CAGE
    wanted = {KEY_NAME: api.key_file if in_cages else None, CA_NAME: api.ca_file}
    try:
        return {name: Path(source).read_bytes() for name, source in wanted.items() if source is not None}
    except OSError as error:
        raise Refused(
            Problem.FAILED, f"{error.filename}: {error.strerror}; see [model] in hive.toml"
        ) from error


def give(folder: Path, identity: Identity, content: Mapping[str, bytes], *, separate: bool) -> None:
    """Put files into a new agent's own folder. `separate`: agents have uids of their own."""
    for name, data in content.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(folder / name, flags, CREDENTIAL_MODE)
        with open(descriptor, "wb") as file:  # noqa: PTH123  # what was opened so must not be opened again
            file.write(data)
            if separate:
                os.fchown(descriptor, identity.agent_uid, identity.agent_gid)


def check_vacant(folder: Path) -> None:
    """Refuse what no record explains: its files would pass for the new agent's own."""
    if os.path.lexists(folder):
        raise Refused(
            Problem.CONFLICT, f"{folder} is there, but belongs to no agent of this hive: move it away first"
        )
