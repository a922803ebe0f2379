"""What the page of live traffic adds up: stretches of time, several workers, latencies from buckets."""

import json
import os
import time

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.watch.live import OLD_AFTER_S, SECONDS, LiveWriter, Passing, percentile, read_live


def passing(requests: int, *, channel: str = "support", bucket: int = 2, errors: int = 0, **more: int) -> Passing:
    buckets = [0] * (len(SECONDS) + 1)
    buckets[bucket] = requests
    return Passing(channel=channel, release="r1", requests=requests, errors=errors, buckets=buckets, **more)


def test_only_the_last_half_minute_counts(tmp_path):
    writer = LiveWriter(tmp_path, "0", started_s=100.0)
    writer.write([passing(50, errors=5)], in_flight=2, now_s=110.0)
    (row,) = read_live(tmp_path).rows
    assert (row.requests_per_second, row.error_rate) == (5.0, 0.1)
    for at in range(120, 200, 10):
        writer.write([passing(50 + at, errors=5)], in_flight=0, now_s=float(at))
    (row,) = read_live(tmp_path).rows
    assert (row.requests_per_second, row.error_rate) == (1.0, 0.0)


def test_a_channel_that_is_quiet_is_not_shown(tmp_path):
    writer = LiveWriter(tmp_path, "0", started_s=0.0)
    for at in (1.0, 40.0, 80.0):
        writer.write([passing(7)], in_flight=0, now_s=at)
    live = read_live(tmp_path)
    assert (live.workers, live.rows) == (1, [])


def test_workers_are_added_up_and_the_busiest_channel_comes_first(tmp_path):
    for worker in ("0", "1"):
        writer = LiveWriter(tmp_path, worker, started_s=0.0)
        lines = [passing(10, channel="quiet"), passing(40, cost_micros=1_000, output_tokens=80)]
        writer.write(lines, in_flight=1, now_s=20.0)
    live = read_live(tmp_path, labels={"r1": "lamps@1"})
    assert (live.workers, live.in_flight) == (2, 2)
    assert [(row.channel, row.release, row.requests_per_second) for row in live.rows] == [
        ("support", "lamps@1", 4.0),
        ("quiet", "lamps@1", 1.0),
    ]
    assert live.rows[0].tokens_per_second == 8.0
    assert live.rows[0].dollars_per_hour == pytest.approx(2_000 / 20 * 3600 / 1e6)


def test_two_endpoints_of_one_release_are_one_line(tmp_path):
    writer = LiveWriter(tmp_path, "0", started_s=0.0)
    writer.write([passing(10), passing(20)], in_flight=0, now_s=10.0)
    (row,) = read_live(tmp_path).rows
    assert row.requests_per_second == 3.0


def test_a_worker_that_was_killed_says_nothing_any_more(tmp_path):
    LiveWriter(tmp_path, "0", started_s=0.0).write([passing(10)], in_flight=0, now_s=10.0)
    (tmp_path / "1.live").write_bytes(b"cut off")
    assert read_live(tmp_path).workers == 1
    long_ago = time.time() - OLD_AFTER_S - 1
    os.utime(tmp_path / "0.live", (long_ago, long_ago))
    assert read_live(tmp_path).workers == 0


def test_percentiles_lie_within_their_bucket():
    counts = [0] * (len(SECONDS) + 1)
    assert percentile(counts, 0.5) is None
    counts[3] = 100  # from 25 to 50 ms
    assert percentile(counts, 0.5) == pytest.approx(0.0375)
    assert percentile(counts, 1.0) == pytest.approx(0.05)
    counts[-1] = 1000  # longer than all bounds
    assert percentile(counts, 0.95) == SECONDS[-1]


def test_the_command_says_what_goes_through(workspace):
    def run(*more: str) -> str:
        done = CliRunner().invoke(app, ["watch", "live", "--dir", str(workspace.folder), *more])
        assert done.exit_code == 0, done.output
        return done.output

    assert "No gateway runs here: slipway serve" in run()
    LiveWriter(workspace.state / "workers", "0", started_s=0.0).write([passing(30)], in_flight=1, now_s=10.0)
    assert "3.00" in run()
    assert json.loads(run("--json"))["rows"][0]["requests_per_second"] == 3.0
