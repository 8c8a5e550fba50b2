"""Questions: asking them, answering them, and the operator's list of them."""

from collections.abc import Iterable

from brokerd.host import Host
from brokerd.policy import questions as policy
from brokerd.policy.recipients import Verdict, addressed, may_write, not_allowed
from brokerd.store import keys, questions
from brokerd.store.questions import Asking, Form
from protocol.brokerd import ListQuestions, QuestionPage
from protocol.limits import PAGE_BYTES_MAX
from protocol.names import OPERATOR
from protocol.problem import Refused
from protocol.questions import Broken, Question
from protocol.rpc import Caller
from protocol.tools import Answer, Ask


async def ask(request: Ask, caller: Caller, host: Host) -> Question:
    """Store a question; when this returns, it is on disk. A used key gets its question, whatever changed since."""
    asker = host.roster.sender(caller)
    asked, digest = keys.Asked(asker.name, bytes.fromhex(request.key)), keys.digest_of(request)
    try:
        policy.check_question(request.question, request.options, multi=request.multi)
        policy.check_addressee(request.to)
        recipients = addressed(request.to, asker.name, host.roster.roles)
        if may_write(asker, request.to, recipients, host.roster.roles) is not Verdict.ALLOWED:
            raise not_allowed(asker.name, request.to)
        form = Form(request.question, request.options, request.multi)
        asking = Asking(asked, digest, request.to, recipients[0], form, request.ttl_s)
        return await _stored(asking, host)
    except Refused:
        first = await host.store.read(questions.find_asked, asked, digest)
        if first is None:
            raise
        return first


async def _stored(asking: Asking, host: Host) -> Question:
    """An agent's inbox must have room for the question; the operator's questions stand in a list of their own."""
    reserved = host.inboxes.reserve(() if asking.asked_of == OPERATOR else (asking.asked_of,))
    try:
        return await host.feed.write_new(questions.ask, asking)
    finally:
        host.inboxes.release(reserved)


async def answer(request: Answer, caller: Caller, host: Host) -> Question:
    """Record the answer of the one who was asked; it is on its way to the asker when this returns."""
    return await host.feed.write(questions.answer, host.roster.sender(caller).name, request)


async def list_questions(request: ListQuestions, caller: Caller, host: Host) -> QuestionPage:
    found = await host.store.read(
        questions.newest,
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
