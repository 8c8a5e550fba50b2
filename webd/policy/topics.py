"""What a stream carries: topics and cursors as they stand in an address."""

import re
from dataclasses import dataclass
from typing import Final

from protocol.names import AGENT_NAME_PATTERN
from protocol.problem import Problem, Refused

HIVE: Final = "hive"
KEPT: Final = "kept"
"""What destroyed agents left."""
AGENTS: Final = "agents"
FLOW: Final = "flow"
QUESTIONS: Final = "questions"
PARKED: Final = "parked"
REMINDERS: Final = "reminders"
ACCOUNTS: Final = "accounts"
REFUSALS: Final = "refusals"
"""Of the way out."""
LIMITS: Final = "limits"
"""That cages met."""
PROPOSALS: Final = "proposals"
DEPLOYMENTS: Final = "deployments"
BUILDS: Final = "builds"
"""The ends of deployments' logs."""
DRAFTS: Final = "drafts"
COMMON: Final = frozenset(
    {HIVE, AGENTS, KEPT, FLOW, QUESTIONS, PARKED, REMINDERS, ACCOUNTS, REFUSALS, LIMITS}
    | {PROPOSALS, DEPLOYMENTS, BUILDS, DRAFTS}
)
"""What every page follows; an action's `seq` is a place among these."""
TAIL: Final = "tail:"
JOURNAL: Final = "journal:"
TOPICS_MAX: Final = 20

_NAME: Final = re.compile(AGENT_NAME_PATTERN)
_CURSOR: Final = re.compile(r"\A([0-9a-f]{1,16})-([0-9]{1,15})\Z")


@dataclass(frozen=True)
class Cursor:
    """A place in the stream of one run of webd."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_cursor(text: str | None) -> Cursor | None:
    """A cursor as the browser gives it back; None when it is none of ours (the stream then starts anew)."""
    found = _CURSOR.match(text or "")
    return Cursor(found[1], int(found[2])) if found else None


def parse_topics(text: str) -> frozenset[str]:
    """The topics of `?topics=`; Refused(malformed) names the first that is not one."""
    topics = text.split(",")
    if len(topics) > TOPICS_MAX:
        raise Refused(Problem.MALFORMED, f"more than {TOPICS_MAX} topics")
    for topic in topics:
        if topic not in COMMON and agent_of(topic) is None:
            raise Refused(Problem.MALFORMED, f"{topic[:40]!a} is not a topic")
    return frozenset(topics)


def agent_of(topic: str) -> str | None:
    """The agent whose tail or journal a topic is."""
    for prefix in (TAIL, JOURNAL):
        if topic.startswith(prefix) and _NAME.match(topic[len(prefix) :]):
            return topic[len(prefix) :]
    return None


def agents_of(topics: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name in map(agent_of, topics) if name is not None)
