"""A gateway whose store is in Postgres, while its server fails in every way: no answer and no trace may be lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest

from slipway.access.keys import create_key
from slipway.domain.access import Limits
from slipway.release.channels import promote
from slipway.tracing.ingest import drain
from slipway.workspace import open_workspace

psycopg = pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")


@contextmanager
def stopped(server, _url):
    server.stop()
    yield
    server.start()


@contextmanager
def killed(server, _url):
    server.kill()
    yield
    server.start()


@contextmanager
def cut(server, url):
    yield
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")


@contextmanager
def locked(_server, url):
    with psycopg.connect(url) as other:
        other.execute("lock table trace, record, spending, journal_position in access exclusive mode")
        yield


@contextmanager
def hanging(server, _url):
    pids = server.tree()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def crowded(server, _url):
    with server.full_of_connections():
        yield


@contextmanager
def impatient(server, _url):
    server.sql("alter system set statement_timeout = '1ms'")
    server.sql("select pg_reload_conf()")
    yield
    server.sql("alter system reset statement_timeout")
    server.sql("select pg_reload_conf()")


@contextmanager
def read_only(_server, url):
    """As after a fail-over to a server that only follows another."""
    tables = ("trace", "spending", "journal_position")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(
            "create function refuse() returns trigger language plpgsql as "
            "$$ begin raise exception 'cannot write in a read-only transaction' using errcode = '25006'; end $$"
        )
        for table in tables:
            other.execute(f"create trigger refuse before insert on {table} for each row execute function refuse()")
        yield
        for table in tables:
            other.execute(f"drop trigger refuse on {table}")


FAULTS = [
    pytest.param(stopped, True, id="the server is stopped and started again"),
    pytest.param(killed, True, id="the server is killed and recovers"),
    pytest.param(cut, False, id="all connections are cut"),
    pytest.param(locked, True, id="tables are locked"),
    pytest.param(hanging, True, id="the server hangs"),
    pytest.param(crowded, True, id="there are too many connections"),
    pytest.param(impatient, False, id="the server cancels what takes a millisecond"),
    pytest.param(read_only, False, id="the server takes no writes"),
]


@pytest.fixture
def shop(folder, tools, upstream, own_postgres, own_postgres_url):
    """A gateway of its own over Postgres with the channel `plain`; a server that runs again at the end."""
    with (folder / "slipway.toml").open("a") as settings:
        settings.write(f'\n[store]\nurl = "{own_postgres_url}"\n')
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            yield served
            if not own_postgres.runs():
                own_postgres.start()


def traces_of(served, count, key):
    headers = {"authorization": f"Bearer {key}"}
    answers = [served.chat("plain", stream=bool(number % 2), headers=headers) for number in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.headers["x-slipway-trace"] for answer in answers]


@pytest.mark.parametrize(("fault", "silences"), FAULTS)
def test_whatever_befalls_the_server_no_answer_and_no_trace_is_lost(
    shop, own_postgres, own_postgres_url, until, fault, silences
):
    store = shop.workspace.store
    stored, key = create_key(store, "shop", limits=Limits(monthly_budget_micros=10**9))
    assert until(lambda: len(shop.gateway.snapshot.keys) == 1)
    asked = traces_of(shop, 10, key)
    drain(store)
    asked += traces_of(shop, 10, key)
    with fault(own_postgres, own_postgres_url):
        asked += traces_of(shop, 20, key)
        ready = httpx.get(f"{shop.url}/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        began = time.monotonic()
        page = httpx.get(f"{shop.url}/metrics", timeout=20)
        assert page.status_code == 200
        assert time.monotonic() - began < 10
        if silences:
            assert "slipway_store_up 0" in page.text
            assert "slipway_journal_lag_bytes 0" not in page.text
    asked += traces_of(shop, 10, key)

    # Settings are read again, and what was used is written down: by connections that open by themselves.
    _, later = create_key(store, "later")
    assert until(
        lambda: httpx.get(f"{shop.url}/v1/models", headers={"authorization": f"Bearer {later}"}).status_code == 200,
        within_s=60,
    )
    assert until(lambda: "slipway_store_up 1" in httpx.get(f"{shop.url}/metrics", timeout=20).text)
    month = time.strftime("%Y-%m", time.gmtime())
    counted = lambda: store.spending.of(month)[stored.holder].requests  # noqa: E731
    shop.gateway._services.admission._leases.close()
    assert until(lambda: counted() == len(asked), within_s=60), counted()
    drain(store, wait_s=60)
    with store.database.reading() as connection:
        rows = connection.exec_driver_sql("select trace from trace join span on trace_id = trace.id").all()
    there = Counter(bytes(row.trace).hex() for row in rows)
    assert set(asked) <= there.keys()
    assert set(there.values()) == {1}
    assert store.positions.damaged() == 0


def test_without_its_server_a_gateway_says_so_and_does_not_start(folder, own_postgres, own_postgres_url):
    with (folder / "slipway.toml").open("a") as settings:
        settings.write(f'\n[store]\nurl = "{own_postgres_url}"\n')
    own_postgres.stop()
    try:
        command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        own_postgres.start()
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if "is not available" in line]
    assert told
    assert "Start the server, or correct [store] url." in " ".join(told)


def test_a_server_that_hangs_keeps_no_gateway_from_ending(folder, tools, upstream, own_postgres, own_postgres_url):
    with (folder / "slipway.toml").open("a") as settings:
        settings.write(f'\n[store]\nurl = "{own_postgres_url}"\n')
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            assert served.chat("plain").status_code == 200
            with hanging(own_postgres, own_postgres_url):
                time.sleep(0.5)
                began = time.monotonic()
                served.server.should_exit = True
                while served.gateway._journal._handle >= 0 and time.monotonic() - began < 40:
                    time.sleep(0.1)
                assert time.monotonic() - began < 30
            # Who was left waiting ends by itself once there is an answer.
            for thread in (served.gateway._watcher._thread, served.gateway._watcher._writer):
                thread.join(30)
                assert not thread.is_alive()
