"""Who answers."""

import os

from brokerd.host import Host
from protocol.hello import WIRE_VERSION, Greeting, Hello
from protocol.rpc import Caller
from runtime import VERSION


async def hello(request: Hello, caller: Caller, host: Host) -> Greeting:
    fault = host.egress.fault()
    return Greeting(
        "brokerd",
        VERSION,
        WIRE_VERSION,
        separated=host.settings.web_uid != os.geteuid(),
        degraded=() if fault is None else (fault,),
    )
