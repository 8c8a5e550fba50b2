"""What a machine can isolate is tried, not guessed; a machine that can do nothing is told what to install."""

from pathlib import Path

import pytest

from privd.cages import probe
from privd.cages.bwrap import Bwrap
from privd.cages.nspawn import Nspawn
from privd.cages.probe import NSPAWN_VERSION_MIN, choose, report
from privd.cages.units import Units
from privd.settings import BackendChoice, Launching
from protocol.problem import Problem, Refused

pytestmark = [pytest.mark.anyio, pytest.mark.cage]


async def test_the_report_names_a_backend_that_works(tmp_path: Path) -> None:
    found = await report(tmp_path / "not" / "yet")
    subjects = [finding.subject for finding in found.findings]
    assert subjects[:3] == ["user", "systemd-nspawn", "bwrap"]
    for finding in found.findings:
        assert finding.what
        assert finding.good or finding.mend or finding.subject == "system calls", finding
    assert {"limits", "disk"} <= set(subjects)
    chosen = await choose(BackendChoice.AUTO, Launching.CHILDREN, tmp_path)
    assert chosen.name == found.backend
    assert not Path("/sys/fs/cgroup/memory/hyperhive-probe").exists()


@pytest.mark.root
async def test_root_prefers_nspawn(tmp_path: Path) -> None:
    assert (await choose(BackendChoice.AUTO, Launching.CHILDREN, tmp_path)).name == "nspawn"
    assert (await choose(BackendChoice.BWRAP, Launching.CHILDREN, tmp_path)).name == "bwrap"


async def test_without_nspawn_it_is_bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = probe._find
    monkeypatch.setattr(probe, "_find", lambda name: None if name == "systemd-nspawn" else found(name))
    assert (await choose(BackendChoice.AUTO, Launching.CHILDREN, tmp_path)).name == "bwrap"
    with pytest.raises(Refused, match="systemd-nspawn"):
        await choose(BackendChoice.NSPAWN, Launching.CHILDREN, tmp_path)


async def test_with_nothing_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_find", lambda _: None)
    with pytest.raises(Refused, match="apt-get install --no-install-recommends bubblewrap") as refused:
        await choose(BackendChoice.AUTO, Launching.CHILDREN, tmp_path)
    assert refused.value.problem is Problem.FAILED
    assert (await report()).backend == ""


@pytest.mark.root
@pytest.mark.parametrize("version", ["systemd 247 (247.3)\n+PAM\n", "something else", ""])
async def test_an_old_nspawn_is_not_used(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: str, unprivileged: bool = False) -> tuple[int, str]:
        return 0, version

    monkeypatch.setattr(probe, "_run", run)
    finding = await probe._try_nspawn()
    assert (finding.good, str(NSPAWN_VERSION_MIN) in finding.mend) == (False, True)


async def test_two_hives_have_tags_of_their_own(tmp_path: Path) -> None:
    chosen = [
        await choose(BackendChoice.BWRAP, Launching.CHILDREN, tmp_path / name) for name in ("one", "other")
    ]
    launchers = {backend.launcher for backend in chosen if isinstance(backend, Bwrap)}
    assert len(launchers) == 2


@pytest.mark.root
async def test_where_cages_are_units_privd_makes_none_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    async def run(*argv: str, unprivileged: bool = False) -> tuple[int, str]:
        ran.append(argv[1:])
        return 0, "systemd 252 (252.39-1~deb12u2)\n"

    monkeypatch.setattr(probe, "_run", run)
    chosen = await choose(BackendChoice.NSPAWN, Launching.UNITS, tmp_path)
    assert ran == [("--version",)]
    assert isinstance(chosen, Nspawn)
    assert isinstance(chosen.launcher, Units)
