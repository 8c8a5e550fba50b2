"""What became of a message, asked of a real broker."""

from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hivectl import receipt
from hivectl.places import Places
from protocol.problem import Problem, Refused
from tests.brokerd.conftest import short_folder
from tests.brokerd.hive import Hive, Privd, cage

pytestmark = pytest.mark.anyio
__all__ = ["short_folder"]


@pytest.fixture
async def hive(short_folder: Path) -> AsyncIterator[Hive]:
    made = Hive(short_folder, Privd(short_folder))
    for name in ("iris", "atlas"):
        made.privd.change(cage(name))
    async with made.privd.serving(), made.broker():
        yield made


async def test_each_delivery_has_its_line(hive: Hive, capsys: pytest.CaptureFixture[str]) -> None:
    await hive.send("operator", "iris", "another")
    sent = await hive.send("operator", "*", "all of you")
    _, turn = await hive.begun("atlas")
    values = Namespace(message=sent.message, json=False, places=Places(hive.folder, hive.folder))
    capsys.readouterr()
    assert await receipt.run(values) == 0
    message, heads, atlas, iris = capsys.readouterr().out.splitlines()[:4]
    assert f"#{sent.message}  operator → *  all of you" in message
    assert heads.split() == ["RECIPIENT", "STATE", "TURN", "ATTEMPTS", "SINCE"]
    assert atlas.split()[:5] == ["atlas", "in", "turn", str(turn), "1"]
    assert iris.split()[:3] == ["iris", "queued", "0"]


@pytest.mark.parametrize("number", [0, 99])
async def test_a_message_that_is_not_there(hive: Hive, number: int) -> None:
    await hive.send("operator", "iris")
    values = Namespace(message=number, json=False, places=Places(hive.folder, hive.folder))
    with pytest.raises(Refused, match=f"there is no message {number}") as refused:
        await receipt.run(values)
    assert refused.value.problem is Problem.NOT_FOUND
