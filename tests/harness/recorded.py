"""What the real CLI printed once, line by line, as it would print it now."""

from pathlib import Path

from protocol.settings import OWN_SERVER

TRANSCRIPTS = Path(__file__).parent / "transcripts"
RECORDED_AS = b"hive"
"""What our server was called then."""


def lines_of(name: str) -> list[bytes]:
    """The lines of one transcript."""
    own = OWN_SERVER.encode()
    text = (TRANSCRIPTS / f"{name}.jsonl").read_bytes()
    text = text.replace(b"mcp__" + RECORDED_AS + b"__", b"mcp__" + own + b"__")
    return text.replace(b'{"name":"' + RECORDED_AS + b'"', b'{"name":"' + own + b'"').splitlines()


def names() -> list[str]:
    return sorted(path.stem for path in TRANSCRIPTS.glob("*.jsonl"))
