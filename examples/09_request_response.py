"""Questions and answers over one connection: many under way at a time, each with a deadline.

Shows `request` over any framing. The server answers in order here, so answers find their questions by order; protocols
with numbers in their messages use `requests=` of the client.
Try it: python examples/09_request_response.py, which asks itself.
"""

from __future__ import annotations

import asyncio
import json

import wireway

FRAMING = wireway.LengthPrefix(4, max_size=1 << 20)

server = wireway.Server("tcp://127.0.0.1:0", framing=FRAMING)


@server.on_message
async def answer(conn: wireway.Connection, message: bytes) -> None:
    """`add` adds; `wait` is too slow for its client."""
    question = json.loads(message)
    if question["do"] == "wait":
        await asyncio.sleep(question["seconds"])
    result = sum(question.get("numbers", []))
    await conn.send(json.dumps({"result": result}).encode())


async def ask(client: wireway.Client, deadline: float = 5.0, **question: object) -> int:
    """One question."""
    answer = await client.request(json.dumps(question).encode(), deadline=deadline)
    return int(json.loads(answer)["result"])


async def main() -> list[int]:
    """A hundred questions at once, and one that is given up."""
    async with server, wireway.connect(server.addresses[0], framing=FRAMING) as client:
        sums = await asyncio.gather(*(ask(client, do="add", numbers=[n, n]) for n in range(100)))
        try:
            await ask(client, do="wait", seconds=0.2, deadline=0.05)
        except wireway.RequestTimeoutError as error:
            print(error)
        sums.append(await ask(client, do="add", numbers=[20, 22]))  # the late answer was swallowed
    return sums


if __name__ == "__main__":
    print(wireway.run(main()))
