"""`hivectl restore`: what a person types, and what they are told."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from brokerd.store import wal
from protocol.brokerd import Backup
from tests.brokerd.hive import Hive, Privd, cage

pytestmark = [pytest.mark.anyio, pytest.mark.whole]


@pytest.fixture
async def folder(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A hive that is down, with one backup, and one message that came after it."""
    monkeypatch.setattr(wal, "STEPS", 1)
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        hive = Hive(Path(name), Privd(Path(name)))
        hive.privd.change(cage("hm1nd"))
        async with hive.privd.serving(), hive.broker():
            await hive.send("operator", "hm1nd", "kept")
            await hive.operator.call(Backup())
            await hive.send("operator", "hm1nd", "undone")
        yield Path(name)


def hivectl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "hivectl", "--dir", str(folder), *words]
    environment = {**os.environ, "HIVE_PROGRAM": "hivectl"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )


def bodies(folder: Path) -> list[str]:
    with Hive(folder, Privd(folder)).reader() as db:
        return [row["body"] for row in db.execute("SELECT body FROM messages ORDER BY id")]


async def test_going_back_and_back_again(folder: Path) -> None:
    (listed,) = json.loads(hivectl(folder, "restore", "--list", "--json").stdout)
    shown = hivectl(folder, "restore", "--list").stdout.splitlines()
    assert shown[0].split() == ["BACKUP", "MADE", "SIZE", "VERSION"]
    assert shown[1].startswith(listed["name"])

    asked = hivectl(folder, "restore")
    assert asked.returncode == 1
    assert f"this puts the backup {listed['name']}, made " in asked.stderr
    assert "to do it, say --yes" in asked.stderr
    assert bodies(folder) == ["kept", "undone"]

    done = hivectl(folder, "restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"restored {listed['name']}; what was there is in {folder}/broker/set-aside/"
    )
    assert bodies(folder) == ["kept"]

    aside = Path(done.stdout.strip().rpartition(" ")[2])
    for file in aside.iterdir():
        shutil.copyfile(file, folder / "broker" / file.name)
    assert bodies(folder) == ["kept", "undone"], "nothing was removed"


async def test_only_the_log_is_put_aside(folder: Path) -> None:
    (folder / "broker" / "events.sqlite").write_bytes(b"no database")
    done = hivectl(folder, "restore", "--without-log", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"events.sqlite is in {folder}/broker/set-aside/")
    hive = Hive(folder, Privd(folder))
    hive.privd.change(cage("hm1nd"))
    async with hive.privd.serving(), hive.broker():
        assert [message.body for message in await hive.messages()] == ["kept", "undone"]


async def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    for words, said in (
        (["restore", "20200101T000000Z", "--yes"], "there is no backup '20200101T000000Z'; there are: "),
        (["restore", str(tmp_path), "--yes"], "is no backup: it has no backup.json"),
    ):
        refused = hivectl(folder, *words)
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert line.startswith("hivectl: ")
        assert said in line
    nowhere = hivectl(tmp_path / "nowhere", "restore", "--yes")
    assert nowhere.returncode == 1
    assert "no hive is in this folder" in nowhere.stderr


@pytest.mark.root
async def test_root_restores_as_the_brokers_own_user(folder: Path) -> None:
    """What it makes belongs to brokerd, and whatever is in the files is read without root's rights."""
    owner = 64_321
    folder.chmod(0o711)
    for path in (folder / "broker", *(folder / "broker").rglob("*")):
        os.chown(path, owner, owner)
    done = hivectl(folder, "restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (folder / "broker").rglob("*")} == {owner}
    assert bodies(folder) == ["kept"]


async def test_a_backup_is_made_while_the_hive_is_up(folder: Path) -> None:
    (folder / "run").symlink_to(folder)  # where hivectl looks for sockets
    hive = Hive(folder, Privd(folder))
    hive.privd.change(cage("hm1nd"))
    async with hive.privd.serving(), hive.broker():
        done = await trio.to_thread.run_sync(hivectl, folder, "backup")
        refused = await trio.to_thread.run_sync(hivectl, folder, "restore", "--yes")
    assert done.returncode == 0, done.stderr
    name = done.stdout.split()[1].rstrip(",")
    assert done.stdout.rstrip().endswith(f"to go back to it: restore {name}")
    assert refused.returncode == 1
    assert "works on these databases; stop the hive first" in refused.stderr
    assert len(json.loads(hivectl(folder, "restore", "--list", "--json").stdout)) == 2
