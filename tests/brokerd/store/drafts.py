"""Messages for tests of the store."""

from typing import Any

from brokerd.store import messages, turns
from brokerd.store.keys import Asked
from brokerd.store.messages import Draft
from brokerd.store.turns import Beginning
from protocol.problem import Refused
from protocol.tools import Sent
from tests.brokerd.store.conftest import Writer


def draft(
    sender: str = "operator",
    recipients: tuple[str, ...] = ("iris",),
    body: str = "hello",
    *,
    key: int = 0,
    digest: bytes = b"",
    in_reply_to: int | None = None,
    **more: Any,
) -> Draft:
    """A draft; without a `key` of its own, one that no other has."""
    draft.keys = key or draft.keys + 1  # type: ignore[attr-defined]  # a counter
    number: int = draft.keys  # type: ignore[attr-defined]  # a counter of its own
    return Draft(
        Asked(sender, number.to_bytes(16, "big")),
        digest,
        recipients[0] if len(recipients) == 1 else "*",
        recipients,
        len(recipients) > 1,
        body,
        in_reply_to,
        **more,
    )


draft.keys = 1_000  # type: ignore[attr-defined]  # a counter of its own


def send(write: Writer, *drafts: Draft) -> list[Sent]:
    """Store messages that nothing speaks against."""
    answers = write(messages.send, drafts)
    for answer in answers:
        assert not isinstance(answer, Refused)
    return [answer for answer in answers if isinstance(answer, Sent)]


def begin(write: Writer, agent: str, delivery: int, token: str) -> int:
    """Begin a turn. Refused as it is answered."""
    (answer,) = write(turns.begin, [Beginning(agent, delivery, token)])
    if isinstance(answer, Refused):
        raise answer
    return answer
