"""`python -m egressd --config FILE`: the process that lets agents out, to where their settings allow."""

import argparse
import sys
from functools import partial
from pathlib import Path

from egressd.service import serve
from egressd.settings import EgressSettings
from runtime import log
from runtime.service import run_service
from runtime.settings import EXIT_SETTINGS, SettingsFault, load_settings


def main() -> int:
    """Read the settings and run until told to stop."""
    parser = argparse.ArgumentParser(prog="hive-egressd", description="The way out of the cages of a hive.")
    parser.add_argument("--config", type=Path, required=True, help="settings file (TOML)")
    path: Path = parser.parse_args().config
    try:
        settings = load_settings(path, EgressSettings)
    except SettingsFault as fault:
        parser.exit(EXIT_SETTINGS, f"egressd: {fault}\n")
    log.configure(settings.log_level)
    return run_service("egressd", partial(serve, settings=settings))


if __name__ == "__main__":
    sys.exit(main())
