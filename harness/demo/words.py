"""The words that the demo agent understands, and what it does with each. Pure."""

import re
from collections.abc import Callable
from typing import Final

from harness.demo.actions import Answered, Call, Mind, Note, Owe, Rest, Say, fault_of, quoted, reply
from harness.wake import Woken

COUNT_MAX: Final = 100
COUNT_PAUSE_S: Final = 0.25
STATUS_CHARS_MAX: Final = 200

HELP_TEXT: Final = (
    "I am {name}, a demo agent: no model is behind me. I understand:\n"
    "  tell <agent> <text>          I pass the text on, and the answer back to you\n"
    "  ask <agent> <text> [a | b]   I put a question to them, and tell you the answer\n"
    "  question <text> [a | b]      I ask you that, to choose one; with [a & b] to choose any; without, in words\n"
    "  remind in <n> <text>         I remind you in so many seconds; with “every”, every so often\n"
    "  reminders                    which reminders I have set\n"
    "  forget <n>                   I cancel the reminder with this number\n"
    "  open                         what is not settled between me and others\n"
    "  who                          who is in the hive\n"
    "  propose <agent> <commit> …   I ask for that commit of its config, if I am the manager; then why\n"
    "  status <text>                I show that beside my name\n"
    "  remember <text>              I write it into my notes\n"
    "  count to <n>                 I count, slowly, so that you can watch or cancel me\n"
    "  help                         this list"
)

Doing = Callable[[Woken, str, "re.Match[str]"], Mind]


def obey(woken: Woken, name: str) -> Mind:
    """Do what a message asks and answer it, once."""
    body = woken.body.strip()
    for pattern, do in WORDS:
        if found := pattern.fullmatch(body):
            yield from do(woken, name, found)
            return
    yield from answer(
        woken,
        f"Thank you, {woken.sender}. I am {name}, a demo agent without a model, so all I can do with "
        f"{quoted(woken.body)} is quote it. Write “help” to see what I understand.",
    )


def tell(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    """Pass a text on; the answer, when it comes, wakes us again."""
    to, text = found[1].lower(), found[2]
    answered = yield Call("send", {"to": to, "body": text})
    if answered is None or answered.fault:
        yield from answer(woken, f"I could not pass that on to {to}: {fault_of(answered)}")
        return
    yield Owe(f"message {answered.value['message']}", woken.sender, woken.message)
    yield Say(f"I passed it on to {to} and tell {woken.sender} when an answer comes.")


def ask(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    """Put a question to another; the answer, when it comes, wakes us again."""
    to = found[1].lower()
    answered = yield Call("ask", form(found[2], found[3] or "") | {"to": to})
    if answered is None or answered.fault:
        yield from answer(woken, f"I could not ask {to}: {fault_of(answered)}")
        return
    yield Owe(f"question {answered.value['question']}", woken.sender, woken.message)
    yield Say(f"I asked {to} and tell {woken.sender} the answer.")


def question(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    """Put a question to whoever wants to be asked."""
    answered = yield Call("ask", form(found[1], found[2] or "") | {"to": woken.sender})
    if answered is None or answered.fault:
        yield from answer(woken, f"I could not ask that: {fault_of(answered)}")
    else:
        yield Say(f"I asked {woken.sender}, who may answer when they like.")


def form(text: str, choices: str) -> dict[str, object]:
    multi = "&" in choices
    options = [option.strip() for option in choices.split("&" if multi else "|") if option.strip()]
    return {"question": text, "options": options, "multi": multi}


def remind(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    """Set a reminder for ourselves; when it is due, whoever wanted it is told."""
    how = "in_s" if found[1].lower() == "in" else "every_s"
    answered = yield Call("remind", {"text": found[3], how: int(found[2])})
    if answered is None or answered.fault:
        yield from answer(woken, f"I could not set that reminder: {fault_of(answered)}")
        return
    number = answered.value["reminder"]
    yield Owe(f"reminder {number}", woken.sender, woken.message)
    yield Say(f"Reminder {number} is set, next at {answered.value.get('next')}.")


def reminders(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    listed = yield Call("list_reminders", {})
    lines = [
        f"{each['reminder']}: {each['when']}, next at {each.get('next')}: {each['text']}"
        for each in (listed.value["reminders"] if listed and not listed.fault else ())
    ]
    yield from answer(woken, fault_of(listed) or "\n".join(lines) or "I have set no reminder.")


def forget(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    fault = fault_of((yield Call("cancel_reminder", {"reminder": int(found[1])})))
    yield from answer(woken, fault or f"Reminder {found[1]} is cancelled.")


def open_matters(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    matters = yield Call("open_threads", {})
    lines: list[str] = []
    if matters is not None and not matters.fault:
        lines += [
            f"thread {each['thread']} with {each['with']} waits for {each['waits_for']}: {each['text']}"
            for each in matters.value["threads"]
        ]
        lines += [
            f"question {each['question']} from {each['from']} to {each['to']}: {each['text']}"
            for each in matters.value["questions"]
        ]
    yield from answer(woken, fault_of(matters) or "\n".join(lines) or "Nothing is open.")


def status(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    text = " ".join(found[1].split())[:STATUS_CHARS_MAX]
    fault = fault_of((yield Call("set_status", {"text": text})))
    yield from answer(woken, fault or f"My status is now: {text}")


def remember(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    yield Note(found[1].strip())
    yield from answer(woken, "I wrote that into my notes.")


def count(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    number = int(found[1])
    last = min(number, COUNT_MAX)
    for each in range(1, last + 1):
        yield Say(str(each))
        yield Rest(COUNT_PAUSE_S)
    more = f" I stop at {COUNT_MAX}." if number > COUNT_MAX else ""
    yield from answer(woken, f"I counted to {last}.{more}")


def who(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    yield from answer(woken, cards((yield Call("list_agents", {}))))


def cards(answered: Answered | None) -> str:
    if answered is None or answered.fault:
        return f"I could not ask: {fault_of(answered)}"
    lines = [
        f"{card['name']} ({card['role']}): {card['state']}"
        + (f", {card['status']}" if card.get("status") else "")
        for card in answered.value
    ]
    return "In the hive are:\n" + "\n".join(lines) if lines else "Nobody else is in the hive."


def propose(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    """Ask the operator for a commit of an agent's config; what is decided wakes us later."""
    asked = {"agent": found[1].lower(), "commit": found[2].lower(), "description": (found[3] or "").strip()}
    answered = yield Call("request_apply_commit", asked)
    if answered is None or answered.fault:
        yield from answer(woken, f"I could not propose that: {fault_of(answered)}")
        return
    yield from answer(woken, f"I proposed that: {answered.value['agent']} {answered.value['number']}")


def show_help(woken: Woken, name: str, found: "re.Match[str]") -> Mind:
    yield from answer(woken, HELP_TEXT.format(name=name))


def answer(woken: Woken, text: str) -> Mind:
    yield from reply(woken.sender, woken.message, text)


def _words(pattern: str) -> "re.Pattern[str]":
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


NAME: Final = r"[a-z][a-z0-9]{0,8}"
FORM: Final = r"([^\[\]]+?)\s*(?:\[([^\[\]]+)\]\s*)?"
"""A question's text, and what to choose from in brackets."""
WORDS: Final[tuple[tuple["re.Pattern[str]", Doing], ...]] = (
    (_words(rf"tell\s+(\*|{NAME})\s*[,:]?\s+(.+)"), tell),
    (_words(rf"ask\s+({NAME})\s*[,:]?\s+{FORM}"), ask),
    (_words(rf"question\s+{FORM}"), question),
    (_words(r"remind(?:\s+me)?\s+(in|every)\s+(\d{1,9})\s*(?:s|seconds?)?\s*[,:]?\s+(.+)"), remind),
    (_words(r"reminders\W*"), reminders),
    (_words(r"forget\s+(?:reminder\s+)?(\d{1,15})\W*"), forget),
    (_words(r"open\W*"), open_matters),
    (_words(r"status\s+(.+)"), status),
    (_words(r"remember\s+(.+)"), remember),
    (_words(r"count\s+to\s+(\d{1,6})\W*"), count),
    (_words(r"who\W*"), who),
    (_words(rf"propose\s+({NAME})\s+([0-9a-f]{{40}})(?:\s+(.+))?"), propose),
    (_words(r"help\W*"), show_help),
)
