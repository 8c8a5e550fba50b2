"""webd's settings: where it listens, what it is called, where the other daemons are."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from runtime.settings import AbsolutePath, ListenAddress, LogLevel, SiteName, Uid
from webd.policy.guard import Names

Seconds = Annotated[float, Meta(gt=0, le=3600)]

HTTP_PORT: Final = 80
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, never a default


class WebSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that webd is told at its start."""

    run: AbsolutePath
    """The folder of the daemons' sockets."""
    state: AbsolutePath
    """webd's own folder: who is signed in."""
    name: Annotated[str, Meta(min_length=1, max_length=60)] = "hive"
    host: ListenAddress = "127.0.0.1"
    """The address to listen at."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 7_000
    hosts: tuple[SiteName, ...] = ()
    """More names the dashboard is reached by, as `name:port`; the first one is the one in login links."""
    https: bool = False
    """Whether browsers come over TLS, which a proxy in front ends."""
    notices: tuple[Annotated[str, Meta(max_length=300)], ...] = ()
    """Sentences that stand on every page."""
    operator_uids: tuple[Uid, ...] = (0,)
    admin_gid: Uid | None = None
    """Members of this group are operators too."""
    body_s: Seconds = 10.0
    """How long a browser may take for a request's body."""
    log_level: LogLevel = "info"

    def names(self) -> Names:
        """The exact values of Host that this dashboard answers to."""
        own = ("localhost", "127.0.0.1") if self.host in _EVERYWHERE | {"127.0.0.1"} else ()
        bare = () if self.host in _EVERYWHERE else (f"[{self.host}]" if ":" in self.host else self.host,)
        loopback6 = ("localhost", "[::1]") if self.host in ("::", "::1") else ()
        suffix = "" if self.port == HTTP_PORT else f":{self.port}"
        listening = {name + suffix for name in (*own, *bare, *loopback6)}
        return Names(frozenset({*listening, *self.hosts}), "https" if self.https else "http")

    def address(self) -> str:
        """Where the operator's browser finds the dashboard."""
        names = self.names()
        if self.hosts:
            return f"{names.scheme}://{self.hosts[0]}"
        preferred = ("127.0.0.1", "[::1]", "localhost")
        own = sorted(
            names.hosts, key=lambda host: next((n for n, p in enumerate(preferred) if host.startswith(p)), 9)
        )
        return f"{names.scheme}://{own[0]}"
