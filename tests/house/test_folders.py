"""The repository has the folders the documentation names, and the README's commands exist."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("protocol", "runtime", "privd", "boxes", "brokerd", "webd", "egressd", "harness", "hivectl")
DAEMONS = ("privd", "brokerd", "webd", "egressd")
DOCUMENTATION = ("tutorial", "how-to", "reference", "explanation", "decisions")
LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#]+)(#[^)]*)?\)")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", [*PACKAGES, "tests", "docs", "house", "nix"])
def test_the_folder_exists(name: str) -> None:
    assert (CHECKOUT / name).is_dir()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is(package: str) -> None:
    assert (CHECKOUT / package / "__init__.py").read_text().startswith('"""')


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize("part", ["__main__.py", "settings.py", "service.py"])
def test_every_daemon_has_the_one_shape(daemon: str, part: str) -> None:
    assert (CHECKOUT / daemon / part).is_file()


def test_the_wheel_holds_every_package() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == [f"{name}*" for name in PACKAGES]


@pytest.mark.parametrize("kind", DOCUMENTATION)
def test_each_kind_of_documentation_is_listed(kind: str) -> None:
    assert f"({kind}/" in (CHECKOUT / "docs" / "README.md").read_text()


def pages() -> list[Path]:
    return sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(page.read_text()):
        assert (page.parent / link["path"]).exists(), f"{page.name}: {link['path']}"


def test_every_page_of_the_documentation_is_reachable() -> None:
    linked = {CHECKOUT / "docs" / "README.md"}
    for page in pages():
        linked |= {(page.parent / link["path"]).resolve() for link in LINK.finditer(page.read_text())}
    assert not set((CHECKOUT / "docs").rglob("*.md")) - linked


def test_the_commands_of_the_readme_exist() -> None:
    shown = set(re.findall(r"^\./hive (\w+)", (CHECKOUT / "README.md").read_text(), re.MULTILINE))
    assert {"up", "test"} <= shown
    offered = set(re.findall(r"^  (\w+) ", run("./hive", "help").stdout, re.MULTILINE))
    assert {"up", "check", "test", "env", "clean"} <= offered


def test_an_unknown_set_is_refused_by_name() -> None:
    answer = run("./hive", "env", "everything")
    assert answer.returncode == 1
    assert "run dev claude all" in answer.stderr
