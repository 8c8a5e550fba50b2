"""agent.toml: what it says becomes settings, what it says wrongly is named, and settings come back as they were."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.configuration import FILE, PROMPT_FILE, Ground, Reading, read, render
from protocol.problem import Problem, Refused
from protocol.settings import (
    AgentSettings,
    CageLimits,
    EgressLimits,
    McpServer,
    Runner,
    StandingReminder,
)

PRIVATE = "PRIVATE"
"""Apart from the rest, so that no text of ours looks like a key."""
ROOT = Path(__file__).parents[2]
GROUND = Ground("iris", limits=CageLimits(memory_mib_max=2_048))


def reading(text: str, **files: bytes) -> Reading:
    return read(
        {FILE: text.encode(), **{name.replace("_md", ".md"): each for name, each in files.items()}}, GROUND
    )


def test_what_is_not_said_is_the_hives_own() -> None:
    settings = reading("").settings
    assert settings == AgentSettings(name="iris", limits=GROUND.limits)


def test_everything_that_may_be_said() -> None:
    settings = reading(
        """
        runner = "claude"
        model = "opus"
        role_prompt = "role.md"
        icon = "☕"
        pronouns = "she/her"
        account = "team"
        allowed_recipients = ["operator"]
        allowed_commands = ["git *"]
        [egress]
        hosts = ["packages.example"]
        connections_max = 3
        in_mib_per_hour_max = 7
        out_mib_per_hour_max = "unlimited"
        [limits]
        tasks_max = 99
        memory_mib_max = "unlimited"
        [environment]
        LANG = "C"
        [mcp_servers.notes]
        command = ["notes", "--all"]
        environment = { DEPTH = "2" }
        [[reminders]]
        name = "daily"
        body = "look"
        cron = "0 9 * * *"
        zone = "Europe/Berlin"
        """,
        role_md=b"You look.",
    ).settings
    assert settings == AgentSettings(
        name="iris",
        runner=Runner.CLAUDE,
        model="opus",
        role_prompt="You look.",
        icon="☕",
        pronouns="she/her",
        account="team",
        allowed_recipients=("operator",),
        allowed_commands=("git *",),
        egress_hosts=("packages.example",),
        egress_limits=EgressLimits(3, None, 7),
        limits=CageLimits(memory_mib_max=None, tasks_max=99),
        environment={"LANG": "C"},
        mcp_servers={"notes": McpServer(("notes", "--all"), {"DEPTH": "2"})},
        reminders=(StandingReminder("daily", "look", cron="0 9 * * *", zone="Europe/Berlin"),),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=", "agent.toml: it is not TOML: 'Invalid statement (at line 1, column 1)'"),
        ("modell = 'x'", "agent.toml: modell: Object contains unknown field"),
        ("model = 5", "agent.toml: model: Expected `str | null`, got `int`"),
        ("runner = 'gpt'", "agent.toml: runner: Invalid enum value 'gpt'"),
        ("[limits]\ntasks_max = 1", "agent.toml: limits.tasks_max: Expected `int` >= 16"),
        ("[limits]\ntasks = 1", "agent.toml: limits: Object contains unknown field `tasks`"),
        ("allowed_recipients = ['X Y']", "agent.toml: allowed_recipients[0]: Expected an agent's name"),
        ("[egress]\nhosts = ['a b']", "agent.toml: egress.hosts[0]: Expected host, host:port, *.domain or"),
        ("role_prompt = 'role.md'", "agent.toml: role_prompt: there is no file role.md"),
        ("role_prompt = '../role.md'", "agent.toml: role_prompt: Expected"),
        ("icon = 'nine signs'", "agent.toml: icon: Expected"),
        ("name = 'otto'", "agent.toml: name: Object contains unknown field"),
        ("role = 'manager'", "agent.toml: role: Object contains unknown field"),
        ("credential = 'cage'", "agent.toml: credential: Object contains unknown field"),
        ("a = " + "[" * 5_000, "agent.toml: line 1: it is nested too deeply"),
        ("a = 1\nb = " + "{b = " * 17, "agent.toml: line 2: it is nested too deeply"),
        ('a = """x\n"', "agent.toml: line 1: it is not TOML: a string has no end"),
        ("a = 'x", "agent.toml: line 1: it is not TOML: a string has no end"),
        ("a = " + "9" * 5_000, "agent.toml: it is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        reading(text)
    assert caught.value.problem is Problem.MALFORMED
    assert caught.value.detail.startswith(words)
    assert caught.value.detail.isprintable()


def test_bounds_are_named() -> None:
    with pytest.raises(Refused, match=r"limit: agent\.toml: 70001 bytes"):
        reading("#" + "x" * 70_000)
    with pytest.raises(Refused, match=r"limit: role\.md: 12001 characters"):
        reading("role_prompt = 'role.md'", role_md=b"x" * 12_001)
    with pytest.raises(Refused, match=r"agent\.toml: the file is missing"):
        read({}, GROUND)


DEEP = ".".join("abcdefghi")


@pytest.mark.parametrize(
    "text",
    [
        f"{DEEP} = 1",
        f"[{DEEP}]",
        f"[[{DEEP}]]",
        DEEP.replace(".", " . ") + " = 1",
        DEEP.replace("c", "'.'").replace("d", '"."') + " = 1",
        f"a = {{{DEEP} = 1}}",
        f"a = '''x.y'''\n{DEEP} = 1",
    ],
)
def test_a_key_of_too_many_parts(text: str) -> None:
    with pytest.raises(Refused, match=r"limit: agent\.toml: line \d: a key has more than 8 parts"):
        reading(text)


def test_dots_that_part_no_key() -> None:
    found = reading(
        """
        # a.b.c.d.e.f.g.h.i = 1
        allowed_commands = ['a.b.c.d.e.f.g.h.i', "a.b.c.d.e.f.g.h.\\"i", "a.b", ".", ".", ".", ".", ".", "."]
        [mcp_servers.notes.environment]
        A = \"\"\"a.b.c.d.e.f.g.h.i\"\"\"
        [mcp_servers.notes]
        command = ['''a.b.c.d.e.f.g.h.i''']
        """
    )
    assert found.settings.mcp_servers["notes"].environment == {"A": DEEP}
    assert found.warnings == ()


BOUNDED = """
import resource, sys
from privd.policy.configuration import FILE, Ground, read
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
files = {FILE: b""} | eval(sys.argv[1])
try:
    print("read", read(files, Ground("iris")).warnings)
except Exception as error:
    print(type(error).__name__, error)
"""
"""A process that has far less time and memory than what is quadratic would need, and far more than what is not."""


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ('{FILE: b".".join([b"a"] * 32_000) + b"=1"}', "Refused limit: agent.toml: line 1: a key has"),
        ('{FILE: b"[" + b".".join([b"a"] * 32_000) + b"]"}', "Refused limit: agent.toml: line 1: a key has"),
        ('{f"{n}.md": b"-eyJ" * 65_536 for n in range(4)}', "read ()"),
        ('{f"{n}.md": b".eyJ" * 65_536 for n in range(4)}', "read ()"),
        ('{f"{n}.md": b"-----BEGIN " * 23_000 for n in range(4)}', "read ()"),
        ('{f"{n}.md": b"a+a+a://b:c" * 23_000 for n in range(4)}', "read ()"),
    ],
)
def test_no_text_costs_more_than_its_length(files: str, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, files], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith(words), (done.returncode, done.stdout, done.stderr)


def test_a_runner_that_this_hive_has_not() -> None:
    with pytest.raises(Refused, match="runner: this hive has no Claude Code"):
        read({FILE: b"runner = 'claude'"}, Ground("iris", has_claude=False))


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-" + "A" * 30,
        "ghp_" + "A" * 36,
        "glpat-" + "A" * 20,
        "xoxb-" + "1" * 12,
        "AKIA" + "A" * 16,
        "AIza" + "A" * 35,
        f"-----BEGIN OPENSSH {PRIVATE} KEY-----",
        "eyJ" + "A" * 12 + ".eyJ" + "A" * 12 + "." + "A" * 12,
        "https://user:hunter22@example.org/",
    ],
)
def test_what_looks_like_a_secret_is_refused_and_not_repeated(secret: str) -> None:
    for files in (
        {FILE: f"pronouns = '{secret}'".encode()},
        {FILE: b"", "notes.md": f"a\nb {secret}".encode()},
    ):
        with pytest.raises(Refused, match="key_file") as caught:
            read(files, GROUND)
        assert secret not in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "[environment]\nNPM_TOKEN = 'abc'",
        "[environment]\nPASSWORD = 'abc'",
        "[mcp_servers.x]\ncommand = ['x']\nenvironment = { MY_API_KEY = 'abc' }",
    ],
)
def test_a_variable_that_is_named_like_a_secret(text: str) -> None:
    with pytest.raises(Refused, match="looks like a secret"):
        reading(text)


def test_ordinary_words_are_no_secrets() -> None:
    reading(
        "[environment]\nTOKEN_COUNT = '5'\nTOKEN = ''", note_md=b"ask for the token; sk-learn; https://a:b/"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[mcp_servers.hyperhive]\ncommand = ['x']",
            "mcp_servers.hyperhive: left out: the hive's own server",
        ),
        ("[mcp_servers.'A b']\ncommand = ['x']", "mcp_servers.A b: left out"),
        ("[mcp_servers.x]\ncommand = []", "mcp_servers.x: left out"),
        ("[mcp_servers.x]\ncommand = 'x'", "mcp_servers.x: left out: Expected `array`"),
        ("[mcp_servers]\nx = 5", "mcp_servers.x: left out: Expected `object`"),
        ("[[reminders]]\nname = 'a'", "reminders[0]: left out: Object missing required field `body`"),
        ("[[reminders]]\nname = 'a'\nbody = 'b'", "reminders[0]: left out: it needs either every_s or cron"),
        (
            "[[reminders]]\nname = 'a'\nbody = 'b'\nevery_s = 60\n" * 2,
            "reminders[1]: left out: there is another one named a",
        ),
        ("reminders = [5]", "reminders[0]: left out"),
    ],
)
def test_a_part_that_is_wrong_costs_nothing_else(text: str, words: str) -> None:
    found = reading("model = 'opus'\n" + text)
    assert found.settings.model == "opus"
    assert found.settings.mcp_servers == {}
    (warning,) = found.warnings
    assert warning.startswith(f"agent.toml: {words}")
    assert warning.isprintable()


TEXT = st.text(
    st.characters(codec="utf-8", min_codepoint=0xA0) | st.sampled_from(" \"'\\#[]=azAZ09"), max_size=20
)
WORD = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z").filter(
    lambda word: not word.upper().endswith(("KEY", "N", "T", "D", "S"))
)
LIMIT = st.none() | st.integers(64, 6_000)


@given(
    st.builds(
        AgentSettings,
        name=st.just("iris"),
        runner=st.sampled_from(Runner),
        model=st.sampled_from(["haiku", "a.b/c[1m]"]),
        role_prompt=st.text(st.characters(codec="utf-8"), max_size=60),
        allowed_recipients=st.none() | st.lists(st.sampled_from(["operator", "*", "otto"])).map(tuple),
        egress_hosts=st.lists(st.sampled_from(["a.b", "*.c:80"])).map(tuple),
        egress_limits=st.builds(EgressLimits, st.integers(1, 64), LIMIT, LIMIT),
        account=st.sampled_from(["default", "team-b"]),
        environment=st.dictionaries(WORD, TEXT, max_size=3),
        limits=st.builds(CageLimits, LIMIT, LIMIT, LIMIT, LIMIT, LIMIT),
        icon=TEXT.map(lambda text: text[:8]),
        pronouns=TEXT,
        allowed_commands=st.none() | st.lists(TEXT.filter(bool)).map(tuple),
        mcp_servers=st.dictionaries(
            st.sampled_from(["notes", "a-b_c"]),
            st.builds(
                McpServer,
                st.lists(TEXT.filter(bool), min_size=1).map(tuple),
                st.dictionaries(WORD, TEXT, max_size=2),
            ),
        ),
        reminders=st.lists(
            st.builds(
                StandingReminder,
                st.sampled_from(["a", "b", "c"]),
                st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
                every_s=st.integers(60, 9_000),
            ),
            unique_by=lambda reminder: reminder.name,
            max_size=3,
        ).map(tuple),
    )
)
def test_settings_come_back_from_their_files(settings: AgentSettings) -> None:
    files = render(settings, GROUND)
    assert set(files) <= {FILE, PROMPT_FILE}
    assert read(files, GROUND) == Reading(settings, ())
