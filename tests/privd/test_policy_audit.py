"""Lines of the audit log, and whatever can be done to them: each change, loss, addition or exchange is found."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privd.policy.audit import (
    FIRST,
    LINE_BYTES_MAX,
    About,
    AnyLine,
    Begin,
    End,
    Head,
    Note,
    decode,
    encode,
    head_line,
    head_of,
    read_head,
)
from privd.policy.audit_chain import Chain, removed_keys, unexplained, unexplained_keys
from protocol.approvals import Approver, SshKey

WORDS = st.text(max_size=40)


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    """A log, whole, without line ends."""
    head, found = FIRST, list[bytes]()
    begun: list[int] = []
    for _ in range(draw(st.integers(2, 12))):
        seq, at_ms = head.seq + 1, draw(st.integers(0, 2**40))
        line: AnyLine
        if bool(begun) and draw(st.booleans()):
            line = End(seq, head.hash, at_ms, begun.pop(), draw(st.sampled_from(["done", "busy"])), 3)
        elif draw(st.integers(0, 4)):
            begun.append(seq)
            line = Begin(seq, head.hash, at_ms, "operator", 7, "deny", draw(WORDS))
        else:
            line = Note(seq, head.hash, at_ms, About.STARTED, draw(WORDS))
        found.append(encode(line).removesuffix(b"\n"))
        head = head_of(line)
    return found


def read(written: list[bytes], mark: Head | None = None) -> Chain:
    chain = Chain({} if mark is None else {"the head": mark})
    for number, line in enumerate(written):
        chain.read(f"line {number}", line)
    chain.end()
    return chain


def newest(written: list[bytes]) -> Head:
    return head_of(decode(written[-1]))


@given(logs())
def test_a_log_as_it_was_written_is_whole(written: list[bytes]) -> None:
    assert read(written, newest(written)).faults == []
    assert newest(written).hash == sha256(written[-1] + b"\n").hexdigest()


@given(logs(), st.data())
def test_no_byte_can_be_changed(written: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(written) - 1))
    place = data.draw(st.integers(0, len(written[at]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte not in {written[at][place], 10}))
    changed = written[at][:place] + bytes([other]) + written[at][place + 1 :]
    assert read([*written[:at], changed, *written[at + 1 :]], newest(written)).faults


@given(logs(), st.data())
def test_no_line_can_be_taken_out_doubled_or_moved(written: list[bytes], data: st.DataObject) -> None:
    mark = newest(written)
    at = data.draw(st.integers(0, len(written) - 1))
    assert read([*written[:at], *written[at + 1 :]], mark).faults
    assert read([*written[:at], written[at], *written[at:]], mark).faults
    other = data.draw(st.integers(0, len(written) - 1).filter(lambda each: each != at))
    moved = written.copy()
    moved[at], moved[other] = moved[other], moved[at]
    assert read(moved, mark).faults


@given(logs(), st.data())
def test_a_log_that_was_cut_is_found_by_its_head(written: list[bytes], data: st.DataObject) -> None:
    left = data.draw(st.integers(0, len(written) - 1))
    assert read(written[:left], newest(written)).faults


@given(logs(), logs())
def test_another_log_is_not_this_one(written: list[bytes], other: list[bytes]) -> None:
    """Also where it is whole in itself, as one would be that was written anew."""
    if other[: len(written)] != written:
        assert read(other, newest(written)).faults


def test_the_longest_line_fits() -> None:
    detail = "\U0001f600" * 200
    line = End(10**15, "f" * 64, 10**13, 10**15, "storage_full", 10**9, 10**9, detail)
    assert len(encode(line)) <= LINE_BYTES_MAX
    assert decode(encode(line).removesuffix(b"\n")) == line


@pytest.mark.parametrize("written", [b"", b"x", b"1 " + b"0" * 64 + b"\n", b"\xff" * 82, b"0" * 16 + b" \n"])
def test_what_is_no_head(written: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_head(written)


def test_a_head_comes_back() -> None:
    assert read_head(head_line(Head(12, "ab" * 32))) == Head(12, "ab" * 32)


class Log:
    """A chain made by hand."""

    def __init__(self) -> None:
        self.chain = Chain({})
        self.head = FIRST

    def say(self, line: AnyLine) -> None:
        self.chain.read("here", encode(line).removesuffix(b"\n"))
        self.head = head_of(line)

    def did(
        self, op: str, agent: str = "", number: int | None = None, verdict: str = "done", detail: str = ""
    ) -> None:
        of = self.head.seq + 1
        self.say(Begin(of, self.head.hash, 100, "operator", 0, op, agent, number))
        if verdict:
            self.say(End(of + 1, self.head.hash, 101, of, verdict, 1, detail=detail))


def test_the_record_and_the_log_explain_each_other() -> None:
    log = Log()
    log.did("approve", "iris", 1)
    log.did("deploy_sealing", "iris", 1)
    log.did("approve", "iris", 2, verdict="")  # privd was killed after the tag was made
    log.did("deploy_sealing", "iris", 2, verdict="")
    log.did("take_up", "nova", 1)
    assert unexplained(log.chain, {("iris", 1): 150, ("iris", 2): 150, ("nova", 1): 150}, {}) == []
    made = {("iris", 1): 150, ("iris", 2): 150, ("nova", 1): 5, ("atlas", 1): 5}
    assert unexplained(log.chain, made, made) == []


def test_what_only_one_of_them_knows_is_told() -> None:
    log = Log()
    log.did("approve", "iris", 2, verdict="conflict")
    log.did("deploy_sealing", "iris", 1)
    told = unexplained(log.chain, {("iris", 3): 150}, {("iris", 2): 150, ("iris", 3): 150})
    assert told == [
        "approval 2 of iris is in the record, but not in the log",
        "approval 3 of iris is in the record, but not in the log",
        "generation 3 of iris is in the record, but not in the log",
        "line 3 made generation 1 of iris, which is not in the record",
    ]
    later = unexplained(log.chain, {}, {}, upto=3)
    assert later == [], "privd may have gone on since the record was read"
    assert unexplained(Chain({}), {("iris", 3): 150}, {}) == ["the log is empty, but iris has generation 3"]


def key(name: str, enrolled_ms: int, revoked_ms: int | None = None) -> Approver:
    return Approver(name, SshKey("ssh-ed25519 AAAA"), "SHA256:x", enrolled_ms, revoked_ms)


def test_keys_are_enrolled_and_revoked_by_requests() -> None:
    log = Log()
    log.did("enrol_approver", detail="anna")
    log.did("enrol_approver", detail="otto")
    log.did("enrol_approver", verdict="denied", detail="root alone enrols")
    assert unexplained_keys(log.chain, [key("anna", 101), key("older", 5)]) == []
    assert unexplained_keys(log.chain, [key("eve", 150), key("anna", 101, 150)]) == [
        "the key eve was enrolled, but the log does not say so",
        "the key anna was revoked, but the log does not say so",
    ]
    assert removed_keys(log.chain, [key("anna", 101)]) == [
        "the key otto was enrolled in line 3, and is not in the list any more"
    ]
    log.did("revoke_approver", verdict="")  # privd was killed before it said which
    assert unexplained_keys(log.chain, [key("anna", 101, 150)]) == []
