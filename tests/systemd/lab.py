"""The lab: a real systemd as PID 1 of a container over this machine's own /usr, in which units are started for real.

A lab is a skeleton of a few hundred kilobytes: nothing is downloaded, it boots in half a second. It has no network but
loopback. Its control groups are its own, below one folder of each hierarchy, and writable inside, so that limits hold.

What it cannot enforce, on any machine whose kernel or systemd does not: IPAddressDeny, SocketBindDeny,
RestrictNetworkInterfaces, RestrictFileSystems. No test relies on them.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
HOUSE: Final = Path(os.environ.get("HIVE_HOUSE", CHECKOUT / ".hive")).resolve()
"""What `./hive` prepared."""
BOOT_S: Final = 60.0
COMMAND_S: Final = 180.0
LOOK_S: Final = 0.02
GROUPS: Final = Path("/sys/fs/cgroup")
LIMITING: Final = ("memory", "pids", "cpu", "cpuacct")
"""The hierarchies of version 1 that systemd in the lab writes limits into."""
LINKS: Final = ("bin", "sbin", "lib", "lib64")
FOLDERS: Final = (
    "usr", "etc/alternatives", "etc/ssl", "etc/systemd/system", "etc/sysusers.d", "etc/tmpfiles.d", "var/lib",
    "var/log", "var/tmp", "tmp", "root", "home",
    "run", "proc", "sys", "dev", "opt", "srv", "mnt", "media", "local/bin",
)  # fmt: skip
COPIED: Final = ("os-release", "ld.so.cache", "ld.so.conf", "nsswitch.conf", "pam.d", "dbus-1", "login.defs")
ACCOUNTS: Final = ("root", "daemon", "messagebus", "systemd-network", "systemd-resolve", "nobody")
MASKED: Final = (
    "systemd-firstboot.service", "systemd-timesyncd.service", "systemd-udevd.service", "systemd-udev-trigger.service",
    "systemd-binfmt.service", "systemd-sysext.service", "systemd-logind.service", "systemd-networkd.service",
    "systemd-resolved.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service", "getty.target",
    "systemd-hwdb-update.service", "ldconfig.service", "systemd-update-done.service", "nftables.service",
)  # fmt: skip
"""What a machine has and a lab does not need."""


ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""Of commands that are run in a lab."""


class LabFault(Exception):
    """What did not work, with what the lab said."""


class Lab:
    """One lab: its folder, its control groups, and the container while it is up."""

    def __init__(self, folder: Path, groups: tuple[Path, ...], binds: tuple[str, ...]) -> None:
        self.root = folder
        self.leader = 0
        """The pid of its systemd."""
        self._groups = groups
        self._binds = binds
        self._nspawn: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Boot it, and wait until its systemd has started everything."""
        self._nspawn, self.leader = _boot(self.root, self._groups, self._binds)
        _open_groups(self)

    def reboot(self) -> None:
        """Shut it down in good order and start it again."""
        assert self._nspawn is not None
        self._nspawn.send_signal(signal.SIGTERM)
        self._nspawn.wait(BOOT_S)
        self.start()

    def path(self, inside: str | Path) -> Path:
        """A file of the lab, as this machine sees it; what lies on the lab's own /run and /tmp, too."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def raw(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the lab, beside its units."""
        enter = ("nsenter", "-t", str(self.leader), "-a", "--root", "--wd", "--")
        return subprocess.run(
            (*enter, *argv),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT,
        )

    def run(self, *argv: str) -> str:
        """What a command prints. LabFault when it fails."""
        return _printed(argv, self.raw(*argv))

    def as_unit(
        self, *argv: str, environment: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a unit of its own: in a control group in which containers can be started."""
        given = [f"--setenv={name}={value}" for name, value in (environment or {}).items()]
        return self.raw("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *given, "--", *argv)

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", *words)

    def shown(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def main_pid(self, unit: str) -> int:
        """The main process of a service, by its number in the lab."""
        return int(self.shown(unit, "MainPID")["MainPID"])

    def journal(self, unit: str) -> str:
        return self.raw("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def is_active(self, unit: str) -> bool:
        return self.raw("systemctl", "is-active", "--quiet", unit).returncode == 0

    def close(self) -> None:
        """Stop what is in it, by force if it does not stop by itself, and take everything away."""
        if self._nspawn is not None:
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(BOOT_S)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        _end_groups(self._groups)
        shutil.rmtree(self.root)


def until(ask: Callable[[], object], what: str, deadline_s: float = BOOT_S) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + deadline_s
    while not ask():
        assert time.monotonic() < deadline, f"{what}: not within {deadline_s:g} s"
        time.sleep(LOOK_S)


@contextlib.contextmanager
def lab(*binds: str) -> Iterator[Lab]:
    """A lab that is up inside the block. `binds` are further folders of this machine, seen read-only."""
    folder = Path(tempfile.mkdtemp(prefix="hive-lab-"))
    folder.chmod(0o755)
    running = Lab(folder, _make_groups(folder.name), (str(CHECKOUT), str(HOUSE), *binds))
    try:
        _make_root(folder)
        running.start()
        yield running
    finally:
        running.close()


def _make_root(folder: Path) -> None:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    (folder / "var/tmp").chmod(0o1777)
    (folder / "root").chmod(0o700)
    for name in LINKS:
        if Path("/", name).is_symlink():
            (folder / name).symlink_to(Path("/", name).readlink())
    etc = folder / "etc"
    for name in COPIED:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, etc / name)
    for table in ("passwd", "group"):
        lines = Path("/etc", table).read_text().splitlines()
        kept = [
            line
            for line in lines
            if line.split(":")[0] in (*ACCOUNTS, "nogroup", "tty", "adm", "systemd-journal")
        ]
        (etc / table).write_text("\n".join(kept) + "\n")
    for table in ("shadow", "gshadow"):
        (etc / table).touch(mode=0o600)
    (etc / "hosts").write_text("127.0.0.1 localhost lab\n::1 localhost\n")
    (etc / "hostname").write_text("lab\n")
    (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (etc / ".updated").touch()
    (folder / "var/.updated").touch()
    units = etc / "systemd/system"
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")


def _boot(
    folder: Path, groups: tuple[Path, ...], binds: tuple[str, ...]
) -> tuple["subprocess.Popen[str]", int]:
    """The container, and the pid of its systemd once that is ready."""
    for bind in binds:
        (folder / bind.removeprefix("/")).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as private:
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(f"{private}/notify")
        join = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
        console = (folder / "console.log").open("w")
        nspawn = subprocess.Popen(
            [
                "sh", "-c", f'set -e; {join}exec "$@"', "sh", "systemd-nspawn", "--quiet", "--register=no",
                "--keep-unit", "--settings=no", f"--directory={folder}", "--machine=lab", "--bind-ro=/usr",
                f"--bind={folder}/local:/usr/local", "--bind-ro=/etc/alternatives", "--bind-ro=/etc/ssl",
                *(f"--bind-ro={bind}" for bind in dict.fromkeys(binds)),
                "--timezone=off", "--resolv-conf=off", "--link-journal=no", "--private-network", "--console=pipe",
                f"--system-call-filter={ALLOWED}", "--boot", "--notify-ready=yes",
            ],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "NOTIFY_SOCKET": f"{private}/notify"},
        )  # fmt: skip
        console.close()
        leader = _leader(notify, nspawn)
        if leader is None:
            nspawn.kill()
            nspawn.wait()
            raise LabFault("no lab:\n" + (folder / "console.log").read_text(errors="replace"))
        # nspawn blocks as soon as nobody reads what it tells.
        threading.Thread(target=_drain, args=(notify, nspawn), daemon=True).start()
        return nspawn, leader


ALLOWED: Final = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
"""nspawn's filter refuses these, and every container in the lab would inherit that."""


def _leader(notify: socket.socket, nspawn: "subprocess.Popen[str]") -> int | None:
    """The pid of the lab's systemd, once it has said that it is ready."""
    leader = None
    notify.settimeout(1.0)
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and nspawn.poll() is None:
        try:
            told = notify.recv(4096).decode(errors="replace").splitlines()
        except TimeoutError:
            continue
        for line in told:
            name, _, value = line.partition("=")
            if name == "X_NSPAWN_LEADER_PID":
                leader = int(value)
            if line == "READY=1" and leader is not None:
                return leader
    return None


def _drain(notify: socket.socket, nspawn: "subprocess.Popen[str]") -> None:
    with notify:
        while nspawn.poll() is None:
            with contextlib.suppress(TimeoutError):
                notify.recv(4096)


def _make_groups(name: str) -> tuple[Path, ...]:
    """A group of the lab's own in every hierarchy of version 1, and in version 2's."""
    groups = []
    for hierarchy in sorted(GROUPS.iterdir()):
        if hierarchy.is_symlink() or not (hierarchy / "cgroup.procs").exists():
            continue
        group = hierarchy / name
        group.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, which then takes nobody
            if (group / file).exists():
                (group / file).write_text((hierarchy / file).read_text())
        groups.append(group)
    return tuple(groups)


def _open_groups(running: Lab) -> None:
    """Let the lab's systemd write limits: nspawn mounts the hierarchies of version 1 read-only."""
    opened = [name for name in LIMITING if (GROUPS / name / "cgroup.procs").exists()]
    for name in opened:
        enter = ("nsenter", "-t", str(running.leader), "-m", "--root")
        done = subprocess.run(
            (*enter, "mount", "-o", "remount,rw,bind", f"/sys/fs/cgroup/{name}"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabFault(done.stderr)
    if opened:
        running.systemctl("daemon-reexec")


def _end_groups(groups: tuple[Path, ...]) -> None:
    """End whatever is left in the lab's groups, and remove them."""
    for group in groups:
        killer = group / "cgroup.kill"
        if killer.exists():
            killer.write_text("1")
    deadline = time.monotonic() + BOOT_S
    while (left := [group for group in groups if not _removed(group)]) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    assert not left, left


def _removed(group: Path) -> bool:
    try:
        for place, _, _ in os.walk(group, topdown=False):
            Path(place).rmdir()
    except OSError:
        return not group.exists()
    return True


def _printed(argv: tuple[str, ...], done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode:
        raise LabFault(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
