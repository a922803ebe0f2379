"""`slipway serve` as a process of its own: addresses, signals, workers, and what survives kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import pytest

from slipway.domain.errors import AddressTaken, FileMissing, InputError, UnsafeAddress
from slipway.gateway.admission import is_loopback
from slipway.release.channels import promote
from slipway.server import bind, serve
from slipway.tracing.ingest import drain
from slipway.workspace import open_workspace

HELLO = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}


class Running:
    """A server process and what it said about itself."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process, self.told = process, told

    def post(self, client: httpx.Client | None = None, **more: Any) -> httpx.Response:
        url = f"{self.told['endpoint']}/chat/completions"
        return (client or httpx).post(url, json=HELLO | more, timeout=60)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(90)


@contextmanager
def run(folder: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--json", *options]
    # Errors go to a file: a pipe would stay open for as long as an ingester outlives its killed server.
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        with process.stdout:
            try:
                line = process.stdout.readline()
                if not line:
                    process.wait(60)
                    errors.seek(0)
                    pytest.fail(errors.read())
                yield Running(process, json.loads(line))
            finally:
                process.kill()
                process.wait(60)


@pytest.fixture
def ready(folder, tools) -> Path:
    """An application with the channel `plain`."""
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
    return folder


def trace_ids(folder: Path) -> set[str]:
    with open_workspace(folder) as workspace:
        drain(workspace.store, wait_s=60)
        return set(workspace.store.traces.ids())


def test_it_tells_its_address_serves_pages_and_endpoint_reads_settings_again_and_ends_in_order(ready, until):
    with run(ready) as server:
        told = server.told
        assert told["application"] == "lamps"
        assert told["endpoint"] == f"{told['url']}/v1"
        assert not told["keys_required"]
        assert server.post().status_code == 200
        assert httpx.get(f"{told['url']}/readyz").json()["ready"]
        assert httpx.get(told["page"], follow_redirects=True).status_code == 200
        assert server.post(model="fast/ok").status_code == 200
        toml = ready / "slipway.toml"
        toml.write_text(toml.read_text().replace("raw_models = true", "raw_models = false"))
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: server.post(model="fast/ok").status_code == 404)
        assert server.end() == 0


def test_a_taken_port_is_one_clear_line(ready):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(ready), "--port", port]
        for workers in ("1", "2"):
            ended = subprocess.run([*command, "--workers", workers], capture_output=True, text=True, timeout=60)
            assert ended.returncode == 1
            assert ended.stderr.count("\n") == 1
            assert f"port {port}: another program uses it" in ended.stderr
            assert "--port 0" in ended.stderr


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_what_only_this_machine_can_reach(host, alone):
    assert is_loopback(host) is alone


def test_plain_http_off_loopback_needs_a_word(ready):
    with pytest.raises(UnsafeAddress, match="--plain-http"):
        serve(ready, host="0.0.0.0", port=0)


def test_wrong_addresses_and_files_are_named(ready):
    with pytest.raises(InputError, match="is not an address of this machine"):
        bind("no.such.host.invalid", 0)
    with pytest.raises(AddressTaken, match="Cannot listen on 192"):
        bind("192.0.2.1", 0)
    toml = ready / "slipway.toml"
    toml.write_text(toml.read_text().replace("[server]", '[server]\ntls_certificate = "none.pem"'))
    with pytest.raises(FileMissing, match="tls_certificate"):
        serve(ready)


def test_https_off_loopback_asks_for_keys(ready):
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    try:
        command = [*line.split(), "-keyout", str(ready / "key.pem"), "-out", str(ready / "cert.pem")]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    toml = ready / "slipway.toml"
    toml.write_text(toml.read_text().replace("[server]", '[server]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"'))
    with run(ready, "--no-pages", "--host", "0.0.0.0") as server:
        assert server.told["url"].startswith("https://0.0.0.0:")
        assert server.told["keys_required"]
        url = server.told["endpoint"].replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(verify=ssl.create_default_context(cafile=str(ready / "cert.pem"))) as client:
            assert client.get(f"{url}/models").status_code == 401


def test_kill_9_right_after_the_last_byte_loses_no_trace(ready):
    answered: set[str] = set()
    with run(ready, "--no-pages") as server:
        stop = threading.Event()

        def keep_asking() -> None:
            with httpx.Client() as client:
                for number in range(10_000):
                    if stop.is_set():
                        return
                    try:
                        answer = server.post(client, stream=bool(number % 2))
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 200:
                        answered.add(answer.headers["x-slipway-trace"])

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(answered) < 60:
            time.sleep(0.01)
        os.kill(server.told["pid"], signal.SIGKILL)
        for thread in threads:
            thread.join(60)
    assert len(answered) >= 60
    assert answered <= trace_ids(ready)


def test_kill_9_of_everything_loses_no_span_that_a_sender_was_told_of(ready):
    told: set[str] = set()
    with run(ready, "--no-pages") as server:
        first = ingesters(server.told["pid"])

        def keep_sending() -> None:
            with httpx.Client() as client:
                for _ in range(10_000):
                    trace, span = os.urandom(16).hex(), os.urandom(8).hex()
                    one = {"traceId": trace, "spanId": span, "name": "step", "startTimeUnixNano": "1790000000000000000"}
                    body = {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}
                    try:
                        answer = client.post(f"{server.told['endpoint']}/traces", json=body, timeout=60)
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 200:
                        told.add(trace)

        threads = [threading.Thread(target=keep_sending) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(told) < 60:
            time.sleep(0.01)
        # The ingester in the middle of its work, and then the server in the middle of its answers.
        for pid in (*first, server.told["pid"]):
            os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(60)
    assert len(told) >= 60
    assert told <= trace_ids(ready)


def test_nothing_outlives_a_server_that_is_killed_while_it_starts(ready, until):
    for workers in ("1", "2"):
        with run(ready, "--no-pages", "--workers", workers) as server:
            os.kill(server.told["pid"], signal.SIGKILL)
        assert until(lambda: not running_for(ready), within_s=60)


def test_a_server_that_is_told_to_end_while_it_starts_ends(ready, until):
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(ready), "--no-pages"]
    started = []
    for after_s in (0.3, 0.6, 0.9, 1.2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        time.sleep(after_s)
        process.terminate()
    for process in started:
        process.wait(60)
    assert until(lambda: not running_for(ready), within_s=60)


def test_sigterm_lets_a_running_stream_end_and_empties_the_journal(ready, until):
    with run(ready, "--no-pages") as server:
        first = ingesters(server.told["pid"])
        assert len(first) == 1
        os.kill(first[0], signal.SIGKILL)
        assert until(lambda: ingesters(server.told["pid"]) not in ([], first), within_s=60)
        url = f"{server.told['endpoint']}/chat/completions"
        body = HELLO | {"model": "fast/paced", "stream": True}
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert "data: [DONE]" in rest
        trace = answer.headers["x-slipway-trace"]
        assert server.process.wait(90) == 0
    # The ingester's last act was to empty the journal.
    assert not list((ready / ".slipway" / "journal").glob("*.journal"))
    with open_workspace(ready) as workspace:
        assert workspace.store.traces.get(trace).root.status == "ok"


def test_two_workers_share_a_port_and_a_killed_one_comes_back(ready, until):
    with run(ready, "--no-pages", "--workers", "2") as server:
        workers = children(server.told["pid"], "slipway.server")
        assert len(workers) == 2
        assert until(lambda: len(served_by(server)) == 2, within_s=60)
        os.kill(workers[0], signal.SIGKILL)
        assert until(lambda: len(set(children(server.told["pid"], "slipway.server")) - {workers[0]}) == 2, within_s=60)
        assert until(lambda: server_answers(server), within_s=60)
        assert server.end() == 0
    assert not children(server.told["pid"], "slipway")


def server_answers(server: Running) -> bool:
    try:
        return server.post().status_code == 200
    except httpx.HTTPError:
        return False


def served_by(server: Running) -> set[int]:
    """Which workers answered, seen by their journals."""
    for _ in range(4):
        server.post()
    folder = Path(f"/proc/{server.told['pid']}/cwd")
    assert folder.exists()
    found = set()
    for worker in children(server.told["pid"], "slipway.server"):
        targets = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
        if any(target.endswith(".journal") for target in targets):
            found.add(worker)
    return found


def ingesters(pid: int) -> list[int]:
    return children(pid, "slipway.tracing.ingest")


def running_for(folder: Path) -> list[str]:
    """Command lines of the processes that serve the application in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.append((entry / "cmdline").read_bytes().decode())
    return [line for line in found if str(folder) in line]


def children(pid: int, module: str) -> list[int]:
    """Running processes that this one started with `python -m module`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == pid and module.encode() in command:
            found.append(int(entry.name))
    return found
