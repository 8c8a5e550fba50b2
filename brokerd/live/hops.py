"""How far each agent is from a word from outside: the highest hops among the messages of its last turn."""

from collections.abc import Iterable, Mapping

from protocol.messages import Message


class Hops:
    """Every agent's. An agent that sends after its turn goes on from there: a loop does not get out of it that way."""

    def __init__(self, last: Mapping[str, int]) -> None:
        self._last = dict(last)

    def turn_began(self, agent: str, message: Message) -> None:
        self._last[agent] = message.hops

    def pulled(self, agent: str, messages: Iterable[Message]) -> None:
        """Messages came into the agent's running turn."""
        self._last[agent] = max([self._last.get(agent, 0), *[message.hops for message in messages]])

    def next(self, agent: str) -> int:
        """What a message that the agent sends now has."""
        return self._last.get(agent, 0) + 1
