"""What a message's text may be."""

from protocol.limits import BODY_BYTES_MAX
from protocol.problem import Problem, Refused


def bytes_of(body: str) -> int:
    """Its size as UTF-8."""
    return len(body) if body.isascii() else len(body.encode())


def check_body(body: str) -> None:
    """Refuse a text that is empty or holds a NUL (`malformed`), or that is too long (`limit`)."""
    if not body:
        raise Refused(Problem.MALFORMED, "the body is empty")
    if "\0" in body:
        raise Refused(Problem.MALFORMED, "the body has a NUL character")
    size = bytes_of(body)
    if size > BODY_BYTES_MAX:
        raise Refused(
            Problem.LIMIT,
            f"the body has {size} bytes, at most {BODY_BYTES_MAX} are allowed: put it into a file under /shared "
            "and send its path",
        )
