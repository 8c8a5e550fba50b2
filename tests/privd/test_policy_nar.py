"""Nix's own hash of a folder, against the real Nix."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privd.policy.nar import Content, nar_hash

KNOWN = {"agent.toml": Content(b'model = "haiku"\n'), "bin/run": Content(b"#!/bin/sh\n", executable=True)}


def test_a_known_folder() -> None:
    assert nar_hash(KNOWN) == "sha256-+z11pqxSCjPj+D7+d/ZYd4vLws2fuL6f0Z+QkkXAnRI="


@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,3}(/[a-z.]{1,3}x)?\Z"), st.binary(max_size=40), max_size=6))
def test_every_bit_counts(files: dict[str, bytes]) -> None:
    folders = {path.split("/")[0] for path in files if "/" in path}
    held = {path: Content(data) for path, data in files.items() if path not in folders}
    first = nar_hash(held)
    for path, content in held.items():
        assert nar_hash({**held, path: Content(content.data + b"\0")}) != first
        assert nar_hash({**held, path: Content(content.data, executable=True)}) != first


@pytest.mark.skipif(shutil.which("nix") is None, reason="needs nix (package nix-bin)")
@settings(max_examples=5, deadline=None)
@given(content=st.binary(max_size=100), name=st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z"))
def test_nix_says_the_same(content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nar")
    files = {**KNOWN, f"inner/{name}": Content(content), f"inner/Z{name}": Content(content)}
    for path, each in files.items():
        write(folder / path, each)
    words = ("nix", "--extra-experimental-features", "nix-command", "hash", "path", str(folder))
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert nar_hash(files) == done.stdout.strip()


def write(file: Path, content: Content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.data)
    file.chmod(0o755 if content.executable else 0o644)
