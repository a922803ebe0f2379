"""What the gateway counts, as Prometheus reads it."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from slipway.gateway.metrics import Counts, SharedCounts, write_page
from slipway.release.channels import promote
from slipway.watch.live import SECONDS, read_live
from slipway.workspace import open_workspace


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_page_of_a_gateway_that_worked(served):
    served.chat("plain")
    served.chat("plain", stream=True)
    served.chat("fast/500")
    served.chat("nobody")
    found = samples(httpx.get(f"{served.url}/metrics").text)
    line = ("channel=plain", "endpoint=/v1/chat/completions", "release=lamps@1")
    assert found["slipway_requests_total", *line, "status=200"] == 2
    assert found["slipway_request_seconds_count", *line] == 2
    assert found[("slipway_request_seconds_bucket", *line[:2], "le=+Inf", line[2])] == 2
    assert found["slipway_first_token_seconds_count", *line] == 1
    assert found[("slipway_tokens_total", *line[:2], "kind=output", line[2])] >= 100
    assert found["slipway_upstream_failures_total", "code=engine_refused", "engine=fast"] == 2
    assert found["slipway_in_flight",] == 0
    assert found["slipway_journal_lag_bytes",] > 0
    unknown = ("channel=", "endpoint=/v1/chat/completions", "release=")
    assert found[("slipway_requests_total", *unknown, "status=404")] == 1
    assert found[("slipway_outcomes_total", *unknown[:2], "outcome=model_not_found", unknown[2])] == 1


def test_paths_that_nobody_knows_make_no_lines_of_their_own(served):
    for number in range(5):
        httpx.get(f"{served.url}/v1/x{number}")
        httpx.get(f"{served.url}/v1/models/x{number}")
    text = httpx.get(f"{served.url}/metrics").text
    assert "/v1/x1" not in text
    assert "models/x1" not in text


def test_workers_are_added_up(tmp_path: Path):
    one, two = Counts(), Counts()
    for counts, count in ((one, 2), (two, 3)):
        for _ in range(count):
            counts.line("/v1/models", "c", "r").answered(200, 0.02, None)
        counts.retries += count
    SharedCounts(tmp_path, "1").write(two)
    (tmp_path / "broken.counts").write_bytes(b"?")
    total = SharedCounts(tmp_path, "0").with_others(one)
    assert total.retries == 5
    page = samples(write_page(total, labels={"r": "app@1"}, gauges={}))
    line = ("channel=c", "endpoint=/v1/models", "release=app@1")
    assert page["slipway_requests_total", *line, "status=200"] == 5
    assert one.retries == 2


@pytest.mark.parametrize("seconds", [0.0, *SECONDS, 1000.0])
def test_buckets_hold_their_upper_bound(seconds):
    counts = Counts()
    counts.line("e", "c", "r").answered(200, seconds, seconds)
    page = samples(write_page(counts, labels={}, gauges={}))
    for bound in SECONDS:
        expected = 1 if seconds <= bound else 0
        assert page["slipway_request_seconds_bucket", "channel=c", "endpoint=e", f"le={bound}", "release=r"] == expected


def test_labels_are_escaped():
    counts = Counts()
    counts.line("e", 'a"b\\c\nd', "r").answered(200, 1, None)
    assert any('channel=a"b\\c\nd' in key for key in samples(write_page(counts, labels={}, gauges={})))


def test_the_last_half_minute_is_there_for_other_processes(two_channels, until):
    served = two_channels
    for _ in range(3):
        served.chat("plain")
    served.chat("spoilt")

    def seen() -> dict[str, float]:
        live = read_live(served.workspace.state / "workers")
        return {row.channel: row.requests_per_second for row in live.rows}

    assert until(lambda: len(seen()) == 2)
    live = read_live(served.workspace.state / "workers", labels={})
    plain, spoilt = live.rows
    assert (plain.channel, plain.error_rate) == ("plain", 0)
    assert (spoilt.channel, spoilt.error_rate) == ("spoilt", 1)
    assert plain.p50_s is not None
    assert 0 < plain.p50_s <= plain.p95_s
    assert plain.tokens_per_second > 0
    assert (live.workers, live.in_flight) == (1, 0)


@pytest.fixture
def two_channels(folder, tools):
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="500"), "spoilt", force=True)
        with tools.serving(workspace) as served:
            yield served
        assert read_live(workspace.state / "workers").workers == 0
