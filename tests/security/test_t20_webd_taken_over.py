"""T20: webd fully taken over. It has webd's uid and every socket that webd may open, and an operator who signs things.

Keys are enrolled, so nothing that webd says deploys anything that no enrolled key has signed, exactly so, over exactly
what is deployed now. Turning cages on and off, denying, and going back to what was approved before are webd's to say.
"""

import json
import socket
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from protocol import frames
from protocol.approvals import (
    AnyProof,
    AtTerminal,
    Click,
    PasskeyAssertion,
    Proposal,
    ProposalKind,
    ProposalPage,
    SshSignature,
)
from protocol.configuration import (
    Approve,
    EnrolApprover,
    ListApprovers,
    ListRefs,
    Propose,
    RevokeApprover,
    RollBack,
    ShowProposal,
)
from protocol.privd import ListCages
from protocol.rpc import Request
from tests.security.peers import PATIENCE_S, Question, User, ask_all, run_as
from tests.security.population import users
from tests.support.approvers import PRESENT, Authenticator, SshSigner
from tests.support.configuring import commit_in, config_of
from tests.support.hive import RunningHive, hive

pytestmark = [pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

AT_ONCE: Final = 8
TRIES: Final = 12
"""Flipped bits that are tried at the real socket; tests/privd/test_policy_proofs.py tries many more."""
OPEN_FOR_WRITING: Final = """
import os, sys
for path in sys.argv[1:]:
    for flags in (os.O_WRONLY, os.O_WRONLY | os.O_CREAT):
        try:
            os.open(path, flags)
        except OSError:
            continue
        print(path)
"""


class Operator:
    """The person whose keys are enrolled, and who signs what webd asks for."""

    def __init__(self, folder: Path, origin: str) -> None:
        self.ssh = SshSigner(folder, "operator")
        self.passkey = Authenticator(b"the operator's")
        self.origin = origin

    def signs(self, document: str, **lies: Any) -> PasskeyAssertion:
        return self.passkey.sign(document, **{"origin": self.origin, **lies})


class TakenOver:
    """What a process of webd's user can say to root."""

    def __init__(self, running: RunningHive, operator: Operator) -> None:
        self.running = running
        self.operator = operator
        self.user: User = users(running)["web"]

    def say(self, *requests: Request) -> list[Any]:
        """What root answers to each, asked a few at a time."""
        answers: list[Any] = []
        privd = self.running.socket("privd")
        for start in range(0, len(requests), AT_ONCE):
            asked = {
                str(at): Question(privd, frames.encode_request(request))
                for at, request in enumerate(requests[start : start + AT_ONCE])
            }
            heard = ask_all(self.user, asked)
            answers += [heard[name].answer for name in asked]
        return answers

    def proposed(self, host: str) -> Proposal:
        """A change of iris's configuration that lets it connect to a host."""
        repository = config_of(self.running.places.state, "iris")
        commit = commit_in(repository, f'[egress]\nhosts = ["{host}"]\n')
        (answer,) = self.say(Propose("iris", ProposalKind.CONFIG, commit))
        return msgspec.convert(answer["ok"], Proposal)

    def shown(self, proposal: Proposal) -> ProposalPage:
        (answer,) = self.say(ShowProposal(proposal.agent, proposal.number))
        return msgspec.convert(answer["ok"], ProposalPage)

    def refused(self, proposal: Proposal, digest: str, *proofs: AnyProof) -> list[str]:
        """The problems that approvals end in; none of them changes anything."""
        before = self.world()
        answers = self.say(*(Approve(proposal.agent, proposal.number, digest, proof) for proof in proofs))
        assert [each for each in answers if "ok" in each] == []
        assert self.world() == before
        return [each["problem"] for each in answers]

    def world(self) -> tuple[Any, ...]:
        """What is live, what it was allowed, and whose keys decide."""
        lives = [(each["agent"], each["generation"], each["settings"]) for each in self.root(ListCages())]
        names = [each["name"] for each in self.root(ListRefs("iris"))]
        tags = [name for name in names if not name.startswith("proposal/")]
        return lives, tags, self.root(ListApprovers())

    def root(self, request: Request) -> Any:
        """What privd tells root, who is us."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE_S)
            asking.connect(str(self.running.socket("privd")))
            asking.sendall(frames.encode_request(request))
            with asking.makefile("rb") as heard:
                return json.loads(heard.readline())["ok"]


@pytest.fixture(scope="module")
def webd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TakenOver]:
    with hive("--runner", "demo", "--agents", "iris") as running:
        rendered = tomllib.loads((running.places.rendered / "privd.toml").read_text())
        operator = Operator(tmp_path_factory.mktemp("keys"), rendered["passkey_origins"][0])
        public = str(operator.ssh.path.with_suffix(".pub"))
        running.hivectl("enrol", "operator.ssh", "--ssh", public)
        running.hivectl("enrol", "operator.phone", "--passkey", enrolment(operator))
        yield TakenOver(running, operator)


def enrolment(operator: Operator) -> str:
    """What the page `/enrol` shows."""
    key = operator.passkey.key
    document = {
        "v": 1,
        "origin": operator.origin,
        "credential": msgspec.to_builtins(key.credential),
        "public_key": msgspec.to_builtins(key.public_key),
    }
    return msgspec.to_builtins(json.dumps(document).encode()).translate({43: "-", 47: "_", 61: None})  # type: ignore[no-any-return] # base64


def test_t20_no_proof_that_webd_can_make_counts(webd: TakenOver, tmp_path: Path) -> None:
    evil = webd.proposed("evil.example")
    page = webd.shown(evil)
    assert [each.name for each in page.approvers] == ["operator.phone", "operator.ssh"]
    own_key, own_passkey = SshSigner(tmp_path, "own"), Authenticator(webd.operator.passkey.credential)
    proofs: Sequence[AnyProof] = (
        Click(),
        AtTerminal(),
        own_key.sign(page.document),
        own_passkey.sign(page.document, webd.operator.origin),
        SshSignature(""),
        PasskeyAssertion(webd.operator.passkey.credential, b"", b"", b""),
    )
    assert set(webd.refused(evil, page.digest, *proofs)) == {"denied"}


def test_t20_what_the_operator_signs_is_good_for_that_alone(webd: TakenOver) -> None:
    """Swapped, over another base, shown before, or used twice: refused. Passed on as it is: deployed."""
    good, evil = webd.proposed("good.example"), webd.proposed("worse.example")
    page, other, earlier = webd.shown(good), webd.shown(evil), webd.shown(good)
    signed = webd.operator.signs(page.document)
    by_ssh = webd.operator.ssh.sign(page.document)
    assert set(webd.refused(evil, other.digest, signed, by_ssh)) == {"denied"}
    assert set(webd.refused(evil, page.digest, signed, by_ssh)) == {"conflict"}
    assert set(webd.refused(good, other.digest, signed, by_ssh)) == {"conflict"}
    assert set(webd.refused(good, earlier.digest, signed, by_ssh)) == {"denied"}
    over_this_base = webd.operator.signs(other.document)

    (answer,) = webd.say(Approve("iris", good.number, page.digest, signed))
    assert answer["ok"]["deployment"]["number"] == good.number
    followed = webd.running.hivectl_raw("log", "iris", str(good.number), "-f")
    assert "the harness is well" in followed.stdout, followed
    [iris] = [each for each in webd.root(ListCages()) if each["agent"] == "iris"]
    assert iris["settings"]["egress_hosts"] == ["good.example"]

    assert set(webd.refused(good, page.digest, signed, by_ssh)) == {"conflict"}
    assert webd.refused(evil, other.digest, over_this_base) == ["conflict"], "the base has moved"
    again = webd.shown(evil)
    assert set(webd.refused(evil, again.digest, signed, over_this_base)) == {"denied"}


def test_t20_a_ceremony_that_was_not_this_one_proves_nothing(webd: TakenOver) -> None:
    evil = webd.proposed("elsewhere.example")
    page = webd.shown(evil)
    port = webd.operator.origin.rpartition(":")[2]
    lies: Sequence[dict[str, Any]] = (
        {"origin": "http://localhost:1"},
        {"origin": f"http://127.0.0.1:{port}"},
        {"origin": f"http://evil.localhost:{port}"},
        {"origin": "https://evil.example", "rp": "evil.example"},
        {"rp": "evil.example"},
        {"flags": PRESENT},
        {"flags": 0},
        {"type": "webauthn.create"},
        {"crossOrigin": True},
        {"topOrigin": "https://evil.example"},
    )
    proofs = [webd.operator.signs(page.document, **each) for each in lies]
    for_git = webd.operator.ssh.sign(page.document, "git")
    assert set(webd.refused(evil, page.digest, *proofs, for_git)) == {"denied"}


def test_t20_no_bit_of_a_proof_can_be_changed(webd: TakenOver) -> None:
    """Bits of every part, evenly spread."""
    evil = webd.proposed("bits.example")
    page = webd.shown(evil)
    good, text = webd.operator.signs(page.document), webd.operator.ssh.sign(page.document).armored.encode()
    proofs: list[AnyProof] = [
        msgspec.structs.replace(good, **{name: changed})
        for name in ("credential", "client_data", "authenticator_data", "signature")
        for changed in flipped(getattr(good, name))
    ]
    proofs += [SshSignature(each.decode()) for each in flipped(text) if each.isascii()]
    assert len(proofs) > 4 * TRIES
    assert set(webd.refused(evil, page.digest, *proofs)) == {"denied"}


def flipped(content: bytes) -> Iterator[bytes]:
    """The same but for one bit, TRIES times."""
    for at in range(TRIES):
        bit = at * (len(content) * 8 - 1) // (TRIES - 1)
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_t20_whose_keys_decide_is_not_webds_to_say(webd: TakenOver, tmp_path: Path) -> None:
    before = webd.world()
    own = SshSigner(tmp_path, "own")
    answers = webd.say(
        EnrolApprover("webd", own.key),
        EnrolApprover("webd", Authenticator().key),
        RevokeApprover("operator.ssh"),
        RevokeApprover("operator.phone"),
    )
    assert [each.get("problem") for each in answers] == ["denied"] * 4
    assert webd.world() == before


def test_t20_nothing_else_makes_an_agent_or_goes_where_nobody_was(webd: TakenOver) -> None:
    evil = webd.proposed("around.example")
    before = webd.world()
    (answer,) = webd.say(RollBack("iris", evil.number))
    assert answer["problem"] == "not_found", "only what was approved can come back"
    (row,) = webd.say(Propose("mole", ProposalKind.SPAWN))
    page = webd.shown(msgspec.convert(row["ok"], Proposal))
    for proof in (Click(), AtTerminal(), webd.operator.signs(webd.shown(evil).document)):
        (answer,) = webd.say(Approve("mole", page.proposal.number, page.digest, proof))
        assert answer["problem"] == "denied"
    heard = ask_all(
        webd.user,
        {
            "swarm": Question(webd.running.places.run / "privd" / "swarm.sock"),
            "egress": Question(webd.running.places.run / "privd" / "egress.sock"),
        },
    )
    assert all(heard[name].errno is not None or heard[name].is_silence for name in ("swarm", "egress"))
    assert webd.world() == before


def test_t20_webd_writes_none_of_roots_files(webd: TakenOver) -> None:
    state = webd.running.places.state
    files = [
        state / "approvers.json",
        state / "approvers.json.new",
        state / "audit.log",
        state / "applied" / "iris.git" / "refs" / "heads" / "main",
        state / "applied" / "iris.git" / "step.json",
        state / "cages" / "iris" / "cage.json",
        state / "proposed" / "agents" / "iris" / "config" / "agent.toml",
        webd.running.places.rendered / "privd.toml",
    ]
    assert run_as(webd.user, OPEN_FOR_WRITING, *map(str, files)) == ""
    assert not (state / "approvers.json.new").exists()


def test_t20_the_operators_own_way_past_webd(webd: TakenOver) -> None:
    """At the command line, by a key; and once root has revoked that key, not by it any more."""
    running, key = webd.running, str(webd.operator.ssh.path)
    proposal = webd.proposed("mine.example")
    number = str(proposal.number)
    approved = running.hivectl("approve", "iris", number, "--yes", "--sign", key)
    assert (approved["proposal"]["state"], approved["deployment"]["number"]) == ("approved", proposal.number)
    followed = running.hivectl_raw("log", "iris", number, "-f")
    assert "the harness is well" in followed.stdout, followed
    [row] = [
        each for each in running.hivectl("proposals", "iris", "--ended") if each["number"] == int(number)
    ]
    assert (row["state"], row["proof"]) == ("deployed", "ssh operator.ssh")

    other = str(webd.proposed("later.example").number)
    assert "revoked" in running.hivectl_raw("revoke", "operator.ssh", "--yes").stdout
    refused = running.hivectl_raw("approve", "iris", other, "--yes", "--sign", key)
    assert (refused.returncode, "operator.ssh was revoked" in refused.stderr) == (1, True), refused
    assert [each["name"] for each in running.hivectl("approvers") if each["revoked_ms"]] == ["operator.ssh"]
