"""A load driver of its own: keeps N connections busy for some seconds and prints what came back as one JSON object.

The request is written out once; answers are only searched for their end, so that the driver costs little beside what it
measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from string import ascii_lowercase
from urllib.parse import urlsplit

import uvloop

PROMPT = "What does express shipping cost, and how long does it take from Leipzig to Lisbon? " * 7
VARIANTS = 64
"""So many prompts of different words are asked in turn: whoever keeps traces searchable has to look at each."""


CALLS_OF_A_TRACE = 10
"""Of an agent that traces its own work: so many requests in a row carry the same `traceparent`."""
TRACE = b"traceparent: 00-%032x-00000000000000a1-01\r\n"


def request_bytes(
    url: str,
    model: str,
    *,
    stream: bool,
    characters: int,
    headers: Sequence[str] = (),
    variant: int = 0,
    person: str = "",
) -> bytes:
    parts = urlsplit(url)
    words = PROMPT.split() * (characters // len(PROMPT) + 2)
    chance = Random(variant)
    # Every fourth word is one that no other variant has, of letters as most words are.
    words = [
        "".join(chance.choices(ascii_lowercase, k=8)) if place % 4 == 3 else word for place, word in enumerate(words)
    ]
    text = " ".join(words)[:characters]
    asked = {"input": text} if parts.path.endswith("/responses") else {"messages": [{"role": "user", "content": text}]}
    fields = {"model": model, **asked}
    body = json.dumps(fields | ({"stream": True} if stream else {}) | ({"user": person} if person else {})).encode()
    if not any(line.startswith("authorization:") for line in headers):
        headers = ["authorization: Bearer none", *headers]
    more = "".join(line + "\r\n" for line in headers)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection: sends, waits for the end of the answer, sends again."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.reset()

    def reset(self) -> None:
        self.buffer = b""
        self.missing = -1
        self.chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.driver.free(self)

    def send(self) -> None:
        self.reset()
        self.sent_at = time.perf_counter()
        self.transport.write(self.driver.next_request())

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            self.ok = head.startswith(b"http/1.1 200")
            at = head.find(b"content-length:")
            if at >= 0:
                line_end = head.find(b"\r\n", at)
                length = int(head[at + 15 : line_end if line_end >= 0 else len(head)])
                self.missing = length - (len(self.buffer) - end - 4)
            else:
                self.chunked = True
                self.missing = 1 << 60
            data = self.buffer
        else:
            self.missing -= len(data)
        self.driver.bytes += len(data)
        if self.missing == 0 or (self.chunked and data.endswith(b"0\r\n\r\n")):
            self.driver.done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.driver.stopped:
            self.driver.errors += 1
            self.driver.connect()


class Driver:
    """All connections and what they saw between `begin` and the end."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float = 0.0, *, agents: int = 0) -> None:
        self.host, self.port, self.requests, self.rate = host, port, cycle(requests), rate
        self.chance = Random()
        self.traces, self.calls = [b""] * agents, 0
        self.idle: deque[Client] = deque()
        self.latencies: list[float] = []
        self.errors = 0
        self.bytes = 0
        self.stopped = False
        self.tasks: set[asyncio.Task[object]] = set()

    def next_request(self) -> bytes:
        request = next(self.requests)
        if not self.traces:
            return request
        turn, agent = divmod(self.calls, len(self.traces))
        if turn % CALLS_OF_A_TRACE == 0:
            self.traces[agent] = TRACE % self.chance.getrandbits(128)
        self.calls += 1
        line_end = request.index(b"\r\n") + 2
        return request[:line_end] + self.traces[agent] + request[line_end:]

    def free(self, client: Client) -> None:
        """Sends the next request at once, or keeps the connection for the next beat of a given rate."""
        if not self.rate:
            client.send()
        else:
            self.idle.append(client)

    async def beat(self) -> None:
        """Requests at an even rate, each sent when it is due, however long the ones before take."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.stopped:
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.idle:
                self.idle.popleft().send()
            else:
                self.errors += 1  # no connection was free in time

    def connect(self) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(lambda: Client(self), self.host, self.port))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def done(self, client: Client) -> None:
        if not client.ok:
            self.errors += 1
        self.latencies.append(time.perf_counter() - client.sent_at)
        if self.stopped:
            client.transport.close()
        else:
            self.free(client)


async def drive(options: argparse.Namespace) -> dict[str, float]:
    parts = urlsplit(options.url)
    keys = options.keys.read_text().split() if options.keys else []
    requests = [
        request_bytes(
            options.url,
            options.model,
            stream=options.stream,
            characters=options.characters,
            headers=[f"authorization: Bearer {keys[variant]}"] if keys else options.header,
            variant=variant,
            person=f"person-{variant}" if options.people else "",
        )
        for variant in range(len(keys) or options.people or VARIANTS)
    ]
    agents = options.agents if options.traced else 0
    driver = Driver(parts.hostname or "", parts.port or 80, requests, options.rate, agents=agents)
    for _ in range(options.connections):
        driver.connect()
    beating = asyncio.create_task(driver.beat()) if options.rate else None
    await asyncio.sleep(options.warm_up)
    warm_up = len(driver.latencies)
    driver.latencies.clear()
    driver.errors = driver.bytes = 0
    print("begin", flush=True)
    began = time.perf_counter()
    await asyncio.sleep(options.seconds)
    seconds = time.perf_counter() - began
    found = sorted(driver.latencies)
    driver.stopped = True
    if beating is not None:
        await beating
    if not found:
        return {"requests": 0, "errors": driver.errors, "seconds": seconds}
    return {
        "requests": len(found),
        "warm_up": warm_up,
        "errors": driver.errors,
        "seconds": seconds,
        "per_second": len(found) / seconds,
        "p50_ms": found[len(found) // 2] * 1000,
        "p99_ms": found[int(len(found) * 0.99)] * 1000,
        "bytes": driver.bytes,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="ok")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--characters", type=int, default=600)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second, evenly; as many as possible without"
    )
    parser.add_argument("--people", type=int, default=0, help="so many people ask, each something else")
    parser.add_argument("--keys", type=Path, help="a file of API keys, of which each asks in turn")
    parser.add_argument("--traced", action="store_true", help="the client traces its own work, ten requests a trace")
    parser.add_argument("--agents", type=int, default=1, help="with --traced: so many such traces grow side by side")
    parser.add_argument("--header", action="append", default=[], help="one more header line, as 'name: value'")
    print(json.dumps(uvloop.run(drive(parser.parse_args()))), flush=True)
