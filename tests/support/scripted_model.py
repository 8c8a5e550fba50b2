"""What the scripted model says: a scenario turns a request into an answer. No server, no code shared with hyperhive.

A scenario sees the whole conversation, as a model does, and keeps nothing between requests; so one that needs to
remember shows that the CLI resumed its conversation.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
TOOL_PREFIX = "mcp__hyperhive__"
PARTS = 3
"""Pieces in which a text is streamed."""
CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Request:
    """One request to the API."""

    scenario: str
    parameters: dict[str, str]
    path: str
    headers: dict[str, str]
    body: Json

    @property
    def is_turn(self) -> bool:
        """Whether it asks the model for something on behalf of the agent."""
        return self.path.endswith("/v1/messages") and bool(self.body.get("tools"))


@dataclass(frozen=True)
class Wake:
    """One wake prompt in a conversation, as a model would read it."""

    message: int
    sender: str
    in_reply_to: int | None
    body: str


@dataclass(frozen=True)
class Answer:
    """What the model says: text, or tool calls."""

    blocks: list[Json]
    stop_reason: str


@dataclass(frozen=True)
class Conversation:
    """The messages of a request, oldest first."""

    messages: list[Json] = field(default_factory=list)

    def texts(self) -> Iterator[str]:
        """Everything the user's side said, one prompt at a time, without the CLI's own reminders."""
        for message in self.messages:
            if message["role"] == "user":
                for block in blocks(message):
                    if block.get("type") == "text" and not block["text"].startswith("<system-reminder>"):
                        yield block["text"]

    def wakes(self) -> list[Wake]:
        return [wake for text in self.texts() if (wake := read_wake(text)) is not None]

    def results(self) -> list[Json]:
        """The tool results that ended the last round."""
        return [block for block in blocks(self.messages[-1]) if block.get("type") == "tool_result"]

    def rounds(self) -> int:
        """Rounds of tool calls since the last prompt."""
        count = 0
        for message in reversed(self.messages):
            kinds = {block.get("type") for block in blocks(message)}
            if message["role"] == "user" and "tool_result" not in kinds:
                break
            count += message["role"] == "assistant" and "tool_use" in kinds
        return count


def blocks(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def read_wake(text: str) -> Wake | None:
    """Read hyperhive's wake prompt with nothing but its shape: this side must not share code with what it tests."""
    first = re.match(r"hyperhive wake-up ([0-9a-f]+)\n(.*?)\n\n", text, re.DOTALL)
    if first is None:
        return None
    facts = dict(line.split(": ", 1) for line in first[2].splitlines())
    body = re.search(rf"----- message {first[1]} -----\n(.*?)\n----- end {first[1]} -----", text, re.DOTALL)
    replied = facts.get("in reply to")
    return Wake(
        int(facts["message"]), facts["from"], int(replied) if replied else None, body[1] if body else ""
    )


def say(text: str) -> Answer:
    return Answer([{"type": "text", "text": text}], "end_turn")


def call(*calls: tuple[str, Json]) -> Answer:
    uses = [
        {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:20]}", "name": name, "input": given}
        for name, given in calls
    ]
    return Answer(uses, "tool_use")


def send(to: str, body: str, in_reply_to: int | None = None) -> Answer:
    given: Json = {"to": to, "body": body}
    if in_reply_to is not None:
        given["in_reply_to"] = in_reply_to
    return call((f"{TOOL_PREFIX}send", given))


# ------------------------------------------------------------------------------------------------------- scenarios


def echo(request: Request, conversation: Conversation) -> Answer:
    """Say the last prompt back."""
    return say("You said: " + list(conversation.texts())[-1][:200])


def colleague(request: Request, conversation: Conversation) -> Answer:
    """Behave in the hive: pass "tell X Y" on, answer what is asked, bring an answer back to whoever asked for it."""
    if conversation.rounds():
        return say("Done: " + json.dumps([result.get("content") for result in conversation.results()])[:300])
    *before, wake = conversation.wakes()
    order = re.fullmatch(r"tell ([a-z0-9]+) (.*)", wake.body, re.DOTALL)
    if order is not None:
        return send(order[1], order[2])
    if wake.in_reply_to is None:
        return send(wake.sender, f"I heard: {wake.body}", wake.message)
    asker = next((each for each in reversed(before) if each.body.startswith(f"tell {wake.sender} ")), None)
    if asker is None:
        return say("That answers nothing that I asked.")
    return send(asker.sender, f"{wake.sender} says: {wake.body}", asker.message)


def tool(request: Request, conversation: Conversation) -> Answer:
    """Call one tool, `name`, with the JSON in `arg`, then say what it gave."""
    if conversation.rounds():
        return say(
            "The tool gave: " + json.dumps([result.get("content") for result in conversation.results()])
        )
    return call((request.parameters["name"], json.loads(request.parameters.get("arg", "{}"))))


def loop(request: Request, conversation: Conversation) -> Answer:
    """Call a tool for ever."""
    return call((f"{TOOL_PREFIX}whoami", {}))


def think(request: Request, conversation: Conversation) -> Answer:
    thought = {"type": "thinking", "thinking": "Let me think about it.", "signature": "c2ln"}
    return Answer([thought, {"type": "text", "text": "Thought."}], "end_turn")


def count(request: Request, conversation: Conversation) -> Answer:
    """Say how many wake prompts this conversation has had, to show what is resumed."""
    return say(f"wakes={len(conversation.wakes())}")


def script(request: Request, conversation: Conversation) -> Answer:
    """Do what the last message says, where that is a JSON list of tool calls: one in each round.

    COMMIT in an argument is the newest commit that a call of this turn has said. Other messages are just said back.
    """
    wakes = conversation.wakes()
    body = wakes[-1].body if wakes else ""
    if not body.startswith("[["):
        return echo(request, conversation)
    calls, done = json.loads(body), conversation.rounds()
    if done >= len(calls):
        return say("Done.")
    name, given = calls[done]
    said = [part for message in conversation.messages for part in blocks(message)]
    commits = re.findall(r"\b[0-9a-f]{40}\b", json.dumps([part.get("content") for part in said]))
    return call((name, json.loads(json.dumps(given).replace("COMMIT", commits[-1] if commits else "COMMIT"))))


Scenario = Callable[[Request, Conversation], Answer]
SCENARIOS: dict[str, Scenario] = {
    "echo": echo,
    "colleague": colleague,
    "tool": tool,
    "loop": loop,
    "think": think,
    "count": count,
    "script": script,
    "fail": echo,  # after its failures it is an echo
    "drop": echo,
}


def events(message: Json) -> Iterator[Json]:
    """The events of a streamed message, in the API's order."""
    usage = message["usage"]
    head = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield {"type": "message_start", "message": head}
    for index, block in enumerate(message["content"]):
        empty, deltas = pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def pieces(block: Json) -> tuple[Json, list[Json]]:
    """A block as it starts, and what is added to it."""
    match block["type"]:
        case "text":
            text = block["text"]
            step = max(1, -(-len(text) // PARTS))
            cuts = [text[at : at + step] for at in range(0, len(text), step)]
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": cut} for cut in cuts]
        case "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return start, [{"type": "thinking_delta", "thinking": block["thinking"]}, signature]
        case _:
            given = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            return block | {"input": {}}, [given]


def size(value: object) -> int:
    """A number of tokens that grows with the text."""
    return max(1, len(json.dumps(value)) // CHARS_PER_TOKEN)
