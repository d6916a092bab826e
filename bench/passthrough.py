"""The least that a proxy can be: aiohttp in, aiohttp out, nothing looked at. `python -m bench.passthrough PORT UPSTREAM_PORT`."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

_OURS = {"host", "content-length", "transfer-encoding", "connection"}


async def serve(port: int, upstream_port: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _OURS]
            url = URL(f"http://127.0.0.1:{upstream_port}{request.raw_path}", encoded=True)
            async with session.request(request.method, url, headers=headers, data=await request.read()) as answer:
                kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _OURS]
                response = web.StreamResponse(status=answer.status)
                response.headers.extend(kept)
                if answer.content_length is not None:
                    response.content_length = answer.content_length
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
