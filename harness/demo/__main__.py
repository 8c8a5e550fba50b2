"""The demo agent CLI.

    python -I -m harness.demo --name iris --state FOLDER --mcp-config FILE  < wake-prompt

Prints one JSON object a line, the kinds that harness.claude.lines reads: `system/init`, `assistant` with a text or a
tool call, `user` with a tool's result, and `result`. SIGINT ends it with a result; the exit code is 0 then too.
"""

import argparse
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final

from harness.demo.actions import Action, Answered, Call, Debt, Mind, Note, Owe, Rest, Say, Settle
from harness.demo.client import Tools, ToolsLost
from harness.demo.memory import Memory
from harness.demo.mind import respond
from harness.wake import NotAWakePrompt, parse
from protocol.settings import OWN_SERVER

MODEL: Final = "demo"
FAILED: Final = 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="harness.demo", description="The demo agent: no model is behind it."
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--mcp-config", required=True, type=Path)
    given = parser.parse_args()
    try:
        return turn(given.name, given.state, given.mcp_config, sys.stdin.buffer.read().decode())
    except KeyboardInterrupt:
        finish("error_during_execution", is_error=True, reason="aborted_tools", errors=["interrupted"])
        return 0


def turn(name: str, state: Path, mcp_config: Path, prompt: str) -> int:
    """One turn; the exit code."""
    try:
        woken = parse(prompt)
        memory = Memory(state)
        memory.introduce(name)
        with Tools(mcp_config, OWN_SERVER) as tools:
            servers = [{"name": OWN_SERVER, "status": "connected"}]
            show("system", subtype="init", session_id=str(uuid.uuid4()), model=MODEL, mcp_servers=servers)
            act(respond(woken, name, memory.debts), tools, memory)
    except (NotAWakePrompt, ToolsLost) as fault:
        finish("error_during_execution", is_error=True, reason="demo_fault", errors=[str(fault)])
        return FAILED
    finish("success", is_error=False, reason="completed", errors=[])
    return 0


def act(mind: Mind, tools: Tools, memory: Memory) -> None:
    """Do what the mind wants, one action after the other."""
    answered: Answered | None = None
    while True:
        try:
            action = mind.send(answered)
        except StopIteration:
            return
        answered = do(action, tools, memory)


def do(action: Action, tools: Tools, memory: Memory) -> Answered | None:
    match action:
        case Say(text):
            show("assistant", message={"content": [{"type": "text", "text": text}]})
        case Call(tool, arguments):
            return call(tools, tool, arguments)
        case Rest(seconds):
            time.sleep(seconds)
        case Note(text):
            memory.note(text)
        case Owe(what, asker, message):
            memory.owe(what, Debt(asker, message))
        case Settle(what):
            memory.settle(what)
    return None


def call(tools: Tools, tool: str, arguments: dict[str, Any]) -> Answered:
    use = {
        "type": "tool_use",
        "id": f"call_{uuid.uuid4().hex}",
        "name": f"mcp__{OWN_SERVER}__{tool}",
        "input": arguments,
    }
    show("assistant", message={"content": [use]})
    answered = tools.call(tool, arguments)
    text = answered.fault or json.dumps(answered.value)
    result = {
        "type": "tool_result",
        "tool_use_id": use["id"],
        "content": text,
        "is_error": bool(answered.fault),
    }
    show("user", message={"content": [result]})
    return answered


def finish(subtype: str, *, is_error: bool, reason: str, errors: list[str]) -> None:
    show("result", subtype=subtype, is_error=is_error, terminal_reason=reason, errors=errors, usage={})


def show(kind: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind} | fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
