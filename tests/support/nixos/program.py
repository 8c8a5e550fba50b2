"""Be one program of a made-up NixOS host: `python3 -I -S program.py NAME WORDS…`; its wrapper says NIXOS_HOST."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.nixos.place import HOST


def main() -> None:
    name, words = sys.argv[1], sys.argv[2:]
    hidden = ("NIXOS_HOST", "PWD", "OLDPWD", "_", "SHLVL")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    call = {"program": name, "argv": words, "cwd": str(Path.cwd()), "env": environment}
    with (HOST / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(call) + "\n")
    if name in ("systemctl", "machinectl"):  # only what is needed, because every test starts dozens of these
        from tests.support.nixos import systemd  # noqa: PLC0415 - one of many programs

        {"systemctl": systemd.systemctl, "machinectl": systemd.machinectl}[name](words)
        return
    from tests.support.nixos import container  # noqa: PLC0415 - one of many programs

    {"nixos-container": container.nixos_container, "nix": container.nix, "nix-env": container.nix_env}[name](
        words
    )


if __name__ == "__main__":
    main()
