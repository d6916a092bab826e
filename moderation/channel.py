"""Questions and answers between two processes over a socket pair: JSON, a line each. Knows nothing of what they are about."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

_LONGEST = 64 << 20

Answer = Callable[[str, Any], Awaitable[Any]]
"""What a question, or what was told, is given to: its name and its value."""


class Channel:
    """One end. `run` it, or nothing comes in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader, self._writer, self._answer = reader, writer, answer
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._gone = False

    @classmethod
    async def over(cls, end: socket.socket, answer: Answer) -> Channel:
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_LONGEST), answer)

    def tell(self, what: str, value: object = None) -> None:
        """Without an answer. Says nothing when the other end is gone: `run` has ended then."""
        self._send({"what": what, "value": value})

    async def ask(self, what: str, value: object = None) -> Any:
        """The other end's answer. Raises ConnectionError when it is gone."""
        self._count += 1
        number, answer = self._count, asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send({"what": what, "value": value, "number": number})
        try:
            if self._gone:
                raise ConnectionResetError
            return await answer
        finally:
            del self._asked[number]

    async def flush(self) -> None:
        """Wait while the other end is slow to read. Raises ConnectionError when it is gone."""
        await self._writer.drain()

    async def run(self) -> None:
        """Until the other end is gone; then nobody waits for it any more. Raises what an answer raised: the channel ends so."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = await self._read(group)
                for task in tasks:
                    task.cancel()
        finally:
            self._gone = True
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError())
            self._writer.close()

    async def _read(self, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        """All that comes in; then the answers that nobody waits for any more."""
        tasks: set[asyncio.Task[None]] = set()
        with suppress(ConnectionError):
            while (line := await self._reader.readline()).endswith(b"\n"):
                message = json.loads(line)
                if "what" in message:
                    task = group.create_task(self._serve(message))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                elif (answer := self._asked.get(message["number"])) is not None and not answer.done():
                    answer.set_result(message["value"])
        return tasks

    async def _serve(self, message: dict[str, Any]) -> None:
        value = await self._answer(message["what"], message["value"])
        if "number" in message:
            self._send({"number": message["number"], "value": value})

    def _send(self, message: dict[str, Any]) -> None:
        if not self._gone:
            self._writer.write(json.dumps(message).encode() + b"\n")
