"""Ours: the session pipeline of every daemon, serving one request that answers with its own text."""

import sys
from pathlib import Path

from protocol.rpc import Call, Caller, Role
from runtime import log
from runtime.later import light
from runtime.service import Service, run_service
from runtime.session import Surface
from runtime.sockets import bind_unix


class Echo(Call[str], frozen=True):
    """Answered with its text."""

    text: str


@light
async def echo(request: Echo, caller: Caller, host: None) -> str:
    return request.text


async def main(service: Service) -> None:
    """Serve it at the socket that the command line names."""
    routes = (Echo.answered_by(echo, callers=Role.OPERATOR),)
    surface = Surface(routes, None)
    service.listen(
        bind_unix(Path(sys.argv[1])),
        surface,
        lambda uid: Caller(Role.OPERATOR, uid),
        connections_per_uid_max=512,
    )


if __name__ == "__main__":
    log.configure("warning")
    sys.exit(run_service("echo", main))
