"""`python -m brokerd --config FILE`: the broker of a hive."""

import argparse
import sys
from functools import partial
from pathlib import Path

from brokerd.service import serve_broker
from brokerd.settings import BrokerSettings
from runtime import log
from runtime.service import run_service
from runtime.settings import EXIT_SETTINGS, SettingsFault, load_settings


def main() -> int:
    """Read the settings and run until told to stop."""
    parser = argparse.ArgumentParser(prog="hive-brokerd", description="The broker of a hive.")
    parser.add_argument("--config", type=Path, required=True, help="settings file (TOML)")
    path: Path = parser.parse_args().config
    try:
        settings = load_settings(path, BrokerSettings)
    except SettingsFault as fault:
        sys.stderr.write(f"brokerd: {fault}\n")
        return EXIT_SETTINGS
    log.configure(settings.log_level)
    return run_service("brokerd", partial(serve_broker, settings=settings))


if __name__ == "__main__":
    sys.exit(main())
