"""More connections than a worker may hold: idle ones make room, those at work stay, newcomers are told."""

import json
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing

import httpx
import pytest

from slipway.config.reader import load_settings
from slipway.gateway.crowd import MOST_CONNECTIONS, Crowd, open_files
from slipway.gateway.door import Door
from slipway.workspace import open_workspace

FEW = 8
HELLO = [{"role": "user", "content": "Hello"}]


def wire(model: str, *, stream: bool = False) -> bytes:
    body = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


@pytest.fixture
def connect(served, monkeypatch):
    """Opens connections to a worker that may hold `FEW` of them; all are closed in the end."""
    for connection in list(served.server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.close)
    until = time.monotonic() + 10
    while served.server.server_state.connections and time.monotonic() < until:
        time.sleep(0.01)
    monkeypatch.setattr(Door, "crowd", Crowd(files=2 * FEW))
    address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
    with ExitStack() as stack:

        def connected() -> socket.socket:
            return stack.enter_context(closing(socket.create_connection(address, timeout=10)))

        yield connected


def test_idle_connections_make_room(served, connect):
    idle = [connect() for _ in range(FEW)]
    for raw in idle[:4]:
        raw.sendall(wire("plain"))
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    for _ in range(3 * FEW):
        raw = connect()
        raw.sendall(wire("plain"))
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.06)
    assert any(raw.recv(1) == b"" for raw in idle)
    assert len(served.server.server_state.connections) <= FEW + 1


def test_connections_at_work_stay_and_newcomers_are_told(served, connect):
    at_work = [connect() for _ in range(FEW)]
    for raw in at_work:
        raw.sendall(wire("fast/slow-0.7"))
    time.sleep(0.3)
    for _ in range(3):
        raw = connect()
        raw.sendall(wire("plain"))
        answer = raw.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1\r\n" in answer
        assert b"as many connections" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
    silent = connect()
    answers = [raw.recv(65536) for raw in at_work]
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * FEW
    raw = connect()
    raw.sendall(wire("plain"))
    assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    silent.settimeout(8)
    assert silent.recv(1) == b""


def test_the_number_follows_from_the_files_that_may_be_open():
    assert [Crowd(files=files).most for files in (10, 64, 256, 1024, 4096, 1 << 20)] == [
        8,
        16,
        64,
        384,
        1920,
        MOST_CONNECTIONS,
    ]
    assert Crowd().most == min(MOST_CONNECTIONS, (open_files() - 256) // 2)


def test_a_server_may_open_as_many_files_as_the_system_lets_it(folder, tools, upstream):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 1024:
        pytest.skip("this system lets nobody open 1,024 files")
    load_settings(folder)
    with open_workspace(folder):
        pass
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--json", "--no-pages"]
    with subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard)),
    ) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["endpoint"]
            address = ("127.0.0.1", httpx.URL(url).port)
            with ExitStack() as stack:
                streams = [stack.enter_context(closing(socket.create_connection(address))) for _ in range(150)]
                for raw in streams:
                    raw.sendall(wire("fast/paced", stream=True))
                for raw in streams:
                    raw.settimeout(30)
                    said = b""
                    while not said.endswith(b"0\r\n\r\n"):
                        more = raw.recv(65536)
                        assert more, said[-300:]
                        said += more
                    assert said.startswith(b"HTTP/1.1 200")
                    assert b"[DONE]" in said
        finally:
            server.terminate()
