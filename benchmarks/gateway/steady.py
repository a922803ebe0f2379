"""Requests at an even rate over kept connections, each sent when it is due; every answer is kept with what it named."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

SLICE_S = 0.01
MOST_CONNECTIONS = 400


class Told(NamedTuple):
    """What one answer said: status, whose trace and release it is, and its body."""

    status: int
    trace: str
    release: str
    body: bytes


class Steady:
    """Sends `request` so many times a second until it is stopped. `lost` are requests whose connection ended."""

    def __init__(self, host: str, port: int, request: bytes, *, rate: float) -> None:
        self.host, self.port, self.request, self.rate = host, port, request, rate
        self.answers: list[Told] = []
        self.lost: list[str] = []
        self.seconds = 0.0
        self.idle: deque[_Connection] = deque()
        self.open = 0
        self.running = 0
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Steady:
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._beating

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while not self._stop.is_set():
            due = int((loop.time() - began) * self.rate) - sent
            for _ in range(due):
                if not self.idle and self.open < MOST_CONNECTIONS:
                    await self._connect()
                if not self.idle:
                    break
                self.idle.popleft().send()
                sent += 1
            await asyncio.sleep(SLICE_S)
        self.seconds = loop.time() - began
        for _ in range(round(60 / SLICE_S)):
            if not self.running:
                break
            await asyncio.sleep(SLICE_S)
        self.lost += ["no answer within a minute"] * self.running
        for connection in self.idle:
            connection.transport.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self.open += 1
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        except OSError as wrong:
            self.open -= 1
            self.lost.append(str(wrong))
            return
        self.idle.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, load: Steady) -> None:
        self.load = load
        self.busy = False
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        self.busy = True
        self.load.running += 1
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, gap, body = self.received.partition(b"\r\n\r\n")
        if not gap:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if len(body) < int(headers["content-length"]):
            return
        self.received = b""
        trace, release = headers.get("x-slipway-trace", ""), headers.get("x-slipway-release", "")
        self.load.answers.append(Told(int(lines[0].split()[1]), trace, release, body))
        self.busy = False
        self.load.running -= 1
        self.load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.open -= 1
        if self.busy:
            self.load.running -= 1
            self.load.lost.append(str(exc or "closed before the answer"))
        elif self in self.load.idle:
            self.load.idle.remove(self)
