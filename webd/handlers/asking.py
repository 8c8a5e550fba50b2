"""What operators do about questions, parked threads, pauses, limits and dead deliveries."""

from typing import Annotated

from msgspec import Meta

from protocol.brokerd import (
    ChooseModel,
    CloseThread,
    Marked,
    PauseAgent,
    ReleaseThread,
    ResumeAccount,
    ResumeAgent,
    RetryDelivery,
    WakeParked,
)
from protocol.limits import OPTION_CHARS_MAX, OPTIONS_MAX
from protocol.questions import AnswerText, QuestionState
from protocol.rpc import Call
from protocol.settings import ModelName
from protocol.tools import Answer as AnswerQuestion
from webd.deeds import Done
from webd.handlers.actions import SHOWN_WITHIN_S, Keyed, did, heard
from webd.http.answers import Answer
from webd.policy.text import plain
from webd.visit import Host, Visit


class AnswerSaid(Keyed, frozen=True):
    answer: AnswerText = ""
    choices: Annotated[
        tuple[Annotated[str, Meta(max_length=OPTION_CHARS_MAX)], ...], Meta(max_length=OPTIONS_MAX)
    ] = ()


class ModelSaid(Keyed, frozen=True):
    model: ModelName | None = None


async def answer(visit: Visit, host: Host) -> Answer:
    """Answer a question in the operator's name."""
    number = int(visit.named["question"])
    said = visit.said(AnswerSaid)
    questions = host.picture.world.questions
    asked = questions.find(number)
    written = {plain(option): option for option in asked.options} if asked else {}
    choices = tuple(written.get(choice, choice) for choice in said.choices)

    async def deed() -> Done:
        await host.ask_brokerd(AnswerQuestion(question=number, answer=said.answer, choices=choices))
        await host.picture.until(has_ended, SHOWN_WITHIN_S)
        return Done()

    def has_ended() -> bool:
        row = questions.find(number)
        return row is not None and row.state is not QuestionState.OPEN

    return await did(visit, host, said.key, f"answer question {number}", deed)


async def release_thread(visit: Visit, host: Host) -> Answer:
    """Let a parked thread go on."""
    thread = int(visit.named["thread"])
    return await _marked(visit, host, f"release thread {thread}", ReleaseThread(thread=thread))


async def close_thread(visit: Visit, host: Host) -> Answer:
    """Give up what a parked thread holds."""
    thread = int(visit.named["thread"])
    return await _marked(visit, host, f"close thread {thread}", CloseThread(thread=thread))


async def pause(visit: Visit, host: Host) -> Answer:
    """Let no new turn of an agent begin."""
    agent = visit.named["agent"]
    return await _marked(visit, host, f"pause {agent}", PauseAgent(agent=agent))


async def resume(visit: Visit, host: Host) -> Answer:
    """Let a paused agent go on."""
    agent = visit.named["agent"]
    return await _marked(visit, host, f"resume {agent}", ResumeAgent(agent=agent))


async def choose_model(visit: Visit, host: Host) -> Answer:
    """Use a model for an agent's next turns, until its settings name another; none: what they say."""
    agent, said = visit.named["agent"], visit.said(ModelSaid)
    request = ChooseModel(agent=agent, model=said.model)

    async def deed() -> Done:
        marked = await host.ask_brokerd(request)
        await heard(host, marked.seq)
        return Done()

    return await did(visit, host, said.key, f"model of {agent}", deed)


async def resume_account(visit: Visit, host: Host) -> Answer:
    """Take a model account's limit for over: its agents go on, one after the other."""
    account = visit.named["account"]
    return await _marked(visit, host, f"resume account {account}", ResumeAccount(account=account))


async def wake(visit: Visit, host: Host) -> Answer:
    """Ask an agent that is held by a limit or a missing login to try again."""
    agent = visit.named["agent"]

    async def deed() -> Done:
        await host.ask_brokerd(WakeParked(agent=agent))
        return Done()

    return await did(visit, host, visit.said(Keyed).key, f"wake {agent}", deed)


async def retry_delivery(visit: Visit, host: Host) -> Answer:
    """Put a dead delivery back into its recipient's queue."""
    delivery = int(visit.named["delivery"])
    return await _marked(visit, host, f"retry delivery {delivery}", RetryDelivery(delivery=delivery))


async def _marked(visit: Visit, host: Host, what: str, request: Call[Marked]) -> Answer:
    async def deed() -> Done:
        marked = await host.ask_brokerd(request)
        await heard(host, marked.seq)
        return Done()

    return await did(visit, host, visit.said(Keyed).key, what, deed)
