"""The harness of one cage.

    python -I -m harness [--root FOLDER] [--proxy-port N]

Started by harness.init; the flags are for tests, which have no cage and look for its paths under a folder.
"""

import argparse
import sys
from pathlib import Path

import trio

from harness import forwarder
from harness.places import CAGE_ROOT, Places, settings_path
from harness.service import serve
from harness.settings import load_settings
from runtime.log import configure, logger
from runtime.service import EXIT_DEFECT
from runtime.settings import EXIT_SETTINGS, SettingsFault


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness", description="Serves the one agent of this cage.")
    parser.add_argument("--root", type=Path, default=CAGE_ROOT, help="where the cage's paths are looked for")
    parser.add_argument("--proxy-port", type=int, default=forwarder.PORT, help="0 takes any free port")
    given = parser.parse_args()
    configure()
    log = logger("harness")
    try:
        settings = load_settings(settings_path(given.root))
        places = Places(settings.name, given.root)

        async def run() -> None:
            await serve(settings, places, log, port=given.proxy_port)

        trio.run(run)
    except SettingsFault as fault:
        log.critical("unusable settings", fault=str(fault))
        return EXIT_SETTINGS
    except Exception as defect:
        log.critical("the harness ended by a defect", exc_info=defect)
        return EXIT_DEFECT
    return 0


if __name__ == "__main__":
    sys.exit(main())
