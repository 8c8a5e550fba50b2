"""The skeleton root: complete, small, made again over whatever stands there, and the same when nothing changed."""

import json
import os
from pathlib import Path

import pytest

from privd.cages import syscalls
from privd.cages.skeleton import host_binds, make
from privd.cages.spec import Bind, Places
from protocol.problem import Refused
from tests.privd.cages.test_spec import spec


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "cages" / "iris")


def tree(root: Path) -> dict[str, tuple[int, int, bytes | str]]:
    found: dict[str, tuple[int, int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        content: bytes | str = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (path.lstat().st_mode, path.lstat().st_ino, content)
    return found


def test_what_is_in_it(places: Places) -> None:
    make(spec(settings_json=b'{"name": "iris"}'), places)
    root = places.root
    assert json.loads((root / "etc/hyperhive/agent.json").read_bytes()) == {"name": "iris"}
    assert (root / "etc/hyperhive/syscalls.bpf").read_bytes() == syscalls.program()
    assert "agent:x:1000:1000::/agents/iris/state:/bin/bash\n" in (root / "etc/passwd").read_text()
    assert (root / "etc/hostname").read_text() == "iris\n"
    assert (root / "agents/iris/state").is_dir()
    assert not (root / "etc/shadow").exists()
    assert not (root / "etc/resolv.conf").exists()


def test_it_is_small_and_open_to_read(places: Places) -> None:
    before = os.umask(0o077)
    try:
        make(spec(), places)
    finally:
        os.umask(before)
    for path in places.root.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path
    assert sum(path.lstat().st_size for path in places.root.rglob("*") if path.is_file()) < 1_000_000


def test_made_again_it_is_the_same(places: Places) -> None:
    make(spec(), places)
    before = tree(places.root)
    make(spec(), places)
    assert tree(places.root) == before


def test_it_is_set_right(places: Places) -> None:
    make(spec(), places)
    before = {name: (mode, content) for name, (mode, _, content) in tree(places.root).items()}
    (places.root / "etc/passwd").write_text("root::0:0::/:/bin/sh\n")
    (places.root / "etc/hosts").unlink()
    (places.root / "etc/hosts").symlink_to("/etc/shadow")
    (places.root / "tmp").chmod(0o777)
    (places.root / "var").rmdir()
    (places.root / "var").symlink_to("/var")
    make(spec(), places)
    assert {name: (mode, content) for name, (mode, _, content) in tree(places.root).items()} == before


def test_mount_points_of_agents_that_are_gone_go(places: Places) -> None:
    make(spec(), places)
    (places.root / "agents/muse/config").mkdir(parents=True)  # as an older hyperhive made it
    make(spec(binds=(Bind("/srv/a", "/agents/iris/state"),)), places)
    assert [path.name for path in (places.root / "agents").iterdir()] == ["iris"]


def test_mount_points_below_run_are_left_to_the_cage(places: Places) -> None:
    make(spec(binds=(Bind("/srv/a", "/run/hive/broker"),)), places)
    assert list((places.root / "run").iterdir()) == []


def test_host_folders_are_real() -> None:
    binds = host_binds()
    assert binds[0] == Bind("/usr", "/usr")
    for bind in binds:
        assert not bind.writable
        assert Path(bind.source).is_dir()
        assert Path(bind.source).resolve() == Path(bind.source)


def test_a_machine_without_a_filter_makes_no_cage(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "program", lambda: None)
    with pytest.raises(Refused, match="no system call filter"):
        make(spec(), places)
