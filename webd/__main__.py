"""`python -m webd --config FILE` serves the dashboard."""

import argparse
import sys
from functools import partial
from pathlib import Path

from runtime import log
from runtime.service import run_service
from runtime.settings import EXIT_SETTINGS, SettingsFault, load_settings
from webd.service import serve_webd
from webd.settings import WebSettings


def main() -> int:
    parser = argparse.ArgumentParser(prog="webd", description="the dashboard of a hive")
    parser.add_argument("--config", type=Path, required=True, help="settings (TOML)")
    values = parser.parse_args()
    try:
        settings = load_settings(values.config, WebSettings)
    except SettingsFault as fault:
        sys.stderr.write(f"webd: {fault}\n")
        return EXIT_SETTINGS
    log.configure(settings.log_level)
    return run_service("webd", partial(serve_webd, settings=settings))


if __name__ == "__main__":
    sys.exit(main())
