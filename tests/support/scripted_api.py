"""A scripted Messages API for the real agent CLI: no model, no network, the same answer every time.

    with ScriptedApi() as api:                        http on loopback
    with ScriptedApi(certificate=…, key=…) as api:    https, with a certificate that the CLI is told to trust
        base_url = api.url("colleague")               the scenario is the first element of the path
        api.url("fail", status=429, times=2)          its parameters follow after commas

One server serves every test, because the scenario travels with the request. `api.requests` keeps what was asked.
Also a program: `python -m tests.support.scripted_api --port 8080 [--certificate C --key K]`.
"""

import argparse
import json
import ssl
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit

from tests.support.scripted_model import SCENARIOS, Conversation, Json, Request, echo, events, size

MODEL = "claude-sonnet-4-5"

ERROR_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
MESSAGES = {
    "long": "prompt is too long: 213462 tokens > 200000 maximum",
    "key": "invalid x-api-key",
    "busy": "Overloaded",
    "credit": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
    "usage": "Claude AI usage limit reached|{reset}",
}


class ScriptedApi:
    """The server. `requests` and `turns` are filled as the CLI asks."""

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.gone = 0
        """Answers that the CLI did not wait for."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((address, port), _Handler)
        self._server.daemon_threads = True
        self._server.api = self  # type: ignore[attr-defined]  # how the handler finds us
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, scenario: str, *, host: str = "127.0.0.1", **parameters: object) -> str:
        """The base URL of a scenario."""
        if scenario not in SCENARIOS:
            raise ValueError(f"no scenario {scenario!r}; there are {', '.join(SCENARIOS)}")
        given = "".join(f",{name}={quote(str(value), safe='')}" for name, value in parameters.items())
        return f"{self._scheme}://{host}:{self.port}/{scenario}{given}"

    @property
    def turns(self) -> list[Request]:
        return [request for request in self.requests if request.is_turn]

    def noted(self, request: Request) -> int:
        """Keep a request; how many turns its scenario has asked for, this one included."""
        with self._lock:
            self.requests.append(request)
            name = request.scenario + json.dumps(request.parameters, sort_keys=True)
            self._counts[name] += request.path.endswith("/v1/messages")
            return self._counts[name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's word
        """Silence: `requests` is the log."""

    @property
    def api(self) -> ScriptedApi:
        api: ScriptedApi = self.server.api  # type: ignore[attr-defined]  # set by ScriptedApi
        return api

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_GET(self) -> None:
        if self.path.split("?")[0].endswith("/v1/models"):
            model = {
                "type": "model",
                "id": MODEL,
                "display_name": "Scripted",
                "created_at": "2025-01-01T00:00:00Z",
            }
            self._json(200, {"data": [model], "has_more": False})
        else:
            self._error(404, "there is nothing here")

    def do_POST(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer(self._read())

    def _read(self) -> Request:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        first, _, rest = urlsplit(self.path).path.lstrip("/").partition("/")
        name, _, parameters = first.partition(",")
        given = dict(parse_qsl(parameters.replace(",", "&"))) if parameters else {}
        return Request(
            name, given, "/" + rest, {k.lower(): v for k, v in self.headers.items()}, json.loads(raw or b"{}")
        )

    def _answer(self, request: Request) -> None:
        asked = self.api.noted(request)
        if request.path.endswith("/count_tokens"):
            self._json(200, {"input_tokens": size(request.body)})
        elif not request.path.endswith("/v1/messages") or request.scenario not in SCENARIOS:
            self._error(404, f"no scenario at {self.path}")
        elif request.scenario == "drop" and asked <= int(request.parameters.get("times", sys.maxsize)):
            self.close_connection = True
        elif request.scenario == "fail" and asked <= int(request.parameters.get("times", sys.maxsize)):
            self._fail(request)
        else:
            self._model(request)

    def _model(self, request: Request) -> None:
        conversation = Conversation(request.body.get("messages") or [])
        # Small side questions of the CLI (a title, a check) come without tools and are no turn of the scenario.
        script = SCENARIOS[request.scenario] if request.is_turn else echo
        answer = script(request, conversation)
        usage = {
            "input_tokens": size(request.body),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": size(answer.blocks),
        }
        message = {
            "id": f"msg_{uuid.uuid4().hex[:20]}",
            "type": "message",
            "role": "assistant",
            "model": request.body.get("model"),
            "content": answer.blocks,
            "stop_reason": answer.stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }
        if request.body.get("stream"):
            self._stream(message, float(request.parameters.get("delay", 0)))
        else:
            self._json(200, message)

    def _fail(self, request: Request) -> None:
        given = request.parameters
        reset = str(int(time.time()) + int(given.get("reset", 3600)))
        headers = {}
        if "retry_after" in given:
            headers["retry-after"] = given["retry_after"]
        if "should_retry" in given:
            headers["x-should-retry"] = given["should_retry"]
        text = MESSAGES.get(given.get("msg", ""), given.get("msg", "scripted failure"))
        self._error(int(given.get("status", 500)), text.replace("{reset}", reset), headers)

    def _error(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        kind = ERROR_KINDS.get(status, "api_error")
        self._json(status, {"type": "error", "error": {"type": kind, "message": text}}, headers)

    def _json(self, status: int, value: Json, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, each in {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, each)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, message: Json, delay_s: float) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for event in events(message):
                if event["type"] == "content_block_delta" and delay_s:
                    time.sleep(delay_s)
                data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.api.gone += 1
            self.close_connection = True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    given = parser.parse_args()
    with ScriptedApi(port=given.port, certificate=given.certificate, key=given.key) as api:
        print(api.url("echo"), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
