"""A load driver of its own: keeps N connections busy for some seconds and prints what came back as one JSON object.

The request is written out once; answers are only searched for their end, so that the driver costs little beside what it
measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit

import uvloop

PROMPT = "What does express shipping cost, and how long does it take from Leipzig to Lisbon? " * 7


def request_bytes(url: str, model: str, *, stream: bool, characters: int) -> bytes:
    parts = urlsplit(url)
    text = (PROMPT * (characters // len(PROMPT) + 1))[:characters]
    fields = {"model": model, "messages": [{"role": "user", "content": text}]}
    body = json.dumps(fields | ({"stream": True} if stream else {})).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer none\r\ncontent-length: {len(body)}\r\n\r\n"
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
        self.send()

    def send(self) -> None:
        self.reset()
        self.sent_at = time.perf_counter()
        self.transport.write(self.driver.request)

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

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self.host, self.port, self.request = host, port, request
        self.latencies: list[float] = []
        self.errors = 0
        self.bytes = 0
        self.stopped = False
        self.tasks: set[asyncio.Task[object]] = set()

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
            client.send()


async def drive(options: argparse.Namespace) -> dict[str, float]:
    parts = urlsplit(options.url)
    request = request_bytes(options.url, options.model, stream=options.stream, characters=options.characters)
    driver = Driver(parts.hostname or "", parts.port or 80, request)
    for _ in range(options.connections):
        driver.connect()
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
    print(json.dumps(uvloop.run(drive(parser.parse_args()))), flush=True)
