"""The demo CLI's side of MCP: the server that its configuration names, started as a child, spoken to in JSON-RPC."""

import json
import subprocess  # noqa: TID251  # a CLI of its own, outside the harness process: no trio here
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from harness.demo.actions import Answered

PROTOCOL_VERSION: Final = "2025-06-18"
END_S: Final = 5.0


class ToolsLost(Exception):
    """The server cannot be started, went away, or speaks something else than MCP."""


class Tools:
    """The hive's tools. One request at a time."""

    def __init__(self, mcp_config: Path, server: str) -> None:
        config = json.loads(mcp_config.read_text("utf-8"))["mcpServers"][server]
        self._process = subprocess.Popen(
            [config["command"], *config["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._next_id = 0
        self.names: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        client = {"name": "hyperhive-demo", "version": "1"}
        self._ask(
            "initialize", {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": client}
        )
        self._tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.names = tuple(tool["name"] for tool in self._ask("tools/list", {})["tools"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=END_S)

    def call(self, tool: str, arguments: dict[str, Any]) -> Answered:
        """Call a tool; a refusal is an answer with a fault."""
        result = self._ask("tools/call", {"name": tool, "arguments": arguments})
        text = "".join(part.get("text", "") for part in result["content"])
        return Answered(None, fault=text) if result.get("isError") else Answered(json.loads(text))

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._next_id += 1
        self._tell({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        while True:
            message = self._read()
            if message.get("id") == self._next_id:
                if "error" in message:
                    raise ToolsLost(f"{method}: {message['error']['message']}")
                return message["result"]

    def _tell(self, message: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise ToolsLost("the server has no standard input")
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ToolsLost("the server does not listen any more") from None

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            raise ToolsLost("the server has gone")
        message: dict[str, Any] = json.loads(line)
        return message
