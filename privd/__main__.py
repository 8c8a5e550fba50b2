"""`python -m privd --config FILE` serves; `--probe` says what this machine can isolate and ends."""

import argparse
import grp
import pwd
import sys
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from privd.box_trial import try_box
from privd.cages.blocks import claim
from privd.cages.identity import RANGE_UIDS, block_of, foreign_ranges
from privd.cages.probe import Report, report
from privd.provision import SUBORDINATE_IDS
from privd.service import serve_privd
from privd.settings import PrivdSettings
from runtime import log
from runtime.service import run_service
from runtime.settings import EXIT_SETTINGS, SettingsFault, load_settings

NAMED_UIDS: Final = 8
"""Of a block's first range: the daemons have some of these."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="privd", description="the privileged daemon of a hive")
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    parser.add_argument("--probe", action="store_true", help="print what this machine can isolate, as JSON")
    parser.add_argument(
        "--state", type=Path, help="with --probe: the hive's folder, to say which uids and which disk it gets"
    )
    parser.add_argument(
        "--claim", action="store_true", help="with --state: and keep those uids for that hive"
    )
    values = parser.parse_args()
    log.configure()
    if values.probe:
        found = trio.run(_probed, values.state)
        block = _block(values.state, claimed=values.claim) if values.state else None
        told = {"uid_first": block, "uid_conflict": "" if block is None else owner_of(block)}
        sys.stdout.write(msgspec.json.encode({**msgspec.to_builtins(found), **told}).decode() + "\n")
        return 0
    if values.config is None:
        parser.error("--config FILE is needed to serve")
    try:
        settings = load_settings(values.config, PrivdSettings)
    except SettingsFault as fault:
        sys.stderr.write(f"privd: {fault}\n")
        return EXIT_SETTINGS
    return run_service("privd", partial(serve_privd, settings=settings))


async def _probed(state: Path | None) -> Report:
    found = await report(state)
    return msgspec.structs.replace(found, findings=(*found.findings, await try_box()))


def _block(state: Path, *, claimed: bool) -> int:
    return claim(state) if claimed else block_of(str(state.resolve()))


def owner_of(block: int) -> str:
    """Who else on this machine may be one of the daemons' uids, the first range of a block; empty when nobody may."""
    for path in SUBORDINATE_IDS:
        spans = foreign_ranges(path.read_text()) if path.exists() else ()
        if any(block < span.stop and span.start < block + RANGE_UIDS for span in spans):
            return f"{path} gives uids of {block} to {block + RANGE_UIDS - 1} to somebody"
    for number in range(block, block + NAMED_UIDS):
        for known in (pwd.getpwuid, grp.getgrgid):
            try:
                return f"{known(number)[0]!a} has the number {number}"
            except KeyError:
                continue
    return ""


if __name__ == "__main__":
    sys.exit(main())
