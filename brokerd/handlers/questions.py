"""Questions: asking them, answering them, and the operator's list of them."""

from collections.abc import Iterable

from brokerd.host import Host
from brokerd.policy import questions as policy
from brokerd.policy.bodies import bytes_of
from brokerd.policy.recipients import Verdict, addressed, may_write, not_allowed
from brokerd.store import keys, question_rows, questions
from brokerd.store.question_rows import Form
from brokerd.store.questions import Asking
from protocol.brokerd import ListQuestions, QuestionPage
from protocol.limits import PAGE_BYTES_MAX
from protocol.names import OPERATOR, SYSTEM
from protocol.problem import Refused
from protocol.questions import Broken, Question
from protocol.rpc import Caller
from protocol.tools import Answer, Ask


async def ask(request: Ask, caller: Caller, host: Host) -> Question:
    """Store a question; when this returns, it is on disk. A used key gets its question, whatever changed since."""
    asker = host.roster.sender(caller)
    asked, digest = keys.Asked(asker.name, bytes.fromhex(request.key)), keys.digest_of(request)
    first = await host.store.read(questions.find_asked, asked, digest)
    if first is not None:
        return first
    policy.check_question(request.question, request.options, multi=request.multi)
    policy.check_addressee(request.to)
    recipients = addressed(request.to, asker.name, host.roster.roles)
    if may_write(asker, request.to, recipients, host.roster.roles) is not Verdict.ALLOWED:
        raise not_allowed(asker.name, request.to)
    hops = host.hops.next(asker.name)
    asking = Asking(
        asked=asked,
        digest=digest,
        to=request.to,
        asked_of=recipients[0],
        form=Form(request.question, request.options, request.multi),
        ttl_s=request.ttl_s,
        hops=hops,
        held=hops > host.settings.guards.hops_max,
    )
    question = await _guarded(asking, host)
    host.deadlines.asked(question.deadline_ms)
    return question


async def _guarded(asking: Asking, host: Host) -> Question:
    """Store it unless its asker writes too much, or there is no room for it where it goes.

    The operator's questions stand in a list of their own; the asker's inbox must have room for the answer.
    """
    size = bytes_of(asking.body)
    host.room.admit(size)
    host.inboxes.release(host.inboxes.reserve((asking.asker,), 0, SYSTEM))
    to = () if asking.asked_of == OPERATOR else (asking.asked_of,)
    host.shares.check(asking.asker, to, size)
    spent = host.rates.send(asking.asker, (asking.asked_of,), size)
    try:
        reserved = host.inboxes.reserve(to, size, asking.asker)
        try:
            return await host.feed.write_new(questions.ask, asking)
        finally:
            host.inboxes.release(reserved)
    except Refused:
        host.rates.give_back(spent)
        raise


async def answer(request: Answer, caller: Caller, host: Host) -> Question:
    """Record the answer of the one who was asked; it is on its way to the asker when this returns."""
    by = host.roster.sender(caller).name
    hops = 0 if by == OPERATOR else host.hops.next(by)
    return await host.feed.write(questions.answer, by, request, hops)


async def list_questions(request: ListQuestions, caller: Caller, host: Host) -> QuestionPage:
    found = await host.store.read(
        question_rows.newest,
        request.before,
        request.limit,
        PAGE_BYTES_MAX,
        open_only=request.open,
        agent=request.agent,
    )
    tell_broken(found.broken, host)
    return QuestionPage(found.questions, found.broken, found.next)


def tell_broken(broken: Iterable[Broken], host: Host) -> None:
    """What cannot be shown as it should be is in the log with its fault."""
    for each in broken:
        host.log.error("a question cannot be read", question=each.id, fault=each.fault)
