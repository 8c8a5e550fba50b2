"""`hivectl receipt N`: what became of a message, for each of its recipients."""

import argparse

from hivectl import tables
from protocol.brokerd import ListMessages
from protocol.messages import Message
from protocol.problem import Problem, Refused
from runtime.client import Client


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    child = commands.add_parser("receipt", help="what became of a message, for each of its recipients")
    child.add_argument("message", type=int, help="its number")
    child.set_defaults(run=run)


async def run(values: argparse.Namespace) -> int:
    async with Client(values.places.socket("brokerd")) as client:
        message = await _read(client, values.message)
    print(tables.document(message) if values.json else receipt(message))
    return 0


async def _read(client: Client, number: int) -> Message:
    """The message of that number; `not_found` when there is none (any more)."""
    if number >= 1:
        page = await client.call(ListMessages(before=number + 1, limit=1), patience_s=5)
        for message in page.messages:
            if message.id == number:
                return message
    raise Refused(Problem.NOT_FOUND, f"there is no message {number}")


def receipt(message: Message) -> str:
    """The message's line, and one for each delivery."""
    rows = (
        (
            each.recipient,
            tables.worded(each.state),
            "" if each.turn is None else str(each.turn),
            str(each.attempts),
            tables.clock(each.changed_ms),
        )
        for each in message.deliveries
    )
    heads = ("RECIPIENT", "STATE", "TURN", "ATTEMPTS", "SINCE")
    return f"{tables.message_line(message)}\n{tables.table(heads, rows)}"
