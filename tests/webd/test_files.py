"""An agent's files through webd: folders, parts of files, downloads, sizes, and what destroyed agents left."""

from pathlib import Path
from urllib.parse import quote

import pytest

from protocol.limits import STATE_CHUNK_BYTES_MAX
from protocol.privd import DestroyCage, PurgeAgent, StateChunk
from tests.support.waiting import until
from tests.webd.support.hive import WebHive
from webd.handlers import files
from webd.handlers.files import as_text, file_name

MARKDOWN = "# ä\tb\r\n\x1b[31mred\x1b[0m \u202eevil ".encode()

pytestmark = [pytest.mark.anyio, pytest.mark.cage]


async def filled(hive: WebHive) -> Path:
    await hive.agent("iris")
    folder = hive.state_of("iris")
    (folder / "notes").mkdir()
    (folder / "notes" / "a b&c.md").write_bytes(MARKDOWN)
    (folder / "notes" / "raw.bin").write_bytes(b"\x00\x01\xff" * 100_000)
    (folder / "way").symlink_to("/etc/passwd")
    return folder


async def test_a_folder_is_listed(hive: WebHive) -> None:
    await filled(hive)
    browser = await hive.browser()
    found = (await browser.get("/api/v1/agents/iris/files")).json
    assert [(entry["name"], entry["kind"]) for entry in found["entries"]] == [
        ("notes", "folder"),
        ("way", "link"),
    ]
    inner = (await browser.get("/api/v1/agents/iris/files?path=notes")).json
    assert [(entry["name"], entry["bytes"]) for entry in inner["entries"]] == [
        ("a b&c.md", len(MARKDOWN)),
        ("raw.bin", 300_000),
    ]
    assert inner["after"] is None
    later = (await browser.get("/api/v1/agents/iris/files?path=notes&after=a%20b%26c.md")).json
    assert [entry["name"] for entry in later["entries"]] == ["raw.bin"]
    size = (await browser.get("/api/v1/agents/iris/size")).json
    assert (size["files"], size["complete"]) == (3, True)


async def test_a_file_is_text_without_power(hive: WebHive) -> None:
    await filled(hive)
    browser = await hive.browser()
    shown = (await browser.get(f"/api/state-file?agent=iris&path={quote('notes/a b&c.md', safe='')}")).json
    assert shown["text"] == "# ä\tb\nred evil "
    assert (shown["total_bytes"], shown["next"]) == (len(MARKDOWN), None)
    binary = (await browser.get("/api/state-file?agent=iris&path=notes/raw.bin")).json
    assert (binary["text"], binary["next"]) == (None, None)


async def test_a_long_file_comes_in_parts_that_cut_no_character(hive: WebHive) -> None:
    folder = await filled(hive)
    text = "x" + "ä" * STATE_CHUNK_BYTES_MAX
    (folder / "long").write_text(text)
    browser = await hive.browser()
    found, offset = "", 0
    while offset is not None:
        part = (await browser.get(f"/api/state-file?agent=iris&path=long&offset={offset}")).json
        found += part["text"]
        offset = part["next"]
    assert found == text


async def test_a_download_is_never_looked_into(hive: WebHive) -> None:
    await filled(hive)
    browser = await hive.browser()
    answer = await browser.get("/api/v1/agents/iris/download?path=notes/raw.bin")
    assert (answer.status, answer.body) == (200, b"\x00\x01\xff" * 100_000)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="raw.bin"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    small = await browser.get(f"/api/v1/agents/iris/download?path={quote('notes/a b&c.md', safe='')}")
    assert small.headers["content-disposition"] == 'attachment; filename="a_b_c.md"'


async def test_a_download_has_a_bound(hive: WebHive, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await filled(hive)
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    browser = await hive.browser()
    answer = await browser.get("/api/v1/agents/iris/download?path=sparse")
    assert (answer.status, answer.json["problem"]) == (429, "limit")
    assert "hivectl cat iris" in answer.json["detail"]
    monkeypatch.setattr(files, "DOWNLOAD_BYTES_MAX", 1000)
    assert (await browser.get("/api/v1/agents/iris/download?path=notes/raw.bin")).json["problem"] == "limit"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("api/state-file?agent=iris&path=way", 409),
        ("api/state-file?agent=iris&path=../../hm1nd", 409),
        ("api/state-file?agent=iris&path=/etc/shadow", 409),
        ("api/state-file?agent=iris&path=none", 404),
        ("api/state-file?agent=iris&path=notes", 409),
        ("api/state-file?path=notes", 400),
        ("api/state-file?agent=IRIS&path=x", 400),
        ("api/state-file?agent=nobody&path=x", 404),
        ("api/state-file?agent=iris&path=a%00b", 400),
        ("api/state-file?agent=iris&path=a%0Ab", 400),
        (f"api/state-file?agent=iris&path={'x' * 1025}", 400),
        ("api/state-file?agent=iris&path=x&offset=-1", 400),
        ("api/v1/agents/iris/files?path=way", 409),
        ("api/v1/agents/iris/download?path=way", 409),
        ("api/v1/agents/nobody/size", 404),
    ],
)
async def test_what_may_not_be_read_is_refused(hive: WebHive, query: str, status: int) -> None:
    await filled(hive)
    answer = await (await hive.browser()).get(f"/{query}")
    assert answer.status == status, answer


async def test_a_stranger_reads_nothing(hive: WebHive) -> None:
    await filled(hive)
    stranger = hive.stranger()
    for path in (
        "state-file?agent=iris&path=way",
        "journal/iris",
        "v1/agents/iris/files",
        "v1/agents/iris/size",
        "v1/agents/iris/download?path=way",
    ):
        assert (await stranger.get(f"/api/{path}")).status == 401


async def test_a_journal_has_an_address_of_its_own(hive: WebHive) -> None:
    await hive.agent("iris")
    hive.journal("iris").parent.mkdir(parents=True, exist_ok=True)
    hive.journal("iris").write_text("one\ntwo\n")
    page = (await (await hive.browser()).get("/api/journal/iris?limit=1")).json
    assert [line["text"] for line in page["lines"]] == ["two"]
    assert page["more"] is True


async def test_what_a_destroyed_agent_left_is_told_as_it_comes_and_goes(hive: WebHive) -> None:
    await filled(hive)
    browser = await hive.browser()
    privd = hive.operator("privd")
    async with browser.stream("kept") as frames:
        first = await frames.next("snapshot")
        assert first.data["topics"]["kept"] == {}
        await privd.call(DestroyCage(agent="iris"))
        row = (await frames.next("kept")).data
        assert (row["k"], row["d"]["name"], row["d"]["runner"]) == ("iris", "iris", "demo")
    state = (await browser.get("/api/state?topics=kept")).json
    assert state["snapshot"]["topics"]["kept"]["iris"]["name"] == "iris"
    page = await browser.get("/agent/iris/state", accept="text/html")
    assert page.status == 200
    assert (await browser.get("/api/v1/agents/iris/size")).status == 200
    answer = await browser.post("/api/v1/agents/iris/purge", {"key": "k" * 22, "confirm": "atlas"})
    assert answer.status == 400
    await privd.call(PurgeAgent(agent="iris", confirm="iris"))

    async def gone() -> bool:
        return bool((await browser.get("/api/state?topics=kept")).json["snapshot"]["topics"]["kept"] == {})

    await until(gone, what="the end of the row")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("notes.md", "notes.md"),
        ("a/b/.bashrc", "bashrc"),
        ('x"; filename="y.exe', "x_filename_y.exe"),
        ("..", "file"),
        ("folder/", "folder"),
        ("a\\x0d\\x0aSet-Cookie: x", "a_x0d_x0aSet-Cookie_x"),
        ("-rf", "rf"),
        ("ä" * 300, "file"),
        ("n" * 300 + ".txt", "n" * 96 + ".txt"),
    ],
)
async def test_a_downloaded_files_name_has_no_power(path: str, name: str) -> None:
    assert file_name(path) == name


@pytest.mark.parametrize(
    ("data", "offset", "total", "text"),
    [
        (b"", 0, 0, ("", 0)),
        ("ä".encode(), 0, 2, ("ä", 2)),
        (b"\xc3", 0, 1, (None, 0)),
        (b"a\xc3" + b"b" * 9, 0, 11, (None, 0)),
        (b"a\0b", 0, 3, (None, 0)),
        (
            b"x" * (STATE_CHUNK_BYTES_MAX - 1) + b"\xc3",
            0,
            STATE_CHUNK_BYTES_MAX + 1,
            ("x" * (STATE_CHUNK_BYTES_MAX - 1), STATE_CHUNK_BYTES_MAX - 1),
        ),
    ],
)
async def test_text_is_told_from_what_is_none(
    data: bytes, offset: int, total: int, text: tuple[str | None, int]
) -> None:
    assert as_text(StateChunk(offset, data, total, 0)) == text
