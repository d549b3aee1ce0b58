"""A device on a WebSocket of PyPI's `websockets` that does what it is told, line by line in JSON, and tells what happens."""

import asyncio
import base64
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


async def listen(socket):
    try:
        while True:
            frame = await socket.recv()
            if isinstance(frame, str):
                tell("message", text=frame)
            else:
                tell("message", base64=base64.b64encode(frame).decode())
    except ConnectionClosed:
        tell("closed", code=socket.close_code, reason=socket.close_reason)


async def open_socket(said):
    tls = ssl.create_default_context(cafile=said["ca"]) if said["ca"] else None
    try:
        socket = await connect(
            said["url"],
            additional_headers=said["headers"],
            subprotocols=said["protocols"] or None,
            ssl=tls,
            user_agent_header=None,
            proxy=None,
        )
    except InvalidStatus as refusal:
        tell("refused", status=refusal.response.status_code)
        return None
    tell("connected", protocol=socket.subprotocol or "")
    return socket


async def lines():
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def main():
    socket = listener = None
    async for said in lines():
        if said["do"] == "connect":
            socket = await open_socket(said)
            listener = socket and asyncio.create_task(listen(socket))
            continue
        try:
            if said["do"] == "text":
                await socket.send(said["payload"])
            elif said["do"] == "binary":
                await socket.send(base64.b64decode(said["payload"]))
            elif said["do"] == "close":
                await socket.close(said["code"])
            else:
                socket.transport.abort()
        except ConnectionClosed:
            # The listener tells it.
            pass
    if listener:
        listener.cancel()


asyncio.run(main())
