"""Faults around the gateway: its store, its disk, its clock, its settings, its workers, its upstream's connections."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace

import httpx
import pytest

from slipway.access.keys import create_key
from slipway.domain.access import Limits
from slipway.release.channels import promote
from slipway.tracing.ingest import drain
from slipway.upstream import names
from slipway.upstream.client import HttpClient
from slipway.workspace import open_workspace

HELLO = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def plain(folder, tools, upstream):
    """A gateway of its own with the channel `plain`."""
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            yield served


def test_an_upstream_that_closes_idle_connections_costs_no_request_and_no_second_one(plain, upstream):
    for number in range(10):
        assert plain.chat("plain", stream=bool(number % 2)).status_code == 200
        upstream.close_connections()
    assert upstream.state.asked["ok"] == 10


def test_a_name_that_moves_and_one_that_cannot_be_looked_up_cost_no_request(folder, tools, upstream, monkeypatch):
    """The upstream's name stands for an address where nobody is any more, then for nothing, then for a new one."""
    monkeypatch.setattr(names, "FRESH_S", 0.0)
    port = int(upstream.url.rpartition(":")[2].removesuffix("/v1"))
    known: list[str] = ["127.0.0.1"]
    asked = []

    async def look_up(host, _port):
        asked.append(host)
        if not known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return list(known)

    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text().replace(upstream.url, f"http://llm.test:{port}/v1"))
    with open_workspace(folder) as workspace:
        workspace = replace(workspace, http=HttpClient(lookup=look_up))
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            for addresses in (["127.0.0.1"], [], ["127.0.0.9", "127.0.0.1"], [], ["127.0.0.1"]):
                known[:] = addresses
                upstream.close_connections()
                before = len(asked)
                assert served.chat("plain").status_code == 200
                assert len(asked) > before
    assert set(asked) == {"llm.test"}
    assert upstream.state.asked["ok"] == 5


def test_a_locked_database_stops_nothing_and_loses_nothing(plain, until):
    database = plain.workspace.state / "store.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("begin exclusive")
        answers = [plain.chat("plain", stream=bool(number % 2)) for number in range(20)]
        assert httpx.get(f"{plain.url}/healthz").status_code == 200
        other.execute("rollback")
    assert {answer.status_code for answer in answers} == {200}
    drain(plain.workspace.store, wait_s=30)
    kept = {row.id for row in plain.workspace.store.traces.list(limit=100).rows}
    assert {answer.headers["x-slipway-trace"] for answer in answers} <= kept


def test_while_others_write_to_the_database_settings_are_read_all_the_same(plain, until):
    """What used up limits waits to be written down; what is read must not wait for that."""
    _, key = create_key(plain.workspace.store, "shop", limits=Limits(monthly_requests=1000))
    headers = {"authorization": f"Bearer {key}"}
    meter = plain.gateway._services.admission._meter
    assert until(lambda: plain.chat("plain", headers=headers).status_code == 200 and meter._month > 0)
    toml = plain.workspace.folder / "slipway.toml"
    with closing(sqlite3.connect(plain.workspace.state / "store.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert plain.chat("plain", headers=headers).status_code == 200
        time.sleep(0.3)  # by now somebody waits for the lock
        begun = time.monotonic()
        toml.write_text(toml.read_text().replace("raw_models = true", "raw_models = false"))
        plain.gateway.reload()
        assert until(lambda: plain.gateway._watcher.taken == 1, within_s=10)
        assert plain.chat("fast/ok").status_code == 404
        assert time.monotonic() - begun < 5
        other.execute("rollback")
    assert until(lambda: plain.gateway._watcher.problem == "")


def test_when_the_disk_is_full_bodies_go_before_numbers_and_answers_go_on(plain):
    counts, ledger = plain.gateway._counts, plain.gateway._services.ledger
    plain.chat("plain")
    (segment,) = (plain.workspace.state / "journal").glob("*.journal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    long = [{"role": "user", "content": "A private matter. " * 5000}]
    # To this process the disk ends a little behind the journal: a body of 90 KB finds no room, its numbers do.
    resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size + 40_000, hard))
    try:
        answers = [plain.chat("plain", messages=long) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert (counts.bodies_shed, counts.traces_lost) == (3, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size, hard))
        assert plain.chat("plain").status_code == 200
        assert (counts.bodies_shed, counts.traces_lost) == (3, 1)
        assert "full" in httpx.get(f"{plain.url}/readyz").json()["checks"]["traces"].lower()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    page = httpx.get(f"{plain.url}/metrics").text
    assert "slipway_bodies_shed_total 3" in page
    assert "slipway_traces_lost_total 1" in page
    for answer in answers:
        (span,) = plain.trace(answer.headers["x-slipway-trace"])
        assert (span.status, span.output_tokens, span.content) == ("ok", 50, {})
    assert ledger.last_failure


def test_above_its_bound_the_journal_keeps_numbers_only_until_there_is_room(folder, tools, upstream, until):
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text().replace("[server]", "[server]\njournal_mb = 0.05"))
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            counts = served.gateway._counts
            long = [{"role": "user", "content": "A private matter. " * 5000}]
            served.chat("plain", messages=long)
            assert until(lambda: served.chat("plain") is not None and counts.bodies_shed > 0)
            assert counts.traces_lost == 0
            last = served.chat("plain").headers["x-slipway-trace"]
            (span,) = served.trace(last)
            assert (span.content, span.output_tokens) == ({}, 50)


@pytest.mark.parametrize("step_s", [-86_400, 86_400], ids=["a day back", "a day on"])
def test_a_clock_that_is_set_during_a_request_makes_no_strange_trace(plain, monkeypatch, step_s):
    real = time.time_ns
    with httpx.stream(
        "POST",
        f"{plain.url}/v1/chat/completions",
        json={"model": "fast/paced", "messages": HELLO, "stream": True},
        timeout=60,
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        monkeypatch.setattr(time, "time_ns", lambda: real() + step_s * 1_000_000_000)
        assert "data: [DONE]" in list(lines)
        assert plain.chat("plain").status_code == 200
    monkeypatch.undo()
    (span,) = plain.trace(answer.headers["x-slipway-trace"])
    assert 0 < span.first_token_ns <= span.end_ns - span.start_ns < 60e9


def test_twenty_reloads_under_load_fail_no_request_and_mix_no_release(folder, tools, upstream, until):
    """Settings, engines and channels change under the requests; each answer is of one release, its own model too."""
    toml = folder / "slipway.toml"
    text = toml.read_text()
    with open_workspace(folder) as workspace:
        releases = [tools.plain_release(workspace, model=name) for name in ("blue", "green")]
        model_of = {release.id: release.model.name for release in releases}
        promote(workspace, releases[0], "plain", force=True)
        with tools.serving(workspace) as served:
            answers: list[httpx.Response] = []
            stop = threading.Event()

            def keep_asking() -> None:
                with httpx.Client(timeout=60) as client:
                    while not stop.is_set():
                        answers.append(
                            client.post(f"{served.url}/v1/chat/completions", json={"model": "plain", "messages": HELLO})
                        )

            threads = [threading.Thread(target=keep_asking) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                for number in range(20):
                    before = served.gateway.snapshot
                    bad = number % 5 == 4
                    good = text.replace("max_body_mb = 1", f"max_body_mb = {number + 2}")
                    toml.write_text(good.replace("[server]", "[sever]") if bad else good)
                    promote(workspace, releases[number % 2], "plain", force=True)
                    seen = served.gateway._watcher.taken + served.gateway._watcher.refusals
                    served.gateway.reload()
                    assert until(
                        lambda seen=seen: served.gateway._watcher.taken + served.gateway._watcher.refusals > seen
                    )
                    assert (served.gateway.snapshot.workspace is before.workspace) is bad
            finally:
                stop.set()
                for thread in threads:
                    thread.join(60)
            assert (served.gateway._watcher.taken, served.gateway._watcher.refusals) == (16, 4)
            page = httpx.get(f"{served.url}/metrics").text
            assert 'slipway_reloads_total{result="taken"} 16' in page
            drain(workspace.store, wait_s=30)
            rows = {row.id: row for row in workspace.store.traces.list(limit=10_000).rows}
    assert len(answers) > 40
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        row = rows[answer.headers["x-slipway-trace"]]
        assert row.release == answer.headers["x-slipway-release"]
        assert row.model == model_of[row.release]
        assert answer.json()["model"] == f"{row.model}-2026"
    assert {row.model for row in rows.values()} == {"blue", "green"}


def test_a_worker_that_is_killed_under_load_takes_only_its_own_connections_along(folder, tools, until, server):
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
    with server.run(folder, "--no-pages", "--workers", "2") as running:
        workers = server.children(running.told["pid"], "slipway.server")
        assert until(lambda: len(server.served_by(running)) == 2, within_s=60)
        stop = threading.Event()
        answered: set[str] = set()
        failures: list[list[str]] = [[] for _ in range(6)]

        def keep_asking(failed: list[str]) -> None:
            client = httpx.Client(timeout=60)
            while not stop.is_set():
                try:
                    answer = running.post(client)
                except httpx.HTTPError as wrong:
                    failed.append(repr(wrong))
                    client.close()
                    client = httpx.Client(timeout=60)
                else:
                    if answer.status_code == 200:
                        answered.add(answer.headers["x-slipway-trace"])
                    else:
                        failed.append(answer.text)
            client.close()

        threads = [threading.Thread(target=keep_asking, args=(failed,)) for failed in failures]
        for thread in threads:
            thread.start()
        assert until(lambda: len(answered) > 60)
        os.kill(workers[0], signal.SIGKILL)
        before = len(answered)
        assert until(lambda: len(answered) > before + 60)
        stop.set()
        for thread in threads:
            thread.join(60)
        # One request was under way on a connection of the killed worker, and one more may have been in its queue.
        assert all(len(failed) <= 2 for failed in failures), failures
        assert running.end() == 0
    assert answered <= server.trace_ids(folder)
