"""`nixos-container`, `nix` and `nix-env` as this backend meets them, with what the real ones do wrong.

    the result is `.tmp` in the working folder, left there, and read back whoever wrote it last
    a failed build leaves conf and profile folder; exit codes are whatever was left over
    destroy ends with 0 where nothing was, and where files stay
    FLAKE= in the conf lacks the attribute; a newline in an option ends up in the conf
    an empty conf of anybody makes every create fail; update of a running container changes it

What the real script does was measured. Standard library only.
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.nixos.place import (
    CONFS,
    GCROOTS,
    HOST,
    PROFILES,
    ROOTS,
    STATE,
    STORE,
    die,
    knobs,
    run,
    unit_state,
    until,
)

PASSED_ON = {
    "--log-format": 1,
    "--option": 2,
    "--override-input": 2,
    "--no-update-lock-file": 0,
    "--impure": 0,
}
TAKEN = ("--flake", "--system-path", "--host-address", "--local-address", "--bridge", "--port")


def parse(words: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Places, options, and flags that are Nix's."""
    places: list[str] = []
    options: dict[str, str] = {}
    flags: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            places, words = [*places, *words], []
        elif word in TAKEN:
            options[word] = words.pop(0)
        elif word in PASSED_ON:
            flags += [word, *(words.pop(0) for _ in range(PASSED_ON[word]))]
        elif word.startswith("-"):
            die(f"Unknown option: {word}", 1)
        else:
            places.append(word)
    return places, options, flags


def nixos_container(words: list[str]) -> None:
    os.umask(0o022)
    places, options, flags = parse(words)
    verb = places[0] if places else die("no action specified", 255)
    if verb == "list":
        print(*(each.stem for each in sorted(CONFS.glob("*.conf"))), sep="\n")
        return
    name = places[1] if len(places) > 1 else die("no container name specified", 255)
    if not re.fullmatch(r"[a-zA-Z0-9_-]+\n?", name):
        die("invalid container name", 255)
    if verb == "create":
        create(name, options, flags)
        return
    if not (CONFS / f"{name}.conf").exists():
        if verb == "destroy":
            return
        if verb == "status":
            print("gone")
        die(f"container {name} does not exist")
    if verb not in VERBS:
        die(f"{verb}: the fake does not, and nobody of ours may ask", 99)
    VERBS[verb](name, options, flags)


def create(name: str, options: dict[str, str], flags: list[str]) -> None:
    conf, flake = CONFS / f"{name}.conf", options.get("--flake")
    with (HOST / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if conf.exists():
            die(f"container {name} already exists", 25)
        if len(name) > 11:
            die(f"container name {name} is too long")
        others = [each.read_text() for each in CONFS.glob("*.conf")]
        if "" in others:
            die("Died", 255)
        used = {
            number
            for text in others
            for number in re.findall(r"^HOST_ADDRESS=10\.233\.(\d+)\.1$", text, re.MULTILINE)
        }
        free = next((number for number in range(1, 255) if str(number) not in used), None) or die(
            "out of IP addresses", 255
        )
        lines = {
            "PRIVATE_NETWORK": "1",
            "HOST_ADDRESS": options.get("--host-address", f"10.233.{free}.1"),
            "LOCAL_ADDRESS": options.get("--local-address", f"10.233.{free}.2"),
            "HOST_BRIDGE": options.get("--bridge", ""),
            "HOST_PORT": options.get("--port", ""),
            "AUTO_START": "0",
        }
        if flake is not None:
            lines["FLAKE"] = flake.rpartition("#")[0] or flake
        conf.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    print(f"host IP is {lines['HOST_ADDRESS']}, container IP is {lines['LOCAL_ADDRESS']}", file=sys.stderr)
    profile = PROFILES / name
    PROFILES.mkdir(mode=0o700, exist_ok=True)
    profile.mkdir(exist_ok=True)
    system = build(flake, flags) if flake is not None else options.get("--system-path", "")
    if run("nix-env", "-p", f"{profile}/system", "--set", system):
        clear(name)
        die("failed to set initial container configuration")


def build(flake: str, flags: list[str]) -> str:
    found = re.fullmatch(r'(.*)#([^#"]+)', flake, re.DOTALL)
    place, attribute = (found[1], found[2]) if found else (flake, "container")
    wanted = f'{place}#nixosConfigurations."{attribute}".config.system.build.toplevel'
    if run("nix", "build", "-o", ".tmp", *flags, "--", wanted):
        die(f"failed to build container from flake '{place}'")
    return str(Path(".tmp").readlink())


def update(name: str, options: dict[str, str], flags: list[str]) -> None:
    conf = (CONFS / f"{name}.conf").read_text()
    flake = options.get("--flake") or next(iter(re.findall(r"^FLAKE=(.*)$", conf, re.MULTILINE)), "")
    if run("nix-env", "-p", f"{PROFILES / name}/system", "--set", build(flake, flags)):
        die("failed to set container configuration")
    if unit_state(name)["active"] == "active":
        print("reloading container...", file=sys.stderr)
        if run("systemctl", "reload", f"container@{name}"):
            die("failed to reload container")


def clear(name: str) -> None:
    stays = knobs().get("destroy_leaves", [])
    for kind, folder in (("profile", PROFILES / name), ("gcroots", GCROOTS / name), ("root", ROOTS / name)):
        if kind not in stays:
            shutil.rmtree(folder, ignore_errors=True)
    (CONFS / f"{name}.conf").unlink()


def destroy(name: str, *_: object) -> None:
    if unit_state(name)["active"] == "active":
        terminate(name)
    clear(name)


def start(name: str, *_: object) -> None:
    if run("systemctl", "start", f"container@{name}"):
        die("failed to start container", 1)


def stop(name: str, *_: object) -> None:
    if run("systemctl", "stop", f"container@{name}"):
        die("failed to stop container", 1)


def terminate(name: str, *_: object) -> None:
    if unit_state(name)["active"] != "active":
        die("unable to get container's main PID")
    run("machinectl", "terminate", name)
    until(lambda: unit_state(name)["active"] != "active", "the end of the container")


def status(name: str, *_: object) -> None:
    print("up" if unit_state(name)["active"] == "active" else "down")


VERBS: dict[str, Callable[[str, dict[str, str], list[str]], None]] = {
    "update": update,
    "destroy": destroy,
    "start": start,
    "stop": stop,
    "terminate": terminate,
    "status": status,
}


def nix(words: list[str]) -> None:
    """`build`: an attribute NAME of a flake is its file systems/NAME."""
    place, _, rest = words[-1].partition("#")
    found = re.fullmatch(r'nixosConfigurations\."(.*)"\.config\.system\.build\.toplevel', rest)
    source = Path(place) / "systems" / (found[1] if found else "")
    if not source.is_file():
        die(f"error: flake '{place}' does not provide attribute '{rest}'", 1)
    content = source.read_text()
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    system = STORE / f"{digest}-nixos-system-{source.name}-26.05"
    print(f"building '{system}.drv'...", file=sys.stderr)
    if "fail" in content:
        print(f"{source.name}> error: the build failed", file=sys.stderr)
        die("error: 1 dependencies of derivation failed to build", 1)
    if "gate" in knobs():
        until(lambda: Path(knobs()["gate"]).exists(), "the gate")
    print(f"copying path '{system}' from the cache...", file=sys.stderr)
    system.mkdir(exist_ok=True)
    shutil.copy(HOST / "init", system / "init")
    link = Path(words[words.index("-o") + 1])
    link.unlink(missing_ok=True)
    link.symlink_to(knobs().get("build_links_to", system))
    wanted = knobs().get(
        "rendezvous", 0
    )  # so many builds are done before any goes on: the race, made certain
    if wanted:
        (HOST / "state" / f"built-{os.getpid()}").touch()
        until(lambda: len(list(STATE.glob("built-*"))) >= wanted, "the other builds")


def nix_env(words: list[str]) -> None:
    profile, system = Path(words[words.index("-p") + 1]), words[-1]
    if knobs().get("nix_env_fails"):
        die("error: cannot set profile", 1)
    if knobs().get("nix_env_forgets"):
        return
    number = 1 + len(list(profile.parent.glob(f"{profile.name}-*-link")))
    generation = profile.with_name(f"{profile.name}-{number}-link")
    generation.symlink_to(system)
    fresh = profile.with_name(".fresh")
    fresh.symlink_to(generation.name)
    fresh.rename(profile)
