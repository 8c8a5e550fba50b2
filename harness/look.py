"""A look at the agent's own files, as the agent: the harness's user may not open them.

    python -I -m harness.look NOTES CREDENTIALS       {"notes": "…", "fault": "", "profile": true, …}

Standard library only, because it starts once a turn (harness.runner.look). It says whether credentials (`api_key`,
`ca`) are there, never what they are, and whether the agent has introduced itself in a profile beside its notes.
"""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Final

NOTES_BYTES_MAX: Final = 128 * 1024
"""More is not read; far less is shown (harness.policy.budget)."""
PROFILE_NAME: Final = "profile.md"
KEY_NAME: Final = "api_key"
CA_NAME: Final = "ca.pem"
USAGE: Final = 2


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -I -m harness.look NOTES CREDENTIALS\n")
        return USAGE
    notes, credentials = map(Path, arguments)
    text, fault = read_notes(notes)
    found = {
        "notes": text,
        "fault": fault,
        "profile": os.path.lexists(notes.with_name(PROFILE_NAME)),  # a dangling link is there, too
        "api_key": (credentials / KEY_NAME).is_file(),
        "ca": (credentials / CA_NAME).is_file(),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def read_notes(path: Path) -> tuple[str, str]:
    """The notes, and why they could not be read. None are no fault; a link or a device is not followed."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        return "", f"{path}: {error.strerror}"
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        return "", f"{path}: not a regular file"
    with os.fdopen(opened, "rb") as file:
        return file.read(NOTES_BYTES_MAX).decode(errors="replace").replace("\0", "\ufffd"), ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
