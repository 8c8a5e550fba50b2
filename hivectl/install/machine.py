"""Changes to this machine: each is said in one line when it is made, and only said in a dry run."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from protocol.problem import Problem, Refused

OUTPUT_CHARS_MAX: Final = 2_000
PROGRAMS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Say = Callable[[str, str], None]
"""A glyph and a line."""


class Machine:
    """What is changed, and how often: what is already as it should be is left alone and not told."""

    def __init__(self, say: Say, *, dry: bool) -> None:
        self.dry = dry
        self._say = say
        self.changed: set[Path] = set()

    def write(self, path: Path, content: str, mode: int = 0o644) -> None:
        """A file of root's with this content, replaced in one step."""
        if path.is_file() and not path.is_symlink() and path.read_text(errors="replace") == content:
            if path.stat().st_mode & 0o7777 == mode or self.dry:
                return
            path.chmod(mode)
            return
        self._tell("+", str(path), path)
        if self.dry:
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(descriptor, "w") as file:  # noqa: PTH123 - what was opened so must not be opened again
            file.write(content)
            os.fchmod(descriptor, mode)
        fresh.rename(path)

    def link(self, path: Path, target: str) -> None:
        """A link, moved to its new target in one step."""
        if path.is_symlink() and str(path.readlink()) == target:
            return
        self._tell("+", f"{path} → {target}", path)
        if self.dry:
            return
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.rename(path)

    async def make(self, path: Path, fill: Callable[[Path], Awaitable[None]]) -> None:
        """A folder that `fill` fills under another name; one that is there is whole."""
        if path.exists():
            return
        self._tell("+", f"{path}/", path)
        if self.dry:
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        await fill(fresh)
        fresh.rename(path)

    def remove(self, path: Path) -> None:
        """A file, a link or a folder with everything in it. What is not there is not told."""
        if not os.path.lexists(path):
            return
        is_folder = path.is_dir() and not path.is_symlink()
        self._tell("-", f"{path}/" if is_folder else str(path), path)
        if self.dry:
            return
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()

    async def run(self, *argv: str) -> None:
        """Run a command that changes something. Refused(failed) with what it said."""
        self._say("·", " ".join(argv))
        if self.dry:
            return
        code, output = await ask(*argv)
        if code != 0:
            raise Refused(Problem.FAILED, f"{' '.join(argv)} ended with {code}: {output[-OUTPUT_CHARS_MAX:]}")

    def _tell(self, glyph: str, what: str, path: Path) -> None:
        self.changed.add(path)
        self._say(glyph, what)


async def ask(*argv: str) -> tuple[int, str]:
    """The exit code and everything that a command printed."""
    done = await trio.run_process(
        argv,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={"PATH": PROGRAMS, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0"},
    )
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace").strip()
