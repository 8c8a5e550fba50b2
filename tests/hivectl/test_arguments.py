"""Arguments come from requests: required fields are positional, rules are those of the protocol."""

import argparse

import pytest

from hivectl.arguments import add_arguments, build_request
from hivectl.catalogue import CATALOGUE
from protocol.configuration import Propose
from protocol.privd import StopCage
from protocol.problem import Refused
from protocol.rpc import Request
from protocol.tools import Send


def parsed(request: type[Request], *words: str) -> Request:
    parser = argparse.ArgumentParser()
    add_arguments(parser, request, frozenset(), {})
    return build_request(request, parser.parse_args(words), {})


def test_required_fields_are_positional_and_a_key_is_made() -> None:
    first, second = parsed(Send, "iris", "hello"), parsed(Send, "iris", "hello")
    assert isinstance(first, Send)
    assert isinstance(second, Send)
    assert (first.to, first.body) == ("iris", "hello")
    assert first.key != second.key


def test_defaults_and_flags() -> None:
    assert parsed(StopCage, "iris") == StopCage(agent="iris")
    assert parsed(StopCage, "iris", "--no-graceful") == StopCage(agent="iris", graceful=False)


def test_choices_come_from_the_enum(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(Propose, "iris", "spawn", "--runner", "gpt")
    assert "demo" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Iris", "iris\n", "../etc", "", "$(id)"])
def test_a_broken_rule_names_its_argument(name: str) -> None:
    with pytest.raises(Refused, match=r"agent: expected an agent's name: lowercase letters and digits"):
        parsed(StopCage, name)


def test_every_command_has_a_summary_and_a_name_of_its_own() -> None:
    names = [command.name for command in CATALOGUE]
    assert len(names) == len(set(names))
    assert all(command.summary for command in CATALOGUE)
