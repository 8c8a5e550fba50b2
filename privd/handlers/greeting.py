"""Who answers."""

from privd.host import Host
from protocol.hello import WIRE_VERSION, Greeting, Hello
from protocol.rpc import Caller
from runtime import VERSION


async def hello(request: Hello, caller: Caller, host: Host) -> Greeting:
    return Greeting(
        daemon="privd",
        version=VERSION,
        wire=WIRE_VERSION,
        backend=host.backend.name,
        separated=host.separate,
        degraded=host.degraded(),
    )
