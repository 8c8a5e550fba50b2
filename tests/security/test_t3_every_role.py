"""T3 at the real sockets of a running hive: what each peer may not ask is refused, and nothing has happened.

tests/security/test_roles.py walks every request × every role in memory; here the role is what the kernel says of a uid.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from brokerd.routes import AGENT_ROUTES, OPERATOR_ROUTES
from egressd.routes import ROUTES as EGRESS_ROUTES
from privd.routes import ROUTES as PRIVD_ROUTES
from protocol import frames
from protocol.limits import AGENT_CONNECTIONS_MAX
from protocol.rpc import Role, Route
from tests.security.peers import Heard, Question, User, ask_all
from tests.security.population import cages
from tests.support.hive import RunningHive
from tests.support.shapes import example, requests
from webd.routes import ROUTES as WEBD_ROUTES

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

AT_ONCE = AGENT_CONNECTIONS_MAX // 2
"""An agent's socket takes no more connections than it has bounds for."""
PEERS: dict[str, tuple[str, str, Sequence[Route[Any]], Role]] = {
    "brokerd at root's": ("broker", "privd/swarm.sock", PRIVD_ROUTES, Role.BROKER),
    "egressd at root's": ("egress", "privd/egress.sock", PRIVD_ROUTES, Role.EGRESS),
    "webd at root's": ("web", "privd/operator.sock", PRIVD_ROUTES, Role.OPERATOR),
    "webd at brokerd's": ("web", "brokerd/operator.sock", OPERATOR_ROUTES, Role.OPERATOR),
    "webd at egressd's": ("web", "egressd/operator.sock", EGRESS_ROUTES, Role.OPERATOR),
    "brokerd at egressd's": ("broker", "egressd/swarm.sock", EGRESS_ROUTES, Role.BROKER),
    "root at webd's": ("root", "webd/operator.sock", WEBD_ROUTES, Role.OPERATOR),
    "an agent's harness": ("iris harness", "agents/iris/broker/broker.sock", AGENT_ROUTES, Role.AGENT),
    "the manager's harness": ("hm1nd harness", "agents/hm1nd/broker/broker.sock", AGENT_ROUTES, Role.MANAGER),
}


@pytest.mark.parametrize("peer", PEERS)
def test_t3_what_is_not_its_own_is_refused(
    secure_hive: RunningHive, users: dict[str, User], peer: str
) -> None:
    who, path, routes, role = PEERS[peer]
    served = {route.request: route.callers for route in routes}
    mine = {kind for kind, callers in served.items() if role in callers}
    questions = {
        kind.operation(): Question(
            secure_hive.places.run / path, frames.encode_request(msgspec.convert(example(kind), kind))
        )
        for kind in requests()
        if kind not in mine
    }
    before = cages(secure_hive)
    names = sorted(questions)
    heard: dict[str, Heard] = {}
    for start in range(0, len(names), AT_ONCE):
        heard |= ask_all(users[who], {name: questions[name] for name in names[start : start + AT_ONCE]})
    for kind in requests():
        if kind not in mine:
            answer = heard[kind.operation()].answer
            assert answer.get("problem") == ("denied" if kind in served else "malformed"), (kind, answer)
    assert cages(secure_hive) == before


def test_t3_what_root_does_for_its_daemons_is_this_and_no_more() -> None:
    """A second place to change on purpose: what a taken-over brokerd can ask of root."""
    assert {route.request.operation() for route in PRIVD_ROUTES if Role.BROKER in route.callers} == {
        "hello", "list_cages", "watch_cages", "start_cage", "stop_cage", "restart_cage", "rebuild_cage",
        "read_journal", "watch_journal", "propose", "withdraw_proposal", "list_proposals", "watch_deployments",
        "confirm_health",
    }  # fmt: skip


def test_t3_an_agent_cannot_ask_root_in_anothers_words(
    secure_hive: RunningHive, users: dict[str, User]
) -> None:
    """Requests of the operator, with fields that claim a role, at an agent's own socket."""
    path = secure_hive.places.run / "agents" / "hm1nd" / "broker" / "broker.sock"
    said = {
        name: Question(path, json.dumps(words).encode() + b"\n")
        for name, words in {
            "snapshot": {"op": "take_snapshot", "role": "operator"},
            "messages": {"op": "list_messages", "agent": "iris"},
            "stop": {"op": "stop_cage", "agent": "iris"},
            "purge": {"op": "purge_agent", "agent": "iris", "confirm": "iris"},
            "operator": {"op": "hello", "caller": "operator"},
        }.items()
    }
    for name, heard in ask_all(users["hm1nd harness"], said).items():
        assert heard.answer["problem"] == "malformed", name
