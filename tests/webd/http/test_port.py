"""Getting the port: for ever, never slower than every two seconds, loud at first, and honest about who has it."""

import errno
import os
import socket
from itertools import pairwise

import pytest
import trio
from structlog.testing import capture_logs

from runtime.log import logger
from tests.support.waiting import until
from webd.http.port import LOUD_ATTEMPTS, PortFault, PortState, bind_port, holder_of, take_given, take_port

pytestmark = pytest.mark.anyio


class Stubborn:
    """A port that somebody holds for the first so many attempts."""

    def __init__(self, held: int) -> None:
        self.left = held
        self.at_s: list[float] = []

    def bind(self, host: str, port: int) -> socket.socket:
        self.at_s.append(trio.current_time())
        if self.left:
            self.left -= 1
            raise OSError(errno.EADDRINUSE, "in use")
        return bind_port("127.0.0.1", 0)


async def taken(held: int) -> tuple[Stubborn, PortState, list[dict[str, object]]]:
    stubborn, state = Stubborn(held), PortState()
    with capture_logs() as said:
        listener = await take_port("127.0.0.1", 7000, state, logger("test"), stubborn.bind)
    await listener.aclose()
    return stubborn, state, [dict(entry) for entry in said]


@pytest.mark.virtual_time
async def test_it_is_tried_for_as_long_as_it_takes() -> None:
    stubborn, state, _ = await taken(held=500)
    assert len(stubborn.at_s) == 501
    assert state.conflict is None
    assert state.ready.is_set()


@pytest.mark.virtual_time
async def test_waits_grow_and_never_pass_two_seconds() -> None:
    stubborn, _, _ = await taken(held=30)
    waits = [after - before for before, after in pairwise(stubborn.at_s)]
    assert waits[0] < 0.1
    assert waits[3] > waits[0]
    assert max(waits) <= 2.0 + 1e-6
    assert min(waits[10:]) >= 1.4


@pytest.mark.virtual_time
async def test_a_dozen_warnings_then_notes_then_one_line_with_the_count() -> None:
    _, _, said = await taken(held=20)
    levels = [entry["log_level"] for entry in said if entry["event"] == "the port is not to be had"]
    assert levels == ["warning"] * LOUD_ATTEMPTS + ["info"] * 8
    assert said[-1]["event"] == "the port is ours"
    assert (said[-1]["log_level"], said[-1]["attempts"]) == ("info", 21)


@pytest.mark.virtual_time
async def test_nothing_is_said_when_it_was_free() -> None:
    _, _, said = await taken(held=0)
    assert said == []


async def test_a_real_holder_is_named_and_waited_for() -> None:
    state = PortState()

    async def take(port: int) -> None:
        await (await take_port("127.0.0.1", port, state, logger("test"))).aclose()

    with bind_port("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, port)
            conflict = await until(lambda: state.conflict, what="the conflict")
            assert conflict.startswith(f"port {port} is held by process {os.getpid()} (")
            held.close()
            with trio.fail_after(5):
                await state.ready.wait()
    assert state.conflict is None


async def test_an_address_that_is_not_here_yet_is_waited_for() -> None:
    state = PortState()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_port, "192.0.2.1", 7000, state, logger("test"))
        conflict = await until(lambda: state.conflict, what="the conflict")
        assert conflict.startswith("192.0.2.1 is no address of this machine")
        nursery.cancel_scope.cancel()


async def test_what_time_does_not_mend_is_a_fault() -> None:
    def forbidden(host: str, port: int) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PortFault, match=r"cannot listen at 127\.0\.0\.1:80: Permission denied"):
        await take_port("127.0.0.1", 80, PortState(), logger("test"), forbidden)


def test_nobody_holds_a_free_port() -> None:
    with bind_port("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
    assert holder_of(port) is None


async def test_a_socket_that_was_handed_over_is_ours_only_at_the_port_that_links_lead_to() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    state = PortState()
    with pytest.raises(PortFault, match=f"listens at port {port}, the settings say {port - 1}"):
        take_given(listener, port - 1, state)
    assert not state.ready.is_set()
    assert take_given(listener, port, state) is listener
    assert state.ready.is_set()
    await listener.aclose()
