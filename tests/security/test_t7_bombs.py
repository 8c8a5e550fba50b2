"""T7: small repositories that unpack to no end. A bound with a name refuses each, and privd stays small meanwhile.

All are shown to one process that takes configurations in as privd does; the memory compared is that process's own.
"""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.security.proposals import OWNER
from tests.support.repositories import (
    FILE,
    FOLDER,
    Entry,
    Repository,
    commit_of,
    copy_step,
    delta_of,
    delta_upon,
    ground,
    index_of,
    name_of,
    packed,
)

pytestmark = [pytest.mark.root]

CHECKOUT = Path(__file__).parents[2]
GIB = 1 << 30
DRIVER_S = 280
GROWTH_MAX = 1.25
"""How much more memory a bomb may cost than a small configuration. The control, 32 MiB, is far beyond it."""
BLOB = "c" * 40
DEADLINES = ("took longer than", "of the processor", "of memory", "went wrong", "was ended by signal")


def packed_file(repository: Repository, entries: list[tuple[str, bytes]]) -> str:
    """A commit of one file that comes out of a pack of ours."""
    repository.put_pack(entries)
    return repository.commit_tree((FILE, "agent.nix", BLOB))


def loose_file(repository: Repository, compressed: bytes) -> str:
    repository.put_loose(BLOB, compressed)
    return repository.commit_tree((FILE, "agent.nix", BLOB))


def zeros_that_say_ten_bytes(repository: Repository) -> str:
    return loose_file(repository, zlib.compress(b"blob 10\0" + bytes(64 << 20)))


def zeros_that_say_a_gibibyte(repository: Repository) -> str:
    return loose_file(repository, zlib.compress(f"blob {GIB}\0".encode() + bytes(1 << 20)))


def blocks_of_nothing(repository: Repository) -> str:
    """Deflate's empty stored blocks: four million bytes that unpack to none."""
    packer = zlib.compressobj()
    head = packer.compress(b"blob 10\0") + packer.flush(zlib.Z_SYNC_FLUSH)
    return loose_file(repository, head + b"\0\0\0\xff\xff" * 800_000)


def a_sparse_file(repository: Repository) -> str:
    commit = loose_file(repository, b"\x78\x9c")
    os.truncate(repository.inner / "objects" / BLOB[:2] / BLOB[2:], 10 * GIB)
    return commit


def a_packed_file_of_10_gib(repository: Repository) -> str:
    """BI-184."""
    return packed_file(repository, [(BLOB, packed("blob", b"", size=10 * GIB))])


def packed_zeros_that_say_ten_bytes(repository: Repository) -> str:
    return packed_file(repository, [(BLOB, packed("blob", bytes(64 << 20), size=10))])


def a_delta_of_few_bytes(repository: Repository) -> str:
    """BI-182: some hundred bytes that grow to a gibibyte."""
    base = bytes(4 << 20)
    delta = delta_of(len(base), GIB, copy_step(0, len(base)) * 256)
    return packed_file(repository, [("d" * 40, packed("blob", base)), (BLOB, delta_upon("d" * 40, delta))])


def deltas_that_double(repository: Repository) -> str:
    entries, size = [(name_of("blob", b"0"), packed("blob", bytes(4096)))], 4096
    for level in range(20):
        steps = copy_step(0, min(size, 0xFFFFFF)) * 2
        name = BLOB if level == 19 else f"{level:02x}" * 20
        entries.append((name, delta_upon(entries[-1][0], delta_of(size, 2 * size, steps))))
        size *= 2
    return packed_file(repository, entries)


def a_delta_that_says_less_than_it_makes(repository: Repository) -> str:
    base = bytes(4 << 20)
    delta = delta_of(len(base), 10, copy_step(0, len(base)) * 100_000)
    return packed_file(repository, [("d" * 40, packed("blob", base)), (BLOB, delta_upon("d" * 40, delta))])


def a_chain_of_5000_deltas(repository: Repository) -> str:
    delta = delta_of(1, 1, copy_step(0, 1))
    entries = [("00" * 20, packed("blob", b"x"))]
    for level in range(1, 5000):
        name = BLOB if level == 4999 else f"{level:040x}"
        entries.append((name, delta_upon(entries[-1][0], delta)))
    return packed_file(repository, entries)


def deltas_upon_each_other(repository: Repository) -> str:
    delta = delta_of(1, 1, copy_step(0, 1))
    return packed_file(repository, [(BLOB, delta_upon("d" * 40, delta)), ("d" * 40, delta_upon(BLOB, delta))])


def steps_that_make_nothing(repository: Repository) -> str:
    delta = delta_of(1, 1, b"\x91\xff\x01" * 2_000_000)
    return packed_file(repository, [("d" * 40, packed("blob", b"x")), (BLOB, delta_upon("d" * 40, delta))])


def many_files_of_one_large_base(repository: Repository) -> str:
    """Each is small, each needs eight million bytes to be made."""
    base = b"x" * (8 << 20)
    entries: list[tuple[str, bytes]] = [("d" * 40, packed("blob", base))]
    files: list[Entry] = []
    for number in range(150):
        own = b"%d" % number
        name = name_of("blob", b"x" * 8 + own)
        steps = copy_step(0, 8) + bytes([len(own)]) + own
        entries.append((name, delta_upon("d" * 40, delta_of(len(base), 8 + len(own), steps))))
        files.append((FILE, f"f{number:03}", name))
    repository.put_pack(entries)
    return repository.commit_tree(*files)


def a_pack_that_says_ten_million_objects(repository: Repository) -> str:
    repository.put_pack([(BLOB, packed("blob", b"x"))], count=10_000_000)
    return repository.commit_tree((FILE, "agent.nix", BLOB))


def a_sparse_pack(repository: Repository) -> str:
    commit = packed_file(repository, [(BLOB, packed("blob", b"x"))])
    (pack,) = (repository.inner / "objects" / "pack").glob("*.pack")
    os.truncate(pack, 10 * GIB)
    return commit


def a_thousand_packs(repository: Repository) -> str:
    index, pack = index_of({"d" * 40: 12}), struct.pack(">4sII", b"PACK", 2, 1) + packed("blob", b"x")
    for number in range(1000):
        repository.write(f".git/objects/pack/pack-{number:040x}.idx", index)
        repository.write(f".git/objects/pack/pack-{number:040x}.pack", pack)
    return repository.commit_tree((FILE, "agent.nix", BLOB))


def ten_levels_of_ten(repository: Repository) -> str:
    """BI-164: the git bomb, 10^10 paths in 12 objects."""
    inner = repository.tree(*((FILE, f"f{number}", repository.blob()) for number in range(10)))
    for _ in range(9):
        inner = repository.tree(*((FOLDER, f"d{number}", inner) for number in range(10)))
    return repository.put("commit", commit_of(inner))


def two_levels_of_hundreds(repository: Repository) -> str:
    inner = repository.tree(*((FILE, f"f{number}", repository.blob()) for number in range(100, 400)))
    return repository.commit_tree(*((FOLDER, f"d{number}", inner) for number in range(100, 400)))


def ten_thousand_entries(repository: Repository) -> str:
    one = repository.blob()
    return repository.commit_tree(*((FILE, f"f{number:05}", one) for number in range(10_000)))


def a_thousand_entries(repository: Repository) -> str:
    one = repository.blob()
    return repository.commit_tree(*((FILE, f"f{number:04}", one) for number in range(1_000)))


def two_hundred_levels(repository: Repository) -> str:
    inner = repository.tree((FILE, "f", repository.blob()))
    for _ in range(200):
        inner = repository.tree((FOLDER, "d", inner))
    return repository.put("commit", commit_of(inner))


def a_message_of_three_megabytes(repository: Repository) -> str:
    """BI-187."""
    return repository.put(
        "commit", commit_of(repository.tree((FILE, "a", repository.blob())), message="x" * 3_000_000)
    )


def ten_thousand_parents(repository: Repository) -> str:
    """BI-191."""
    parents = [f"{number:040x}" for number in range(10_000)]
    return repository.put("commit", commit_of(repository.tree((FILE, "a", repository.blob())), parents))


def a_file_of_300_kib(repository: Repository) -> str:
    """BI-160."""
    return repository.commit({"big.nix": "x" * (300 << 10)})


def a_file_of_600_kb(repository: Repository) -> str:
    return repository.commit({"big.nix": "x" * 600_000})


def five_files_of_250_kib(repository: Repository) -> str:
    """BI-161."""
    return repository.commit({f"f{number}.nix": f"{number}" * (250 << 10) for number in range(5)})


@dataclass(frozen=True)
class Bomb:
    make: Callable[[Repository], str]
    words: str


BOMBS = (
    Bomb(zeros_that_say_ten_bytes, "agent.nix: an object has another length than it says"),
    Bomb(
        zeros_that_say_a_gibibyte, f"agent.nix: the blob {BLOB} has 1073741824 bytes, at most 524288 are read"
    ),
    Bomb(blocks_of_nothing, "agent.nix: an object takes more room compressed than unpacked"),
    Bomb(a_sparse_file, "agent.nix: an object is compressed wrongly"),
    Bomb(
        a_packed_file_of_10_gib, f"agent.nix: the blob {BLOB} has 10737418240 bytes, at most 524288 are read"
    ),
    Bomb(packed_zeros_that_say_ten_bytes, "agent.nix: an object has another length than it says"),
    Bomb(a_delta_of_few_bytes, "a delta makes 1073741824 bytes, at most 524288 are made"),
    Bomb(deltas_that_double, "a delta makes 16777216 bytes, at most 8388608 are made"),
    Bomb(a_delta_that_says_less_than_it_makes, "a delta makes another length than it says"),
    Bomb(a_chain_of_5000_deltas, f"agent.nix: {BLOB} is more than 64 deltas deep"),
    Bomb(deltas_upon_each_other, f"agent.nix: {BLOB} is more than 64 deltas deep"),
    Bomb(steps_that_make_nothing, "agent.nix: the repository's deltas take more than 1000000 steps"),
    Bomb(many_files_of_one_large_base, "the repository unpacks to more than 268435456 bytes"),
    Bomb(a_pack_that_says_ten_million_objects, "has 10000000 objects, at most 1000000 are read"),
    Bomb(a_sparse_pack, "has 10737418240 bytes, at most 268435456 are read"),
    Bomb(a_thousand_packs, "more than 64 packs: run `git gc`"),
    Bomb(ten_levels_of_ten, "folders are nested deeper than 4"),
    Bomb(two_levels_of_hundreds, "more than 200 files and folders"),
    Bomb(ten_thousand_entries, "the top folder: the tree"),
    Bomb(a_thousand_entries, "the top folder: more than 200 files and folders"),
    Bomb(two_hundred_levels, "d/d/d/d/d/: folders are nested deeper than 4"),
    Bomb(a_message_of_three_megabytes, "at most 65536 are read"),
    Bomb(ten_thousand_parents, "at most 65536 are read"),
    Bomb(a_file_of_300_kib, "big.nix: 307200 bytes, at most 262144 are allowed"),
    Bomb(a_file_of_600_kb, "has 600000 bytes, at most 524288 are read"),
    Bomb(five_files_of_250_kib, "f4.nix: all files together have more than 1048576 bytes"),
)


@dataclass(frozen=True)
class Run:
    """What came of every bomb, and of the two that it is compared with."""

    usual: dict[str, int]
    control: dict[str, int]
    bombs: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with ground() as place:
        usual = Repository(place / "usual", OWNER)
        small = usual.commit({"agent.toml": "a = 1\n", "prompt.md": "words\n" * 20_000})
        shown = [(usual.folder, small), (usual.folder, small), (usual.folder, "control")]
        for bomb in BOMBS:
            repository = Repository(place / bomb.make.__name__, OWNER)
            shown.append((repository.folder, bomb.make(repository)))
        words = [str(word) for pair in shown for word in pair]
        command = [
            sys.executable,
            "-m",
            "tests.security.intake_memory",
            str(place / "applied"),
            str(OWNER),
            *words,
        ]
        done = subprocess.run(
            command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DRIVER_S, check=True
        )
        assert done.stderr == "", "a box had something to say"
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["problem"] for row in rows[:3]] == ["", "", ""], rows[:3]
        stored = list((place / "applied" / "iris.git" / "objects").rglob("*/*"))
        assert len([path for path in stored if path.is_file()]) == 4, "a bomb left something"
        yield Run(rows[1], rows[2], dict(zip((bomb.make.__name__ for bomb in BOMBS), rows[3:], strict=True)))


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.make.__name__)
def test_t7_a_bomb_is_refused_by_a_bound_that_has_a_name(run: Run, bomb: Bomb) -> None:
    found = run.bombs[bomb.make.__name__]
    assert bomb.words in found["detail"]
    assert found["problem"] in {"limit", "failed"}
    assert not any(words in found["detail"] for words in DEADLINES), found


def test_t7_privd_stays_as_small_as_it_is(run: Run) -> None:
    """Its peak while it takes a bomb in, by its peak with a small configuration."""
    usual = run.usual["peak_kib"]
    assert run.control["peak_kib"] > GROWTH_MAX * usual, "the measure does not see memory"
    grown = {name: int(found["peak_kib"]) / usual for name, found in run.bombs.items()}
    assert max(grown.values()) < GROWTH_MAX, grown
