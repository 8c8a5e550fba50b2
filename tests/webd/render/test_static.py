"""Static files: read once, found by name alone, kept by their hash."""

from pathlib import Path

import pytest

from webd.policy.guard import Head
from webd.render.static import StaticFiles, read_static


@pytest.fixture
def files(tmp_path: Path) -> StaticFiles:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "app.js").write_text("1")
    (tmp_path / "deep" / "er" / "style.css").write_text("2")
    (tmp_path / "hive.webmanifest").write_text("{}")
    (tmp_path / "types.d.ts").write_text("3")
    (tmp_path / "tsconfig.json").write_text("{}")
    (tmp_path / "secret").write_text("4")
    return read_static(tmp_path)


def head(path: str, **headers: str) -> Head:
    said = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Head("GET", path, "1.1", said)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/deep/er/style.css", "text/css; charset=utf-8"),
        ("/static/hive.webmanifest", "application/manifest+json"),
    ],
)
def test_files_by_name(files: StaticFiles, path: str, kind: str) -> None:
    answer = files.answer(head(path))
    assert answer is not None
    assert (answer.status, answer.kind) == (200, kind)


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/secret",
        "/static/types.d.ts",
        "/static/tsconfig.json",
        "/static/deep",
        "/static/deep/er/",
        "/static/../app.js",
        "/static//app.js",
        "/static/0123456789ab",
        "/static/0123456789ab/0123456789ab/app.js",
    ],
)
def test_what_is_no_file_is_none(files: StaticFiles, path: str) -> None:
    assert files.answer(head(path)) is None


def test_the_hash_is_of_everything(files: StaticFiles, tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text("changed")
    changed = read_static(tmp_path)
    assert changed.prefix != files.prefix
    kept = changed.answer(head(f"{changed.prefix}/app.js"))
    stale = changed.answer(head(f"{files.prefix}/app.js"))
    assert kept is not None
    assert stale is not None
    assert dict(kept.headers)["cache-control"].endswith("immutable")
    assert dict(stale.headers)["cache-control"] == "no-cache"


def test_a_file_the_browser_has_is_not_sent_again(files: StaticFiles) -> None:
    first = files.answer(head("/static/app.js"))
    assert first is not None
    again = files.answer(head("/static/app.js", if_none_match=dict(first.headers)["etag"]))
    assert again is not None
    assert (again.status, again.body) == (304, b"")
