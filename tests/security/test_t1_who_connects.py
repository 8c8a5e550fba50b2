"""T1: every socket of a running hive × everybody on the machine. Uids decide, and folders where they can.

`KNOCKS` are those whom the kernel lets connect though they are not admitted: they are closed without a byte.
"""

import errno
from pathlib import Path

import pytest

from tests.security.peers import HELLO, Heard, Question, User, ask_all, run_as
from tests.security.population import NOBODY, STRANGER
from tests.support.hive import RunningHive, hive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

CONNECT = b"CONNECT nowhere.invalid:443 HTTP/1.1\r\n\r\n"
SOCKETS: dict[str, tuple[str, bytes, bytes]] = {
    "privd/operator": ("privd/operator.sock", HELLO, b'{"ok":{"daemon":"privd"'),
    "privd/swarm": ("privd/swarm.sock", HELLO, b'{"ok":{"daemon":"privd"'),
    "privd/egress": ("privd/egress.sock", HELLO, b'{"ok":{"daemon":"privd"'),
    "brokerd/operator": ("brokerd/operator.sock", HELLO, b'{"ok":{"daemon":"brokerd"'),
    "webd/operator": ("webd/operator.sock", HELLO, b'{"ok":{"daemon":"webd"'),
    "egressd/operator": ("egressd/operator.sock", HELLO, b'{"ok":{"daemon":"egressd"'),
    "egressd/swarm": ("egressd/swarm.sock", HELLO, b'{"ok":{"daemon":"egressd"'),
    "iris's broker": ("agents/iris/broker/broker.sock", HELLO, b'{"ok":{"daemon":"brokerd"'),
    "iris's egress": ("agents/iris/egress/egress.sock", CONNECT, b"HTTP/1.1 403 "),
}
"""Where it is, what is said there, and what an admitted peer hears."""
ADMITTED = {
    "privd/operator": {"root", "web"},
    "privd/swarm": {"broker"},
    "privd/egress": {"egress"},
    "brokerd/operator": {"root", "web"},
    "webd/operator": {"root", "web"},
    "egressd/operator": {"root", "web", "egress"},
    "egressd/swarm": {"broker"},
    "iris's broker": {"iris harness"},
    "iris's egress": {"iris init", "iris agent", "iris harness"},
}
EVERYBODY = {
    "root", "nobody", "stranger", "broker", "web", "egress", "iris init", "iris agent", "iris harness",
    "hm1nd init", "hm1nd agent", "hm1nd harness",
}  # fmt: skip
KNOCKS = {
    "privd/operator": set[str](),
    "privd/swarm": {"root"},
    "privd/egress": {"root"},
    "brokerd/operator": EVERYBODY,
    "webd/operator": EVERYBODY,
    "egressd/operator": EVERYBODY,
    "egressd/swarm": EVERYBODY,
    "iris's broker": {"root", "broker"},
    "iris's egress": EVERYBODY,
}
FOLDERS = {
    ".": ("root", "root", 0o711),
    "hive.toml": ("root", "root", 0o644),
    "up.lock": ("root", "root", 0o600),
    "etc": ("root", "root", 0o755),
    "etc/privd.toml": ("root", "root", 0o644),
    "log": ("root", "root", 0o700),
    "broker": ("broker", "broker", 0o700),
    "web": ("web", "web", 0o700),
    "egress": ("root", "egress", 0o710),
    "cages": ("root", "root", 0o700),
    "cages/iris": ("root", "root", 0o700),
    "shared": ("root", "root", 0o700),
    "shared/files": ("root", "root", 0o1777),
    "agents": ("root", "root", 0o700),
    "agents/iris": ("root", "root", 0o700),
    "agents/iris/state": ("iris agent", "iris agent", 0o750),
    "agents/iris/claude": ("iris agent", "iris agent", 0o700),
    "agents/iris/harness": ("iris harness", "iris harness", 0o700),
    "proposed": ("root", "root", 0o700),
    "proposed/agents": ("root", "root", 0o755),
    "proposed/agents/iris": ("root", "root", 0o755),
    "proposed/agents/iris/config": ("hm1nd agent", "hm1nd agent", 0o755),
    "run": ("root", "root", 0o711),
    "run/privd": ("root", "root", 0o711),
    "run/privd/operator.sock": ("root", "web", 0o660),
    "run/privd/swarm.sock": ("broker", "root", 0o600),
    "run/privd/egress.sock": ("egress", "root", 0o600),
    "run/brokerd": ("broker", "broker", 0o711),
    "run/webd": ("web", "web", 0o711),
    "run/egressd": ("egress", "egress", 0o711),
    "run/egressd/swarm.sock": ("egress", "egress", 0o666),
    "run/agents": ("root", "root", 0o711),
    "run/agents/iris": ("root", "root", 0o711),
    "run/agents/iris/broker": ("broker", "iris harness", 0o710),
    "run/agents/iris/broker/broker.sock": ("broker", "broker", 0o666),
    "run/agents/iris/egress": ("egress", "root", 0o711),
    "run/agents/iris/egress/egress.sock": ("egress", "egress", 0o666),
}
LOOK = """
import os, sys
for place, folders, files in os.walk(sys.argv[1]):
    for name in files:
        try:
            with open(os.path.join(place, name), "rb"):
                print(os.path.relpath(os.path.join(place, name), sys.argv[1]))
        except OSError:
            pass
for name in sys.argv[2:]:
    try:
        with open(os.path.join(sys.argv[1], name), "rb"):
            print(name)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def heard(secure_hive: RunningHive, users: dict[str, User]) -> dict[str, dict[str, Heard]]:
    """What everybody heard at every socket."""
    run = secure_hive.places.run
    questions = {name: Question(run / path, said) for name, (path, said, _) in SOCKETS.items()}
    return {who: ask_all(users[who], questions) for who in sorted(EVERYBODY)}


@pytest.mark.parametrize("who", sorted(EVERYBODY))
@pytest.mark.parametrize("socket", sorted(SOCKETS))
def test_t1_who_connects(heard: dict[str, dict[str, Heard]], socket: str, who: str) -> None:
    found = heard[who][socket]
    if who in ADMITTED[socket]:
        assert found.said.startswith(SOCKETS[socket][2]), found
    elif who in KNOCKS[socket]:
        assert found.is_silence, "a stranger was told something"
    else:
        assert found.errno == errno.EACCES, found


def test_t1_every_socket_was_tried(secure_hive: RunningHive) -> None:
    run = secure_hive.places.run
    made = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_socket()}
    others = {path for path in made if path.startswith("agents/") and not path.startswith("agents/iris/")}
    assert made - others == {path for path, _, _ in SOCKETS.values()}


@pytest.mark.parametrize("name", FOLDERS)
def test_t1_owners_and_modes(secure_hive: RunningHive, users: dict[str, User], name: str) -> None:
    owner, group, mode = FOLDERS[name]
    found = (secure_hive.places.state / name).lstat()
    assert (found.st_uid, found.st_gid) == (users[owner].uid, users[group].gid)
    assert found.st_mode & 0o7777 == mode, oct(found.st_mode)


def test_t1_nothing_else_may_be_written_by_everybody(secure_hive: RunningHive) -> None:
    state = secure_hive.places.state
    found = {
        str(path.relative_to(state))
        for path in state.rglob("*")
        if not path.is_symlink() and not path.is_socket() and path.lstat().st_mode & 0o002
    }
    assert found == {"shared/files"}


@pytest.mark.parametrize(
    "who", ["nobody", "stranger", "iris agent", "iris harness", "egress", "web", "broker"]
)
def test_t1_what_each_can_read_of_the_hive(
    secure_hive: RunningHive, users: dict[str, User], who: str
) -> None:
    """Of all files of the hive, asked for by their full names: settings, and what is the reader's own."""
    state = secure_hive.places.state
    names = [
        str(path.relative_to(state)) for path in state.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert any(name.endswith("agents/iris/claude/api_key") for name in names)
    found = set(run_as(users[who], LOOK, str(state), *names).split())
    own = {"web": "web/", "broker": "broker/"}.get(who, "-")
    settings = {"hive.toml", *(f"etc/{name}.toml" for name in ("privd", "brokerd", "webd", "egressd"))}
    assert {name for name in found if not name.startswith(own)} == settings


def test_t1_a_path_for_every_socket_is_short_enough() -> None:
    longest = max(len(path) for path, _, _ in SOCKETS.values())
    assert len(str(Path("/var/lib/hyperhive/run"))) + longest + len("ninechars") < 107


OWNER = User(61_234, 61_234)


def test_t1_in_a_hive_of_an_ordinary_user_strangers_get_nothing() -> None:
    """One uid for all of it, no group: every socket decides by uid alone."""
    with hive("--runner", "demo", "--agents", "iris", uid=OWNER.uid) as running:
        questions = {
            name: Question(running.places.run / path, said) for name, (path, said, _) in SOCKETS.items()
        }
        for who, stranger in (("nobody", NOBODY), ("stranger", STRANGER)):
            for socket, found in ask_all(stranger, questions).items():
                assert found.is_silence or found.errno == errno.EACCES, (who, socket, found)
            names = [str(path.relative_to(running.places.state)) for path in running.places.state.rglob("*")]
            readable = set(run_as(stranger, LOOK, str(running.places.state), *names).split())
            assert readable <= {
                "hive.toml",
                *(f"etc/{name}.toml" for name in ("privd", "brokerd", "webd", "egressd")),
            }
        for socket, found in ask_all(OWNER, questions).items():
            assert found.said.startswith(SOCKETS[socket][2]), (socket, found)
