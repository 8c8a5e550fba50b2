"""Listening sockets: right owner and mode from the first moment, stale ones replaced, living ones left alone."""

import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from runtime.sockets import (
    PATH_BYTES_MAX,
    Ownership,
    SocketFault,
    adopt_fd,
    bind_unix,
    inode_of,
    peer_uid,
    receive,
    send_at_once,
    unbind,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_socket_has_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.sock"
    async with bind_unix(path, Ownership(mode)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.is_socket()
    assert [one.name for one in tmp_path.iterdir()] == ["a.sock"]


@pytest.mark.root
async def test_a_socket_has_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with bind_unix(path, Ownership(0o660, uid=12_345, gid=23_456)):
        found = path.stat()
    assert (found.st_uid, found.st_gid) == (12_345, 23_456)


async def test_the_mode_does_not_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        async with bind_unix(tmp_path / "a.sock", Ownership(0o666)):
            assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


async def test_binding_leaves_the_umask_of_other_threads_alone(tmp_path: Path) -> None:
    over = threading.Event()
    modes: set[int] = set()

    def make_files() -> None:
        count = 0
        while not over.is_set():
            count += 1
            path = tmp_path / f"file{count}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o640))
            modes.add(stat.S_IMODE(path.stat().st_mode))

    before = os.umask(0)
    maker = threading.Thread(target=make_files)
    maker.start()
    try:
        for count in range(300):
            async with bind_unix(tmp_path / f"{count}.sock"):
                pass
    finally:
        over.set()
        maker.join()
        os.umask(before)
    assert modes == {0o640}


async def test_nobody_can_connect_before_owner_and_mode_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real: Callable[..., None] = Path.chmod

    def chmod(path: Path, mode: int, **more: bool) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        assert not (tmp_path / "a.sock").exists()
        real(path, mode, **more)

    monkeypatch.setattr(Path, "chmod", chmod)
    async with bind_unix(tmp_path / "a.sock", Ownership(0o666)):
        assert seen == [0]


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    stale = path.stat().st_ino
    async with bind_unix(path):
        assert path.stat().st_ino != stale
        async with await trio.open_unix_socket(path):
            pass


@pytest.mark.parametrize("backlog", [0, 1])
async def test_a_socket_that_somebody_answers_is_left_alone(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as running:
        running.bind(str(path))
        running.listen(backlog)
        living = path.stat().st_ino
        with pytest.raises(SocketFault, match="another process listens here; is this hive running already"):
            bind_unix(path)
        assert path.stat().st_ino == living
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            running.accept()[0].close()
            client.connect(str(path))


async def test_something_else_in_the_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(SocketFault, match="something else than a socket"):
        bind_unix(path)
    assert path.read_text() == "precious"
    link = tmp_path / "b.sock"
    link.symlink_to(path)
    with pytest.raises(SocketFault, match="something else than a socket"):
        bind_unix(link)
    (tmp_path / "c.sock").mkdir()
    with pytest.raises(SocketFault, match="something else than a socket"):
        bind_unix(tmp_path / "c.sock")


async def test_a_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 50) / ("y" * 50)
    folder.mkdir(parents=True)
    with pytest.raises(SocketFault, match=f"at most {PATH_BYTES_MAX - 4} bytes; choose a shorter --dir"):
        bind_unix(folder / "a.sock")


async def test_the_longest_path_works() -> None:
    folder = Path("/tmp/" + "z" * 90)
    folder.mkdir()
    path = folder / ("s" * (PATH_BYTES_MAX - len(".new") - len(str(folder)) - 1))
    try:
        async with bind_unix(path):
            async with await trio.open_unix_socket(path):
                pass
        path.unlink()
    finally:
        folder.rmdir()


@pytest.mark.parametrize("place", ["missing/a.sock", "file/a.sock"])
async def test_a_place_that_cannot_be_is_a_fault_with_its_reason(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SocketFault, match=f"{place}: cannot listen: (No such file|Not a directory)"):
        bind_unix(tmp_path / place)


async def test_only_the_socket_that_was_bound_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with bind_unix(path):
        bound = inode_of(path)
        unbind(path, None)
        assert path.exists()
        path.rename(tmp_path / "moved.sock")  # its number is not given again while it is there
        async with bind_unix(path):
            unbind(path, bound)
            assert path.exists()
            unbind(path, inode_of(path))
            assert not path.exists()
        unbind(path, bound)


@pytest.mark.root
async def test_a_socket_whose_folder_root_takes_away_is_no_fault(tmp_path: Path) -> None:
    """Root closes a folder before it empties it: a daemon may see the socket and not touch it, or see nothing."""
    code = """
import os, sys
from pathlib import Path
from runtime.sockets import inode_of, unbind
path = Path(sys.argv[1])
bound = inode_of(path)
os.setuid(54321)
unbind(path, bound)
path.parent.parent.joinpath("seen").write_text(str(inode_of(path) == bound))
"""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(0o755)
    folder = tmp_path / "egress"
    for mode in (0o755, 0o700):
        folder.mkdir()
        async with bind_unix(folder / "a.sock", Ownership(0o666)):
            folder.chmod(mode)
            command = [sys.executable, "-c", code, str(folder / "a.sock")]
            await trio.run_process(command, cwd=Path(__file__).parents[2])
            assert (tmp_path / "seen").read_text() == str(mode == 0o755)
            assert (folder / "a.sock").exists()
            (folder / "a.sock").unlink()
        folder.rmdir()
        (tmp_path / "seen").unlink()


@pytest.mark.root
async def test_a_failing_bind_leaves_nothing_behind(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from runtime.sockets import Ownership, SocketFault, bind_unix
os.setuid(54321)
for owner in (Ownership(uid=0), Ownership()):
    try:
        bind_unix(Path(sys.argv[1]), owner)
    except SocketFault as fault:
        print(fault)
"""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(0o755)
    command = [sys.executable, "-c", code, str(tmp_path / "a.sock")]
    done = await trio.run_process(command, cwd=Path(__file__).parents[2], capture_stdout=True)
    assert done.stdout.endswith(b"a.sock: cannot listen: Operation not permitted\n")
    assert [one.name for one in tmp_path.iterdir()] == ["a.sock"]


async def test_the_peers_uid_is_the_kernels(tmp_path: Path) -> None:
    async with bind_unix(tmp_path / "a.sock") as listener:
        async with await trio.open_unix_socket(tmp_path / "a.sock"), await listener.accept() as accepted:
            assert peer_uid(accepted) == os.getuid()


@pytest.mark.root
async def test_the_peers_uid_is_that_of_the_moment_it_connected(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
    async with bind_unix(tmp_path / "a.sock", Ownership(0o666)) as listener, trio.open_nursery() as nursery:
        command = [sys.executable, "-I", "-c", code, str(tmp_path / "a.sock")]
        nursery.start_soon(partial(trio.run_process, command, user=54_321, group=54_321, extra_groups=[]))
        async with await listener.accept() as accepted:
            assert peer_uid(accepted) == 54_321


async def test_a_stream_that_is_no_unix_socket_has_no_uid() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]) as stream:
        assert peer_uid(stream) is None
        await (await listener.accept()).aclose()


async def test_a_socket_of_the_service_manager_is_served(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "a.sock"))
        made.listen()
        given = os.dup(made.fileno())
    async with adopt_fd(given) as listener, await trio.open_unix_socket(tmp_path / "a.sock") as stream:
        async with await listener.accept() as accepted:
            await accepted.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


# reading and writing


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, trio.SocketStream]]:
    """A plain socket of the test, and the stream at its other end."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours:
        yield ours, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


async def test_receiving_waits_for_what_comes(pair: tuple[socket.socket, trio.SocketStream]) -> None:
    ours, stream = pair
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, ours.sendall, b"hello"))
        assert await receive(stream, 3) == b"hel"
        assert await receive(stream, 3) == b"lo"
        ours.close()
        assert await receive(stream, 3) == b""


async def test_receiving_is_a_checkpoint_even_when_something_is_there(
    pair: tuple[socket.socket, trio.SocketStream],
) -> None:
    ours, stream = pair
    async with stream:
        ours.sendall(b"hello")
        with trio.testing.assert_checkpoints():
            assert await receive(stream, 100) == b"hello"
        ours.sendall(b"not read")
        with trio.move_on_after(0) as scope:
            await receive(stream, 100)
        assert scope.cancelled_caught


async def test_receiving_ends_with_the_stream(pair: tuple[socket.socket, trio.SocketStream]) -> None:
    _, stream = pair
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receive(stream, 1)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await receive(stream, 1)


async def test_a_peer_that_broke_off_is_told_apart(pair: tuple[socket.socket, trio.SocketStream]) -> None:
    ours, stream = pair
    async with stream:
        await stream.send_all(b"unread")
        ours.close()
        with pytest.raises(trio.BrokenResourceError):
            await receive(stream, 1)
        assert send_at_once(stream, b"more") == b"more"
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"more")


async def test_what_the_kernel_does_not_take_is_left_to_be_waited_for(
    pair: tuple[socket.socket, trio.SocketStream],
) -> None:
    ours, stream = pair
    data = os.urandom(4 << 20)
    async with stream:
        with trio.testing.assert_no_checkpoints():
            rest = send_at_once(stream, data)
        assert 0 < len(rest) < len(data)
        assert len(send_at_once(stream, rest)) == len(rest)
        heard = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, rest)
            while len(heard) < len(data):
                heard += await trio.to_thread.run_sync(ours.recv, 1 << 20)
        assert heard == data
        assert not send_at_once(stream, b"small")
        assert ours.recv(100) == b"small"


async def test_other_streams_are_read_and_written_as_they_are() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    assert send_at_once(theirs, b"data") == b"data"
    await ours.send_all(b"data")
    assert await receive(theirs, 100) == b"data"
