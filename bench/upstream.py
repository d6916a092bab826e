"""The benchmark's upstream: an HTTP server that answers chat completions from memory. `python -m bench.upstream PORT`.

A stream has CHUNKS deltas of one word, as far apart as the request's `gap_ms` says; no whole answer comes twice. A comment before
[DONE] tells the monotonic time of each delta, which every process of this machine can compare with its own clock; the deltas
themselves look as Qwen's do.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from time import monotonic_ns
from typing import cast

import uvloop

CHUNKS = 64
_TEXT = ("the harbour was quiet when the first boats came in and the light over the water turned from grey to a pale gold while "
         "the men on the quay talked about the weather and the price of fish and nobody hurried because there was nothing to "
         "hurry for on a morning like this one before the market opened and the town woke up")
_WORDS = _TEXT.split()
PLACE = b"aaaaaaaaa"
_LETTERS = bytes.maketrans(b"0123456789", b"abcdefghij")
_MESSAGE = {"role": "assistant", "content": f"{PLACE.decode()}: {_TEXT}"}
_ANSWER = json.dumps({
    "choices": [{"message": _MESSAGE, "finish_reason": "stop", "index": 0, "logprobs": None}],
    "object": "chat.completion", "usage": {"prompt_tokens": 120, "completion_tokens": 60, "total_tokens": 180},
    "created": 1767225600, "system_fingerprint": None, "model": "qwen3.5-plus", "id": "chatcmpl-bench"}).encode()
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream;charset=UTF-8\r\ntransfer-encoding: chunked\r\n\r\n"
_DELTA = ('data: {"choices":[{"delta":{"content":"%s ","reasoning_content":null},"index":0,"logprobs":null,"finish_reason":%s}],'
          '"object":"chat.completion.chunk","usage":null,"created":1767225600,"system_fingerprint":null,"model":"qwen3.5-plus",'
          '"id":"chatcmpl-bench"}\n\n')


_GAP = re.compile(rb'"gap_ms": *([0-9.]+)')


def word(number: int) -> bytes:
    """A word of nine letters for a number: one of digits alone could be somebody's."""
    return (b"%09d" % (number % 1_000_000_000)).translate(_LETTERS)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Conversation(asyncio.Protocol):
    """One connection: requests come one after the other, never pipelined."""

    def __init__(self) -> None:
        self._gap = 0.0
        self._received = b""
        self._sent = 0
        self._times: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended:
            return
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if length and len(body) < int(length[1]):
            return
        self._received = b""
        if b'"stream":true' in body.replace(b" ", b""):
            self._sent = 0
            self._times = []
            self._gap = float(_GAP.search(body)[1]) / 1000  # type: ignore[index]  # the load generator always sends it
            self._transport.write(_STREAM)
            self._next()
        else:
            self._transport.write(_WHOLE.replace(PLACE, word(monotonic_ns() // 1000)))

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        if self._sent == CHUNKS:
            times = ",".join(map(str, self._times)).encode()
            self._transport.write(_chunk(b": sent %b\n\n" % times) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        self._sent += 1
        word, finish = _WORDS[self._sent % len(_WORDS)], '"stop"' if self._sent == CHUNKS else "null"
        self._times.append(monotonic_ns())
        self._transport.write(_chunk((_DELTA % (word, finish)).encode()))
        asyncio.get_running_loop().call_later(self._gap, self._next)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Conversation, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
