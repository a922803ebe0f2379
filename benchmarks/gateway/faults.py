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
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from slipway.domain.decoding import Decoding
from slipway.domain.guardrail import Guardrails
from slipway.domain.model import Model
from slipway.domain.release import Release
from slipway.release.channels import promote
from slipway.release.parts import save_release
from slipway.workspace import Workspace, open_workspace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from machine import print_heading  # noqa: E402
from mock_upstream import MockUpstream  # noqa: E402
from steady import Steady  # noqa: E402
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
[upstream]
transport = "{transport}"
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

    def __init__(self, url: str, mock: MockUpstream, pid: int | None, folder: Path | None = None) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname or "", parts.port or 80, parts.path.rstrip("/")
        self.mock, self.pid, self.folder = mock, pid, folder

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

    async def under_load(
        self, what: Callable[[], Awaitable[None]], *, model: str = "backup/ok", rate: float = 500.0
    ) -> Steady:
        """Requests at a steady rate while something happens; not one may fail."""
        body = json.dumps({"model": model, "messages": HELLO}).encode()
        async with Steady(self.host, self.port, self.head(len(body)) + body, rate=rate) as load:
            await what()
        expect(not load.lost, f"{len(load.lost)} requests got no answer: {load.lost[:1]}")
        bad = Counter(answer.status for answer in load.answers if answer.status != 200)
        expect(not bad, f"{bad.total()} of {len(load.answers)} requests failed: {dict(bad)}")
        reached = len(load.answers) / load.seconds
        expect(reached > 0.9 * rate, f"only {reached:.0f} requests/s: this machine is too busy to tell")
        return load

    async def kept(self, load: Steady) -> dict[str, Any]:
        """The rows of all answered requests, once the store has them."""
        wanted = {answer.trace for answer in load.answers}
        began, rows = time.monotonic(), dict[str, Any]()
        with open_workspace(self.folder) as workspace:
            while wanted - rows.keys() and time.monotonic() - began < 60:
                await asyncio.sleep(1)
                rows = {row.id: row for row in workspace.store.traces.list(limit=1_000_000).rows}
        missing = wanted - rows.keys()
        expect(not missing, f"{len(missing)} of {len(wanted)} traces are not in the store after a minute")
        return rows

    async def reloads(self) -> str:
        """Settings, and with every second one the release of the channel, change under the requests."""
        pid, folder = self.pid, self.folder
        if pid is None or folder is None:
            raise Skipped("needs the process of the gateway and its folder")
        with open_workspace(folder) as workspace:
            releases = [make_release(workspace, model) for model in ("blue", "green")]
            promote(workspace, releases[0], "colours", force=True)
            model_of = {release.id: release.model.name for release in releases}
            toml = folder / "slipway.toml"
            text = toml.read_text()

            async def twenty() -> None:
                await asyncio.sleep(2)
                for number in range(20):
                    toml.write_text(text.replace("max_body_mb = 32", f"max_body_mb = {33 + number}"))
                    promote(workspace, releases[number % 2], "colours", force=True)
                    os.kill(pid, signal.SIGHUP)
                    await asyncio.sleep(0.5)

            await self.wait_for_channel("colours")
            load = await self.under_load(twenty, model="colours")
        taken = await self.metric('slipway_reloads_total{result="taken"}')
        expect(taken >= 20, f"only {taken:g} of 20 reloads were taken")
        rows = await self.kept(load)
        for answer in load.answers:
            row, said = rows[answer.trace], json.loads(answer.body)["model"]
            expect(answer.release == row.release, f"trace {answer.trace} is of {row.release}, its answer of another")
            expect(said == f"{model_of[row.release]}-2026" == f"{row.model}-2026", f"{row.release} answered as {said}")
        seen = Counter(rows[answer.trace].model for answer in load.answers)
        expect(len(seen) == 2, f"only {dict(seen)} answered")
        return f"{len(load.answers)} requests at {len(load.answers) / load.seconds:.0f}/s, 0 failed, {dict(seen)}"

    async def metric(self, name: str) -> float:
        reader, writer = await self.open()
        writer.write(f"GET /metrics HTTP/1.1\r\nhost: {self.host}\r\nconnection: close\r\n\r\n".encode())
        page = (await asyncio.wait_for(reader.read(-1), 10)).decode()
        writer.close()
        return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(name)), 0.0)

    async def wait_for_channel(self, name: str) -> None:
        until = time.monotonic() + 20
        while (await self.ask(name)).status != 200:
            expect(time.monotonic() < until, f"the channel {name} does not answer")
            await asyncio.sleep(0.2)

    async def locked_database(self) -> str:
        """Somebody holds the database for half a minute, and nobody else can write into it."""
        if self.folder is None:
            raise Skipped("needs the folder of the gateway")
        database = self.folder / ".slipway" / "store.db"

        async def hold() -> None:
            with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as other:
                other.execute("begin exclusive")
                await asyncio.sleep(30)
                other.execute("rollback")

        load = await self.under_load(hold, rate=200)
        await self.kept(load)
        return f"{len(load.answers)} requests at {len(load.answers) / load.seconds:.0f}/s, 0 failed, all traces kept"


class Skipped(Exception):
    """A fault that cannot be tried on this gateway."""


FAULTS = [name for name, value in vars(Battery).items() if asyncio.iscoroutinefunction(value)]
HELPERS = {"open", "ask", "falls_back", "broken_stream", "leave", "under_load", "kept", "metric", "wait_for_channel"}


def make_release(workspace: Workspace, model: str) -> Release:
    """A release that forwards to the upstream's model of this name."""
    return save_release(
        workspace,
        model=Model(engine="backup", name=model),
        decoding=Decoding(temperature=None, max_tokens=None, seed=None),
        prompt=None,
        index=None,
        guardrails=Guardrails(),
        note="",
    )


@contextmanager
def gateway(options: argparse.Namespace) -> Iterator[tuple[str, MockUpstream, int | None, Path | None]]:
    """The gateway that is tried, the upstream behind it, and where they are known the process that serves and its
    folder."""
    with ExitStack() as stack:
        mock = stack.enter_context(MockUpstream(options.upstream_port))
        if options.url:
            yield options.url, mock, options.pid, None
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "app"
        (folder / "documents").mkdir(parents=True)
        (folder / "slipway.toml").write_text(SETTINGS.format(port=mock.port, transport=options.transport))
        command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", "0"]
        served = stack.enter_context(process([*command, "--no-pages", "--json"], stdout=subprocess.PIPE))
        assert served.stdout is not None
        yield json.loads(served.stdout.readline())["endpoint"], mock, served.pid, folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="", help="endpoint of a running gateway, ending in /v1")
    parser.add_argument("--pid", type=int, default=None, help="its process, for memory and reloads")
    parser.add_argument("--upstream-port", type=int, default=0, help="port of the upstream that it asks")
    parser.add_argument("--transport", default="own", help="what carries Slipway's requests upstream: own or aiohttp")
    parser.add_argument("--only", action="append", default=[], help="a fault by name; may be repeated")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.only or [name for name in FAULTS if name not in HELPERS]
    rows = []
    if not options.json:
        print_heading(f"Gateway: {len(names)} faults")
    with gateway(options) as (url, mock, pid, folder):
        for name in names:
            mock.state.__init__()  # type: ignore[misc]
            began = time.monotonic()
            try:
                note = asyncio.run(getattr(Battery(url, mock, pid, folder), name)())
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
