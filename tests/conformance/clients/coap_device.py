"""A device of aiocoap that does what it is told, line by line in JSON, and tells what happens."""

import asyncio
import base64
import json
import sys

import aiocoap

CODES = {code.name: code for code in aiocoap.Code}


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def tell_response(event, response):
    tell(
        event,
        code=response.code.dotted,
        base64=base64.b64encode(response.payload).decode(),
        format=response.opt.content_format,
        observe=response.opt.observe is not None,
    )


def message(said):
    request = aiocoap.Message(code=CODES[said["code"]], payload=base64.b64decode(said.get("payload", "")))
    request.set_request_uri(said["uri"])
    if said.get("format") is not None:
        request.opt.content_format = said["format"]
    if said.get("non"):
        request.transport_tuning = aiocoap.Unreliable
    if said.get("observe"):
        request.opt.observe = 0
    return request


async def listen(observation):
    try:
        async for response in observation:
            tell_response("message", response)
    except aiocoap.error.Error as error:
        tell("ended", why=type(error).__name__)


async def main():
    context = await aiocoap.Context.create_client_context()
    if len(sys.argv) > 1:
        # Where the server is, and the identity and the key that it is to be shown.
        server, identity, key = sys.argv[1:]
        psk = {"psk": {"ascii": key}, "client-identity": {"ascii": identity}}
        context.client_credentials.load_from_dict({f"coaps://{server}/*": {"dtls": psk}})
    observation = listener = token = None
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        said = json.loads(line)
        if said["do"] == "ask":
            request = context.request(message(said))
            response = await request.response
            tell_response("response", response)
            if said.get("observe"):
                observation, token = request.observation, response.token
                listener = asyncio.create_task(listen(observation))
        else:
            # By itself it does not ask to be told nothing more: it resets what it is told and is to acknowledge.
            listener.cancel()
            observation.cancel()
            if said["do"] == "deregister":
                request = message(said)
                request.opt.observe = 1
                # It has no way to use a token again but this.
                for interface in context.request_interfaces:
                    interface._token = int.from_bytes(token, "big") - 1
                tell_response("response", await context.request(request, handle_blockwise=False).response)
            else:
                tell("cancelled")
    await context.shutdown()


asyncio.run(main())
