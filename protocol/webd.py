"""What the operator at the command line may ask of webd, at its own socket: links to the dashboard, and sessions.

The browser speaks HTTP (docs/reference/http.md); a session starts only from here.
"""

from typing import Annotated

from msgspec import Meta, Struct

from protocol.limits import INTEGER_MAX
from protocol.rpc import Call

SessionId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]


class LoginLink(Struct, frozen=True):
    """A link that signs one browser in, once, until `expires_ms`."""

    url: str
    expires_ms: int


class MintLogin(Call[LoginLink], frozen=True):
    """Make a link to the dashboard that works once, for five minutes, under the name of the uid that asked.

    `conflict` until webd has its port: whoever holds it would get the code.
    """


class WebSession(Struct, frozen=True):
    """One signed-in browser."""

    id: SessionId
    operator: str
    address: str
    browser: str
    """What the browser said it is."""
    began_ms: int
    seen_ms: int
    ends_ms: int
    """When it ends unless it is used before."""


class ListSessions(Call[tuple[WebSession, ...]], frozen=True):
    """The browsers that are signed in, newest first."""


class RevokeSession(Call[None], frozen=True):
    """End one session at once, its live streams with it. `not_found` when it has ended already."""

    session: SessionId
