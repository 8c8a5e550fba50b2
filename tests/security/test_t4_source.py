"""T4: what our own source may not do at all, read from its syntax tree. Each exception is named with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

CHECKOUT: Final = Path(__file__).parents[2]
PACKAGES: Final = (
    "protocol",
    "runtime",
    "privd",
    "boxes",
    "brokerd",
    "webd",
    "egressd",
    "harness",
    "hivectl",
)
BANNED_CALLS: Final = {
    "eval", "exec", "compile", "__import__", "breakpoint", "input", "globals", "os.system", "os.popen", "os.execl",
    "os.execlp", "os.execvp", "os.execvpe", "os.spawnl", "os.spawnv", "os.spawnvp", "os.tempnam", "os.chroot",
    "tempfile.mktemp", "yaml.load", "pickle.loads", "pickle.load", "marshal.loads", "importlib.import_module",
    "builtins.eval", "builtins.exec", "ssl._create_unverified_context", "os.umask", "os.chmod", "shutil.rmtree",
    "shutil.chown", "shutil.unpack_archive", "os.setuid", "os.seteuid", "os.setresuid", "os.fork", "os.forkpty",
    "pty.spawn", "string.Template", "logging.config.dictConfig", "types.FunctionType", "code.interact", "time.sleep",
    "os.removedirs",
}  # fmt: skip
BANNED_MODULES: Final = {
    "pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "ftplib", "telnetlib", "xmlrpc", "cgi",
    "crypt", "imp", "asyncio", "pty", "code", "codeop", "runpy", "ctypes", "subprocess", "multiprocessing",
    "socketserver", "http.server", "urllib.request", "requests", "httpx", "xml", "tarfile", "zipfile", "sqlite3",
    "pygit2", "pdb",
}  # fmt: skip
BANNED_ARGUMENTS: Final = {
    ("shell", True),
    ("verify", False),
    ("check_hostname", False),
    ("autoescape", False),
}
MAY: Final = {
    ("hivectl/requests.py", "input"): "asks the operator before it deletes",
    ("hivectl/verdicts.py", "input"): "asks the operator before a proposal is deployed",
    ("hivectl/install/remove.py", "input"): "asks the operator before it deletes",
    ("hivectl/install/command.py", "os.umask"): "before anything is written",
    ("hivectl/install/machine.py", "shutil.rmtree"): "copies of the program below root's own folder",
    (
        "privd/cages/nixos_host.py",
        "shutil.rmtree",
    ): "folders of single calls, in a folder that only root may enter",
    ("privd/cages/nixos_flakes.py", "shutil.rmtree"): "flakes that privd wrote, below root's own folder",
    ("harness/init.py", "ctypes"): "prctl and capset: init may import nothing of ours",
    ("harness/spawner.py", "ctypes"): "prctl",
    ("privd/cages/launch.py", "ctypes"): "mount and unshare",
    ("harness/spawner.py", "subprocess"): "starting programs as the agent is its subject",
    ("harness/init.py", "os.umask"): "the first process of a cage",
    ("privd/cages/launch.py", "os.umask"): "a process of its own, before it becomes another program",
    ("privd/boxing.py", "ctypes"): "mount, unshare and prctl",
    ("privd/boxing.py", "os.umask"): "a process of its own, before it makes a box",
    ("boxes/worktree.py", "os.umask"): "a process of its own, in a box",
    ("privd/boxing.py", "os.fork"): "the first process of a box's pid namespace",
    ("privd/boxing.py", "os.setresuid"): "becomes the user of a box",
    ("boxes/confine.py", "ctypes"): "prctl",
    ("boxes/beneath.py", "ctypes"): "openat2",
    ("hivectl/up/command.py", "os.umask"): "before anything is written or started",
    ("harness/init.py", "os.chmod"): "/run of the cage, before anybody else is there",
    ("privd/cages/folders.py", "os.chmod"): "an ordinary user's own folder, by descriptor",
    ("harness/init.py", "os.fork"): "harness and spawner",
    ("harness/init.py", "os.seteuid"): "makes the harness's folder as the harness",
    ("harness/init.py", "os.setresuid"): "becomes the users of a cage",
    ("privd/cages/launch.py", "os.setresuid"): "becomes the agent's uid for bubblewrap",
    ("hivectl/up/become.py", "ctypes"): "prctl and unshare, in the process that becomes a daemon",
    ("hivectl/up/become.py", "os.setresuid"): "becomes the user of a daemon",
    ("harness/bridge.py", "time.sleep"): "waits for a last answer in a thread of its own",
    ("runtime/store.py", "sqlite3"): "the one place that opens databases that are served",
    ("brokerd/restore.py", "sqlite3"): "makes a copy fit while no brokerd runs",
    ("brokerd/live/backups.py", "sqlite3"): "names its errors",
    ("brokerd/live/backups.py", "time.sleep"): "in the thread that makes a backup",
    ("brokerd/store/backup.py", "shutil.rmtree"): "backups, in a folder that only brokerd's user may enter",
    ("harness/demo/__main__.py", "time.sleep"): "a stand-in for a model, a program of its own",
    ("harness/demo/client.py", "subprocess"): "starts the bridge as an agent CLI does; runs as the agent",
    ("harness/mcp/listener.py", "importlib.import_module"): "late, and of a constant: see the test below",
}
"""Where one of these is right, and why. An entry that nothing needs fails the test."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            yield path.relative_to(CHECKOUT).as_posix(), ast.parse(path.read_text())


def dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            return f"{dotted(value)}.{attribute}"
        case _:
            return "?"


def found_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every banned thing in a module, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, each.name) for each in names if banned(each.name))
            case ast.ImportFrom(module=str(module), names=names):
                if banned(module):
                    yield node.lineno, module
                yield from (
                    (node.lineno, f"{module}.{each.name}")
                    for each in names
                    if f"{module}.{each.name}" in BANNED_CALLS
                )
            case ast.Call(func=function, keywords=keywords):
                if dotted(function) in BANNED_CALLS:
                    yield node.lineno, dotted(function)
                for keyword in keywords:
                    if (
                        isinstance(keyword.value, ast.Constant)
                        and (keyword.arg, keyword.value.value) in BANNED_ARGUMENTS
                    ):
                        yield node.lineno, f"{keyword.arg}={keyword.value.value!r}"


def banned(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:length]) in BANNED_MODULES for length in range(1, len(parts) + 1))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from yaml import safe_load", "yaml"),
        ("from os import system", "os.system"),
        ("import subprocess.run as x", "subprocess.run"),
        ("eval(text)", "eval"),
        ("os.system(text)", "os.system"),
        ("trio.run_process(words, shell=True)", "shell=True"),
        ("jinja2.Environment(autoescape=False)", "autoescape=False"),
        ("tempfile.mktemp()", "tempfile.mktemp"),
        ("importlib.import_module(name)", "importlib.import_module"),
    ],
)
def test_t4_the_list_finds_what_is_on_it(source: str, what: str) -> None:
    assert [name for _, name in found_in(ast.parse(source))] == [what]


def test_t4_our_source_does_nothing_of_the_list() -> None:
    found, used = [], set()
    for file, tree in modules():
        for line, what in found_in(tree):
            if (file, what) in MAY or (
                what == "sqlite3" and file.startswith(("brokerd/store/", "webd/store/"))
            ):
                used.add((file, what))
            else:
                found.append(f"{file}:{line}: {what}")
    assert found == []
    assert set(MAY) - used == set(), "exceptions that nothing needs any more"


def test_t4_import_by_name_takes_a_constant() -> None:
    """A module chosen by data would be code chosen by data."""
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and any(
                dotted(each).endswith("import_module") for each in (node.func, *node.args)
            ):
                names = [each for each in node.args if not dotted(each).endswith("import_module")]
                assert names, file
                assert all(isinstance(each, ast.Constant) for each in names), file


def test_t4_root_imports_little() -> None:
    """What privd itself names; its third-party modules as loaded are judged by tests/house."""
    imported = set()
    for file, tree in modules():
        if not file.startswith("privd/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert imported <= {
        "abc", "argparse", "base64", "binascii", "boxes", "collections", "contextlib", "cryptography", "ctypes", "enum",
        "errno", "fcntl", "functools", "grp", "hashlib", "itertools", "json", "msgspec", "os",
        "pathlib", "privd", "protocol", "pwd", "re", "runtime", "secrets", "select",
        "shutil", "signal", "socket", "stat", "struct", "sys", "sysconfig", "tempfile", "trio", "typing",
        "weakref", "zlib",
    }  # fmt: skip


def test_t4_sql_is_never_put_together_from_words_of_others() -> None:
    """No f-string and no % or + in an execute, except constants in capitals beside it and whole numbers (`:d`)."""
    for file, tree in modules():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in ("execute", "executemany", "executescript") or not node.args:
                continue
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.FormattedValue):
                    assert is_number(part) or is_ours(part.value), f"{file}:{node.lineno}"


LOOPED_OVER_CONSTANTS: Final = {"name", "step", "number"}


def is_number(part: ast.FormattedValue) -> bool:
    """Whether it is formatted as a whole number, which a text is refused as."""
    return isinstance(part.format_spec, ast.JoinedStr) and ast.unparse(part.format_spec) == "f'd'"


def is_ours(value: ast.expr) -> bool:
    """A constant, or a name that our own code chose (attached databases, pragmas, migrations)."""
    match value:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.isupper() or name in LOOPED_OVER_CONSTANTS
        case ast.IfExp(body=body, orelse=other):
            return is_ours(body) and is_ours(other)
        case _:
            return False
