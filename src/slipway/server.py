"""Serves an application: gateway and pages in one or more processes, and the ingester beside them."""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from slipway.config.reader import load_settings
from slipway.config.settings import ServerSettings
from slipway.domain.errors import AddressTaken, FileMissing, InputError, SlipwayError, UnsafeAddress
from slipway.gateway.admission import is_loopback

GRACE_S = 30
"""How long running requests may take to end after SIGTERM."""
START_WITHIN_S = 60.0
QUICK_DEATH_S = 5.0
SWITCH_S = 0.0005
"""How long a thread that looks after something may keep the one that answers waiting; Python's own 5 ms are felt."""
YOUNG_OBJECTS = 5_000
"""How many new objects the collector lets pass before it looks for cycles among them."""
log = logging.getLogger("slipway.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a server can be reached, told once it answers."""

    application: str
    url: str
    workers: int
    keys_required: bool
    pages: bool

    @property
    def endpoint(self) -> str:
        return f"{self.url}/v1"


OnReady = Callable[[Serving], None]


def serve(
    folder: Path | str,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int = 1,
    open_pages: bool = True,
    plain_http: bool | None = None,
    on_ready: OnReady | None = None,
) -> None:
    """Serves the application in `folder` until SIGTERM or SIGINT; running requests get 30 s to end.

    What is not given comes from [server] in slipway.toml; port 0 takes a free one. `on_ready` is told the address once
    it answers. Without `open_pages` only /v1 and the probes are served. SIGHUP reads slipway.toml again.
    Raises `AddressTaken`, `UnsafeAddress`, `NotAnApplication`, `ConfigError`, `StoreError`.
    """
    folder = Path(folder).resolve()
    settings = load_settings(folder)
    server = settings.server
    host = server.host if host is None else host
    tls = _tls(server, folder)
    if not is_loopback(host) and not tls and not (server.plain_http if plain_http is None else plain_http):
        raise UnsafeAddress(host)
    if workers < 1:
        raise InputError(f"A server needs at least one worker; {workers} is none.")
    if server.otlp_grpc_port:
        from slipway.gateway.otlp_grpc import load_grpc

        load_grpc()
        bind(host, server.otlp_grpc_port).close()
    bound = bind(host, server.port if port is None else port, shared=workers > 1)
    shown = f"[{host}]" if ":" in host else host
    serving = Serving(
        application=settings.application.name,
        url=f"http{'s' if tls else ''}://{shown}:{bound.getsockname()[1]}",
        workers=workers,
        keys_required=keys_required(server, host),
        pages=open_pages,
    )
    ready = on_ready or (lambda _: None)
    with bound, Ingester(folder):
        if workers == 1:
            _work(folder, bound, serving, worker=0, tls=tls, on_ready=ready)
        else:
            Workers(folder, bound, serving).run(ready)


def keys_required(server: ServerSettings, host: str) -> bool:
    """Whether /v1 asks for API keys: what [server] require_keys says, else wherever others can reach it."""
    return not is_loopback(host) if server.require_keys is None else server.require_keys


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket that does not listen yet; `shared` lets further processes listen on its port.

    Raises `AddressTaken`, `InputError`.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as wrong:
        raise InputError(f"'{host}' is not an address of this machine: {wrong.strerror}. Try 127.0.0.1.") from wrong
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            # Without a look first, two servers would silently share a port and its traffic.
            with socket.socket(family, kind, protocol) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as wrong:
        bound.close()
        reason = "another program uses it" if wrong.errno == errno.EADDRINUSE else (wrong.strerror or str(wrong))
        raise AddressTaken(host, port, reason) from wrong
    bound.set_inheritable(True)
    return bound


# One process -----------------------------------------------------------------------------------------------------


def _work(
    folder: Path, bound: socket.socket, serving: Serving, *, worker: int, tls: tuple[str, str] | None, on_ready: OnReady
) -> None:
    """Serves in this process until it is told to stop."""
    import uvicorn

    from slipway.gateway.app import Gateway
    from slipway.gateway.crowd import Crowd
    from slipway.gateway.door import Door
    from slipway.workspace import open_workspace

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            # What was loaded to start stays for ever; the collector need not look at it again and again. A request
            # leaves next to no cycles behind, so looking after every few of them finds nothing either.
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS, 10, 20)
            sys.setswitchinterval(SWITCH_S)
            if told_to_end:
                self.should_exit = True
            elif self.started:
                on_ready(serving)

    # uvicorn looks at signals while it serves, and raises them again once it is done: what ends a server in order is no
    # failure. One that comes before that is kept, or a server that is told to end while it starts would live on.
    told_to_end: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told_to_end.append(number))
    Door.crowd = Crowd()
    with open_workspace(folder) as workspace:
        gateway = Gateway(
            workspace,
            keys_required=serving.keys_required,
            worker=str(worker),
        )
        server = workspace.settings.server
        if server.otlp_grpc_port:
            from slipway.gateway.otlp_grpc import GrpcDoor

            host = bound.getsockname()[0]
            gateway.grpc = GrpcDoor(
                gateway,
                f"[{host}]:{server.otlp_grpc_port}" if ":" in host else f"{host}:{server.otlp_grpc_port}",
                largest=round(server.max_body_mb * 1_000_000),
                tls=(Path(tls[0]).read_bytes(), Path(tls[1]).read_bytes()) if tls else None,
            )
        if serving.pages:
            from slipway.web.app import create_app

            gateway.fallback = create_app(workspace, host=bound.getsockname()[0])
        config = uvicorn.Config(
            gateway,
            interface="asgi3",
            http=Door,
            loop="auto",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=75,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )
        Server(config).run(sockets=[bound])


def _tls(server: ServerSettings, folder: Path) -> tuple[str, str] | None:
    if not server.tls_certificate:
        return None
    files = (folder / server.tls_certificate, folder / server.tls_key)
    for file in files:
        if not file.is_file():
            raise FileMissing(file, next_step="Correct [server] tls_certificate and tls_key.")
    return str(files[0]), str(files[1])


# Beside it -------------------------------------------------------------------------------------------------------


class Child:
    """A process that is started again when it dies, ever more slowly while it dies at once."""

    def __init__(self, command: Sequence[str], *, name: str) -> None:
        self._command = list(command)
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause_s = 0.0
        self._again_at = 0.0

    def start(self, pass_fds: Sequence[int] = ()) -> None:
        self._started = time.monotonic()
        # In a group of its own, so that Ctrl-C reaches the server alone, which ends its children in order. Not in a
        # session of its own: kernels that share time out by session would give an ingester as much as its server.
        # Standard output is the server's own: who reads it must not wait for a child that outlives a killed server.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            pass_fds=pass_fds,
        )

    def look_after(self, pass_fds: Sequence[int] = ()) -> None:
        """Starts the process again if it died and its pause is over."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            lived_s = now - self._started
            self._pause_s = min(30.0, max(0.2, self._pause_s * 2)) if lived_s < QUICK_DEATH_S else 0.0
            self._again_at = now + self._pause_s
            log.warning("%s ended with %s and is started again", self._name, self._process.returncode)
            self._process = None
        if self._process is None and now >= self._again_at:
            self.start(pass_fds)

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, until: float) -> None:
        """Waits for the end; kills what is still there at `until` (monotonic)."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Ingester:
    """The process that takes traces from the journal into the store, for as long as the server lives."""

    def __init__(self, folder: Path) -> None:
        self._command = [sys.executable, "-m", "slipway.tracing.ingest", str(folder)]
        self._journal = folder / ".slipway" / "journal"
        self._child = Child([*self._command, "--parent", str(os.getpid())], name="the ingester")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="ingester", daemon=True)

    def __enter__(self) -> Ingester:
        self._child.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        # Its last act is to empty the journal, which the workers have closed by now.
        self._child.signal(signal.SIGTERM)
        self._child.wait(time.monotonic() + GRACE_S)
        # One that was still starting when it was told to end has emptied nothing yet.
        if any(self._journal.glob("*.journal")):
            try:
                subprocess.run([*self._command, "--once"], timeout=GRACE_S, check=False)
            except subprocess.TimeoutExpired:
                log.warning("the journal stays until the next start: the store does not answer")

    def _look_after(self) -> None:
        while not self._stop.wait(1.0):
            self._child.look_after()


class Workers:
    """Several processes that listen on one port; the kernel spreads the connections."""

    def __init__(self, folder: Path, bound: socket.socket, serving: Serving) -> None:
        self._bound = bound
        self._serving = serving
        self._stopping = False
        address, port = bound.getsockname()[:2]
        command = [sys.executable, "-m", "slipway.server", str(folder), "--host", address, "--port", str(port)]
        command += ["--workers", str(serving.workers), "--parent", str(os.getpid())]
        if serving.keys_required:
            command.append("--keys-required")
        if not serving.pages:
            command.append("--no-pages")
        self._children = [
            Child([*command, "--worker", str(number)], name=f"worker {number}") for number in range(serving.workers)
        ]

    def run(self, on_ready: OnReady) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        for child in self._children:
            child.start()
        try:
            self._wait_until_one_answers()
            if not self._stopping:
                on_ready(self._serving)
            while not self._stopping:
                time.sleep(0.2)
                for child in self._children:
                    if not self._stopping:
                        child.look_after()
        finally:
            for child in self._children:
                child.signal(signal.SIGTERM)
            until = time.monotonic() + GRACE_S + 5
            for child in self._children:
                child.wait(until)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        for child in self._children:
            child.signal(number)

    def _wait_until_one_answers(self) -> None:
        until = time.monotonic() + START_WITHIN_S
        while not self._stopping and time.monotonic() < until:
            try:
                with socket.create_connection(self._bound.getsockname()[:2], timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        if not self._stopping:
            raise SlipwayError("No worker answered within a minute. Its messages above say why.")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m slipway.server FOLDER …`: one of several workers, started by `serve`."""
    parser = argparse.ArgumentParser(prog="slipway.server", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the application")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--keys-required", action="store_true")
    parser.add_argument("--no-pages", action="store_true")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    settings = load_settings(options.folder)
    serving = Serving(
        application=settings.application.name,
        url="",
        workers=options.workers,
        keys_required=options.keys_required,
        pages=not options.no_pages,
    )
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((options.host, options.port))
        _end_with_parent(options.parent)
        tls = _tls(settings.server, options.folder)
        _work(options.folder, bound, serving, worker=options.worker, tls=tls, on_ready=lambda _: None)
    return 0


def _end_with_parent(parent: int) -> None:
    """Ends this worker in order when the process that started it is gone."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
