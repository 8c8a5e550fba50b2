"""Frames: one line of JSON each. Splitting is pure (no socket here), decoding knows the closed set of requests.

request   {"op":"start_cage","agent":"iris"}
reply     {"ok":…}   or   {"problem":"denied","detail":"…"}
watch     {"ok":null}, then {"event":…} lines, ended by either side leaving or by a refusal
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from protocol.names import in_words
from protocol.problem import Problem, Refusal, Refused
from protocol.rpc import Request

END: Final = b"\n"
FAULT_CHARS_MAX: Final = 200


class Splitter:
    """Cuts a stream of bytes into frames of at most `bytes_max` bytes, without the line break.

    Raises Refused(malformed) once, when a frame grows past the bound; the connection is of no use after that.
    """

    __slots__ = ("_buffer", "_searched", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()
        self._searched = 0

    def __bool__(self) -> bool:
        """Whether part of a frame is waiting for its rest."""
        return bool(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """Take the next whole frame, or None when more bytes are needed."""
        end = self._buffer.find(END, self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > self.bytes_max:
                raise Refused(Problem.MALFORMED, f"the frame is longer than {self.bytes_max} bytes")
            return None
        if end > self.bytes_max:
            raise Refused(
                Problem.MALFORMED, f"the frame has {end} bytes, at most {self.bytes_max} are allowed"
            )
        frame = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return frame


class _NoRequest(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag=""):
    """A second kind beside the requests of a socket: a decoder of one kind alone would not ask for its `op`."""


class RequestCodec:
    """Decodes the requests of one socket. `canonical` demands that the bytes are exactly what we would write."""

    def __init__(self, requests: Iterable[type[Request]], *, canonical: bool = False) -> None:
        union: Any = _NoRequest
        for request in requests:
            union = union | request
        self._decoder = msgspec.json.Decoder(union)
        self._encoder = msgspec.json.Encoder()
        self._canonical = canonical

    def decode(self, untrusted_frame: bytes) -> Request:
        """Turn one frame into a request; Refused(malformed) says what is wrong with it, without echoing it whole."""
        try:
            request: Request | _NoRequest = self._decoder.decode(untrusted_frame)
        except msgspec.ValidationError as error:
            raise Refused(Problem.MALFORMED, f"not a request of this socket: {_quotable(error)}") from None
        except msgspec.DecodeError as error:
            raise Refused(Problem.MALFORMED, f"not JSON: {_quotable(error)}") from None
        except UnicodeDecodeError:
            raise Refused(Problem.MALFORMED, "not UTF-8") from None
        except RecursionError:
            raise Refused(Problem.MALFORMED, "nested too deeply") from None
        if isinstance(request, _NoRequest):
            raise Refused(Problem.MALFORMED, "not a request of this socket: its `op` is empty")
        if self._canonical and self._encoder.encode(request) != untrusted_frame:
            raise Refused(
                Problem.MALFORMED,
                "the request is not in canonical form: write each key once, in order, without spaces",
            )
        return request


def _quotable(fault: msgspec.DecodeError) -> str:
    """A decoder's complaint as one short printable line: it may quote whole what the peer wrote."""
    said = in_words(str(fault))
    if len(said) > FAULT_CHARS_MAX:
        said = f"{said[: FAULT_CHARS_MAX // 2]}...{said[-FAULT_CHARS_MAX // 2 :]}"
    return "".join(one if one.isascii() and one.isprintable() else ascii(one)[1:-1] for one in said)


_encoder = msgspec.json.Encoder()


def encode_request(request: Request) -> bytes:
    return _encoder.encode(request) + END


def encode_ok(reply: object) -> bytes:
    return b'{"ok":' + _encoder.encode(reply) + b"}\n"


def encode_event(event: object) -> bytes:
    """One event of a watch. A `Raw` is written as it is, so that what many watch is encoded once."""
    return b'{"event":' + _encoder.encode(event) + b"}\n"


def encode_refusal(refused: Refused) -> bytes:
    return _encoder.encode(Refusal(refused.problem, refused.detail)) + END


class Reply(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line from a daemon, its content not yet decoded."""

    ok: Raw = Raw()
    event: Raw = Raw()
    problem: Problem | None = None
    detail: str = ""


_reply_decoder = msgspec.json.Decoder(Reply)


def decode_reply(frame: bytes) -> Reply:
    """Decode one line from a daemon. Raises Refused with the daemon's own code when it is a refusal."""
    try:
        reply = _reply_decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Problem.INTERNAL, f"the daemon's answer is not a reply: {error}") from None
    if reply.problem is not None:
        raise Refused(reply.problem, reply.detail)
    return reply
