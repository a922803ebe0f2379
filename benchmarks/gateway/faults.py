"""A battery of faults against a gateway in front of a scripted upstream, one line a fault.

Without options it starts Slipway and the upstream. `--url` takes any running gateway of the OpenAI API instead, whose
models `primary/NAME` go to the upstream at `--upstream-port` under the name NAME, with `backup/ok` as their fallback;
`down/NAME` falls back to `backup/503`, and `gone/ok`, where nothing listens, to `backup/ok`.

`python benchmarks/gateway/faults.py [--only breaker] [--json]` ends with 1 when a fault is not survived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from machine import print_heading  # noqa: E402
from mock_upstream import MockUpstream  # noqa: E402
from systems import memory_mb, process  # noqa: E402

SETTINGS = """
[application]
name = "bench"
[retrieve]
embedder = {{ kind = "none" }}
[guard]
before = []
after = []
[server]
raw_models = true
max_body_mb = 32
[engines.primary]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
connect_s = 2
first_byte_s = 2
idle_s = 2
total_s = 6
[engines.backup]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
[engines.down]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
[engines.gone]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
[routing.fallback.gone]
to = ["backup/ok"]
[routing.fallback.primary]
to = ["backup/ok"]
[routing.fallback.down]
to = ["backup/503"]
"""
QUICKLY_S = 4.5
HELLO = [{"role": "user", "content": "Hello?"}]


class Answer(NamedTuple):
    """An HTTP answer read to its end, or to where it broke."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def done(self) -> bool:
        return b"data: [DONE]" in self.body


class Failed(Exception):
    """What was expected did not happen."""


def expect(met: object, why: str) -> None:
    if not met:
        raise Failed(why)


class Battery:
    """The faults. Each one is a method that returns a note, or raises `Failed`."""

    def __init__(self, url: str, mock: MockUpstream, pid: int | None) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname or "", parts.port or 80, parts.path.rstrip("/")
        self.mock, self.pid = mock, pid

    # Talking HTTP ----------------------------------------------------------------------------------------------------

    def head(self, length: int, more: str = "") -> bytes:
        return (
            f"POST {self.path}/chat/completions HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: application/json\r\nauthorization: Bearer none\r\n{more}content-length: {length}\r\n\r\n"
        ).encode()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, limit=1 << 22)

    async def ask(self, model: Any, *, stream: bool = False, raw: bytes | None = None, within_s: float = 30) -> Answer:
        body = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode() if raw is None else raw
        began = time.monotonic()
        reader, writer = await self.open()
        try:
            async with asyncio.timeout(within_s):
                with suppress(ConnectionError):
                    writer.write(self.head(len(body), "connection: close\r\n") + body)
                    await writer.drain()
                received = await reader.read(-1)
        except (TimeoutError, ConnectionError) as wrong:
            raise Failed(f"no end within {within_s:g} s ({type(wrong).__name__})") from wrong
        finally:
            writer.close()
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        expect(lines[0].startswith("HTTP/1.1 "), f"no HTTP answer: {received[:80]!r}")
        return Answer(int(lines[0].split()[1]), headers, rest, time.monotonic() - began)

    def asked(self, model: str) -> int:
        return self.mock.state.asked[model]

    # Upstreams that fail ----------------------------------------------------------------------------------------------

    async def falls_back(self, model: str, *, stream: bool = False, within_s: float = QUICKLY_S) -> str:
        answer = await self.ask(f"primary/{model}", stream=stream)
        expect(answer.status == 200, f"status {answer.status}: {answer.body[:120]!r}")
        expect(answer.seconds < within_s, f"took {answer.seconds:.1f} s")
        expect(self.asked(model) <= 3, f"asked {self.asked(model)} times")
        expect(not stream or answer.done, "the stream has no [DONE]")
        return f"{answer.seconds:.2f} s, asked {self.asked(model)}"

    async def upstream_429(self) -> str:
        return await self.falls_back("429")

    async def upstream_500(self) -> str:
        return await self.falls_back("500")

    async def upstream_reset(self) -> str:
        return await self.falls_back("reset")

    async def upstream_refused(self) -> str:
        answer = await self.ask("gone/ok")
        expect(answer.status == 200, f"status {answer.status}: {answer.body[:120]!r}")
        return f"{answer.seconds:.2f} s"

    async def upstream_hangs(self) -> str:
        return await self.falls_back("hang")

    async def upstream_garbage(self) -> str:
        return await self.falls_back("garbage")

    async def upstream_short_body(self) -> str:
        return await self.falls_back("short")

    async def upstream_drips(self) -> str:
        return await self.falls_back("drip", within_s=9)

    async def late_first_token(self) -> str:
        return await self.falls_back("late", stream=True)

    async def upstream_400(self) -> str:
        before = self.asked("ok")
        answer = await self.ask("primary/400")
        expect(answer.status == 400, f"status {answer.status}")
        expect(b"mock says 400" in answer.body, "not the upstream's own words")
        expect(self.asked("ok") == before, "the fallback was asked")
        return ""

    async def broken_stream(self, model: str) -> str:
        answer = await self.ask(f"primary/{model}", stream=True)
        expect(answer.status == 200 and b"word4" in answer.body, f"status {answer.status}, no beginning")
        expect(b'"error"' in answer.body, "no error event")
        expect(not answer.done, "it claims with [DONE] to be whole")
        expect(self.asked(model) == 1, f"asked {self.asked(model)} times")
        return f"{answer.seconds:.2f} s"

    async def stream_cut(self) -> str:
        return await self.broken_stream("cut")

    async def stream_stalls(self) -> str:
        return await self.broken_stream("stall")

    async def stream_error_event(self) -> str:
        return await self.broken_stream("error-event")

    async def stream_trickles(self) -> str:
        return await self.broken_stream("trickle")

    async def breaker(self) -> str:
        self.mock.state.broken.add("dead")
        for _ in range(60):
            answer = await self.ask("primary/dead")
            expect(answer.status == 200, f"status {answer.status}")
        expect(self.asked("dead") <= 15, f"60 requests asked the dead primary {self.asked('dead')} times")
        return f"60 requests, primary asked {self.asked('dead')}"

    async def retry_storm(self) -> str:
        before = self.mock.state.asked.total()
        for _ in range(60):
            answer = await self.ask("down/500")
            expect(answer.status >= 500, f"status {answer.status}")
        each = (self.mock.state.asked.total() - before) / 60
        expect(each <= 1.5, f"{each:.2f} attempts a request")
        return f"{each:.2f} attempts a request"

    async def idle_connections_close(self) -> str:
        for _ in range(10):
            expect((await self.ask("primary/ok")).status == 200, "a request failed")
            self.mock.close_connections()
        return ""

    # Clients that misbehave -------------------------------------------------------------------------------------------

    async def leave(self, model: str, *, stream: bool, until: bytes) -> str:
        reader, writer = await self.open()
        body = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()
        writer.write(self.head(len(body)) + body)
        if until:
            await asyncio.wait_for(reader.readuntil(until), 10)
        else:
            await asyncio.sleep(0.3)
        writer.transport.abort()
        began = time.monotonic()
        name = model.partition("/")[2]
        while not self.mock.state.cancelled[name]:
            expect(time.monotonic() - began < 2, "the upstream still works after 2 s")
            await asyncio.sleep(0.02)
        return f"cancelled after {time.monotonic() - began:.2f} s"

    async def client_leaves_before(self) -> str:
        return await self.leave("backup/hang", stream=False, until=b"")

    async def client_leaves_in_stream(self) -> str:
        return await self.leave("backup/stall", stream=True, until=b"word4")

    async def unread_stream(self) -> str:
        before = memory_mb(self.pid) if self.pid else 0.0
        reader, writer = await self.open()
        body = json.dumps({"model": "backup/big", "messages": HELLO, "stream": True}).encode()
        writer.write(self.head(len(body)) + body)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            worst = 0.0
            for _ in range(30):
                answer = await self.ask("backup/ok")
                worst = max(worst, answer.seconds)
                expect(answer.status == 200, f"status {answer.status}")
                await asyncio.sleep(0.05)
            grown = memory_mb(self.pid) - before if self.pid else 0.0
        finally:
            writer.transport.abort()
            del reader
        expect(grown < 40, f"{grown:.0f} MB more memory")
        expect(worst < 1, f"another request took {worst:.1f} s")
        return f"+{grown:.0f} MB, others {worst * 1000:.0f} ms at most"

    async def large_answer(self) -> str:
        answer = await self.ask("backup/big")
        expect(answer.status == 200 and len(answer.body) > 30_000_000, f"{answer.status}, {len(answer.body)} bytes")
        return f"{len(answer.body) / 1e6:.0f} MB in {answer.seconds:.1f} s"

    async def large_request(self) -> str:
        text = json.dumps({"model": "backup/ok", "messages": [{"role": "user", "content": "x" * 64_000_000}]}).encode()
        answer = await self.ask("", raw=text)
        expect(answer.status == 413, f"status {answer.status}")
        expect((await self.ask("backup/ok")).status == 200, "it is not well afterwards")
        return ""

    async def wrong_requests(self) -> str:
        wrong = {
            b"{not json": 400,
            b"[1]": 400,
            b"\xff\xfe": 400,
            b'{"messages": []}': 400,
            b'{"model": 7, "messages": []}': 400,
            b'{"model": "nobody", "messages": []}': 404,
            b'{"model": "backup/ok", "messages": [], "stream": "yes"}': 400,
            b"[" * 50_000: 400,
        }
        for raw, status in wrong.items():
            answer = await self.ask("", raw=raw)
            expect(answer.status == status, f"{raw[:40]!r}: {answer.status} instead of {status}")
            expect(b'"error"' in answer.body, f"{raw[:40]!r}: no error of the API")
        return f"{len(wrong)} kinds"

    async def slow_loris(self) -> str:
        writers = []
        for _ in range(300):
            reader, writer = await self.open()
            writer.write(f"POST {self.path}/chat/completions HTTP/1.1\r\nhost: x\r\n".encode())
            writers.append((reader, writer))
        began, worst, closed = time.monotonic(), 0.0, 0
        while time.monotonic() - began < 32 and closed < 300:
            answer = await self.ask("backup/ok")
            worst = max(worst, answer.seconds)
            expect(answer.status == 200, f"status {answer.status}")
            for _, writer in writers:
                with suppress(ConnectionError):
                    writer.write(b"x-a: b\r\n")
            await asyncio.sleep(1)
            closed = sum(reader.at_eof() or writer.is_closing() for reader, writer in writers)
        for _, writer in writers:
            writer.transport.abort()
        expect(closed == 300, f"{closed} of 300 closed after 32 s")
        expect(worst < 1.5, f"another request took {worst:.1f} s")
        return f"all closed after {time.monotonic() - began:.0f} s, others {worst * 1000:.0f} ms at most"

    async def dripping_body(self) -> str:
        """A body a byte a second; every single piece would be in time."""
        reader, writer = await self.open()
        writer.write(self.head(100_000) + b"{")
        reading = asyncio.ensure_future(reader.read(-1))
        began = time.monotonic()
        while time.monotonic() - began < 75 and not reading.done():
            writer.write(b" ")
            await asyncio.wait([reading], timeout=1)
        expect(reading.done(), "still open after 75 s")
        writer.transport.abort()
        expect(reading.result()[9:12] == b"408", f"{reading.result()[:30]!r}")
        return f"closed after {time.monotonic() - began:.0f} s"

    async def broken_http(self) -> str:
        line = f"POST {self.path}/chat/completions HTTP/1.1\r\nhost: x\r\n".encode()
        broken = {
            "two lengths": line + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            "length and chunks": line + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "bare line feeds": line.replace(b"\r\n", b"\n") + b"content-length: 2\n\n{}",
            "no HTTP": b"hello\r\n\r\n",
            "70 KB of headers": line + b"x: " + b"a" * 70_000 + b"\r\n\r\n",
        }
        for name, sent in broken.items():
            reader, writer = await self.open()
            with suppress(ConnectionError):
                writer.write(sent)
                received = await asyncio.wait_for(reader.read(-1), 10)
            writer.close()
            expect(received[9:12] == b"400", f"{name}: {received[:30]!r}")
        return f"{len(broken)} kinds, all closed"

    # The server itself ------------------------------------------------------------------------------------------------

    async def under_load(self, what: Callable[[], Awaitable[str]], *, rate: float = 500.0) -> str:
        """Requests at a steady rate while something happens; not one may fail."""
        statuses: list[int] = []
        stop = asyncio.Event()

        async def keep_asking(wait_s: float) -> None:
            body = json.dumps({"model": "backup/ok", "messages": HELLO}).encode()
            reader, writer = await self.open()
            while not stop.is_set():
                writer.write(self.head(len(body)) + body)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                await reader.readexactly(length)
                statuses.append(int(head.split()[1]))
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))
            writer.close()

        began = time.monotonic()
        tasks = [asyncio.create_task(keep_asking(20 / rate)) for _ in range(20)]
        note = await what()
        stop.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [repr(result) for result in results if result is not None]
        expect(not failed, f"{len(failed)} connections failed: {failed[:1]}")
        bad = [status for status in statuses if status != 200]
        expect(not bad, f"{len(bad)} of {len(statuses)} requests failed: {sorted(set(bad))}")
        return f"{len(statuses)} requests at {len(statuses) / (time.monotonic() - began):.0f}/s, 0 failed{note}"

    async def reloads(self) -> str:
        pid = self.pid
        if pid is None:
            raise Skipped("needs the process of the gateway")

        async def twenty() -> str:
            for _ in range(20):
                os.kill(pid, signal.SIGHUP)
                await asyncio.sleep(0.25)
            return ""

        return await self.under_load(twenty)


class Skipped(Exception):
    """A fault that cannot be tried on this gateway."""


FAULTS = [name for name, value in vars(Battery).items() if asyncio.iscoroutinefunction(value)]
HELPERS = {"open", "ask", "falls_back", "broken_stream", "leave", "under_load"}


@contextmanager
def gateway(options: argparse.Namespace) -> Iterator[tuple[str, MockUpstream, int | None]]:
    """The gateway that is tried, the upstream behind it, and the process that serves where it is known."""
    with ExitStack() as stack:
        mock = stack.enter_context(MockUpstream(options.upstream_port))
        if options.url:
            yield options.url, mock, options.pid
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "app"
        (folder / "documents").mkdir(parents=True)
        (folder / "slipway.toml").write_text(SETTINGS.format(port=mock.port))
        command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", "0"]
        served = stack.enter_context(process([*command, "--no-pages", "--json"], stdout=subprocess.PIPE))
        assert served.stdout is not None
        yield json.loads(served.stdout.readline())["endpoint"], mock, served.pid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="", help="endpoint of a running gateway, ending in /v1")
    parser.add_argument("--pid", type=int, default=None, help="its process, for memory and reloads")
    parser.add_argument("--upstream-port", type=int, default=0, help="port of the upstream that it asks")
    parser.add_argument("--only", action="append", default=[], help="a fault by name; may be repeated")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.only or [name for name in FAULTS if name not in HELPERS]
    rows = []
    if not options.json:
        print_heading(f"Gateway: {len(names)} faults")
    with gateway(options) as (url, mock, pid):
        for name in names:
            mock.state.__init__()  # type: ignore[misc]
            began = time.monotonic()
            try:
                note = asyncio.run(getattr(Battery(url, mock, pid), name)())
                verdict = "survived"
            except Skipped as why:
                verdict, note = "skipped", str(why)
            except (Failed, OSError, asyncio.IncompleteReadError, TimeoutError) as why:
                verdict, note = "FAILED", str(why) or type(why).__name__
            rows.append({"fault": name, "verdict": verdict, "seconds": time.monotonic() - began, "note": note})
            if not options.json:
                print(f"{name.ljust(26)} {verdict.ljust(9)} {note}", flush=True)
    failed = sum(row["verdict"] == "FAILED" for row in rows)
    if options.json:
        print(json.dumps(rows))
    else:
        print(f"\n{len(rows) - failed} of {len(rows)} survived")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
