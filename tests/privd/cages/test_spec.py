"""Nothing unchecked reaches a program's arguments: a spec that could do harm cannot be made."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.cages import bwrap, nspawn
from privd.cages.children import Children
from privd.cages.identity import UID_FIRST, mapped
from privd.cages.launch import STAGE
from privd.cages.spec import Bind, CageSpec, Exit, Folder, How
from protocol.names import AGENT_NAME_PATTERN, RESERVED_NAMES
from protocol.settings import AgentRole, CageLimits

BAD_NAMES = [
    json.loads(line) for line in Path(__file__).with_name("bad_names.jsonl").read_text().splitlines()
]
PYTHON = "/opt/hive/env/bin/python"
GOOD_PATHS = st.from_regex(r"\A(/[A-Za-z0-9][A-Za-z0-9._@+-]{0,10}){1,4}\Z")
GOOD_NAMES = st.from_regex(AGENT_NAME_PATTERN).filter(lambda name: name not in RESERVED_NAMES)
ANY_TEXT = st.text(max_size=40)


def spec(**changes: Any) -> CageSpec:
    values: dict[str, Any] = {
        "agent": "iris",
        "role": AgentRole.AGENT,
        "uid_base": UID_FIRST,
        "limits": CageLimits(),
        "folders": (Folder("/srv/hive/agents/iris/state", 1, 1, 0o700),),
        "binds": (Bind("/srv/hive/agents/iris/state", "/agents/iris/state", writable=True),),
        "command": (PYTHON, "-I", "-m", "harness.init"),
        "settings_json": b"{}",
    }
    return CageSpec(**(values | changes))


def arguments(made: CageSpec) -> tuple[tuple[str, ...], ...]:
    root = Bind(f"{STAGE}/0", "/")
    return nspawn.arguments("/usr/bin/systemd-nspawn", made), bwrap.arguments(
        "/usr/bin/bwrap", made, (root, *made.binds)
    )


@pytest.mark.parametrize("row", BAD_NAMES, ids=lambda row: row["id"])
def test_a_bad_name_makes_no_cage(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        spec(agent=row["input"])
    assert str(refused.value).isprintable()
    assert str(refused.value).isascii()


@given(ANY_TEXT)
def test_a_name_is_refused_or_harmless(name: str) -> None:
    try:
        made = spec(agent=name)
    except ValueError:
        return
    assert re.search(AGENT_NAME_PATTERN, name)
    assert f"--machine={name}" in arguments(made)[0]


@given(ANY_TEXT)
def test_a_path_is_refused_or_harmless(text: str) -> None:
    try:
        made = spec(binds=(Bind(text, text),))
    except ValueError:
        return
    assert text.startswith("/")
    assert not re.search(r"[:\\\x00-\x1f\x7f'\"]", text)
    assert ".." not in text.split("/")
    assert any(f"--bind-ro={STAGE}/" in word and word.endswith(f":{text}") for word in arguments(made)[0])


@pytest.mark.parametrize(
    "path",
    [
        "", "x", "./x", "/", "//", "/x/", "/x//y", "/../x", "/x/../y", "/x/.",
        "/x:y", "/x\\y", "/x\ny", "/x\0", '/"', "/x'", "/\ud800", "/é",
    ],
)  # fmt: skip
def test_paths_that_are_none(path: str) -> None:
    for changes in (
        {"binds": (Bind(path, "/x"),)},
        {"binds": (Bind("/x", path),)},
        {"folders": (Folder(path, 1, 1, 0o700),)},
        {"command": (path,)},
    ):
        with pytest.raises(ValueError):
            spec(**changes)


@given(ANY_TEXT, ANY_TEXT)
def test_a_variable_is_refused_or_harmless(name: str, value: str) -> None:
    try:
        made = spec(environment={name: value})
    except ValueError:
        return
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    assert not re.search(r"[\x00-\x1f\x7f]", value)
    assert f"--setenv={name}={value}" in arguments(made)[0]


@pytest.mark.parametrize(
    "name",
    ["", "a b", "1A", "A=B", "LD_PRELOAD", "LISTEN_FDS", "NOTIFY_SOCKET", "PYTHONPATH", "HIVE_INIT_READY_FD"],
)
def test_variables_that_steer_the_start_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        spec(environment={name: "x"})


@pytest.mark.parametrize("uid_base", [0, 1000, UID_FIRST + 1, -65_536, 2**31])
def test_a_cage_has_a_real_range(uid_base: int) -> None:
    with pytest.raises(ValueError):
        spec(uid_base=uid_base)


@pytest.mark.parametrize(
    "command", [(), ("python",), (PYTHON, "a\nb"), (PYTHON, "\0"), (PYTHON, *["x"] * 64)]
)
def test_commands_that_are_none(command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        spec(command=command)


@given(GOOD_NAMES, st.lists(st.tuples(GOOD_PATHS, GOOD_PATHS, st.booleans()), max_size=4), ANY_TEXT)
def test_arguments_are_one_table(name: str, pairs: list[tuple[str, str, bool]], value: str) -> None:
    """Whatever varies stays inside its own word; what follows `--` is the command and nothing else."""
    binds = tuple(Bind(source, target, writable) for source, target, writable in pairs)
    try:
        made = spec(agent=name, binds=binds, environment={"VALUE": value})
    except ValueError:
        return
    for program in arguments(made):
        assert program[program.index("--") + 1 :] == made.command
        assert all("\n" not in word and "\0" not in word for word in program)
    fixed = nspawn.arguments("/usr/bin/systemd-nspawn", spec(binds=(), environment={"VALUE": "x"}))
    varying = ("--bind", "--setenv=VALUE", "--machine", "--hostname")
    assert [word for word in arguments(made)[0] if not word.startswith(varying)] == [
        word for word in fixed if not word.startswith(varying)
    ]


def test_a_writable_bind_is_asked_for_by_name() -> None:
    made = spec(binds=(Bind("/srv/a", "/a"), Bind("/srv/b", "/b", writable=True)))
    words = arguments(made)[0]
    assert [word.split("=")[0] for word in words if word.endswith((":/a", ":/b"))] == ["--bind-ro", "--bind"]


def test_every_capability_is_kept_or_dropped_by_name() -> None:
    kernel = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1
    known = {*nspawn.CAPABILITIES_KEPT, *nspawn.CAPABILITIES_DROPPED}
    assert len(known) == len(nspawn.CAPABILITIES_KEPT) + len(nspawn.CAPABILITIES_DROPPED)
    assert len(known) >= kernel


def test_init_is_told_its_limits() -> None:
    told = spec(limits=CageLimits(tasks_max=None, files_max=77, disk_mib_max=None)).init_variables(3)
    assert told == {"HIVE_INIT_READY_FD": "3", "HIVE_INIT_FILES_MAX": "77"}


def test_what_no_group_limits_init_bounds_for_each_process() -> None:
    made = spec(limits=CageLimits(memory_mib_max=512, disk_mib_max=100))
    told = made.init_variables(None, {"memory": "why"})
    assert told["HIVE_INIT_DATA_BYTES_MAX"] == str(512 << 20)
    assert told["HIVE_INIT_FILE_BYTES_MAX"] == str(100 << 20)
    assert "HIVE_INIT_DATA_BYTES_MAX" not in made.init_variables(None)
    assert "HIVE_INIT_READY_FD" not in told


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (Exit(How.EXIT, 3), "exit code 3"),
        (Exit(How.SIGNAL, 9), "signal 9"),
        (Exit(How.UNKNOWN), "an end that nobody saw"),
    ],
)
def test_an_end_in_words(ended: Exit, text: str) -> None:
    assert str(ended) == text


def test_identity_follows_from_the_base() -> None:
    assert nspawn.Nspawn("/x", Children("h")).identity(UID_FIRST) == mapped(UID_FIRST)
    as_root = bwrap.Bwrap("/x", Children("h"), 0, 0).identity(UID_FIRST)
    assert (as_root.agent_uid, as_root.harness_uid, as_root.separated) == (
        UID_FIRST + 1000,
        UID_FIRST + 1000,
        False,
    )
    assert bwrap.Bwrap("/x", Children("h"), 1000, 100).identity(UID_FIRST).agent_gid == 100
