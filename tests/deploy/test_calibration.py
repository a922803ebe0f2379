"""Own measurements: read from each generator, fitted to their cell only, and the error is told honestly."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.deploy.calibration import calibrate
from slipway.deploy.measurements import Place, read_measurements
from slipway.deploy.points import Point, point_of
from slipway.deploy.prediction import predict
from slipway.domain.errors import FileBroken, InputError, RowUnusable
from slipway.models.calibrations import joined, read_calibration, shipped, write_calibration

TODAY = date(2026, 11, 29)
PLACE = Place(model="llama-3.1-8b", hardware="l40s", weights="fp8", devices=1)
VLLM = {
    "model_id": "meta-llama/Llama-3.1-8B", "completed": 100, "duration": 60.0, "total_input_tokens": 102_400,
    "total_output_tokens": 25_600, "mean_ttft_ms": 180.0, "mean_tpot_ms": 21.0, "max_concurrency": 16,
}  # fmt: skip
GUIDELLM = {
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "concurrent", "streams": 16}, "backend": {"model": "llama-3.1-8b"}},
            "metrics": {
                name: {"successful": {"mean": value}}
                for name, value in (
                    ("prompt_token_count", 1024.0), ("output_token_count", 256.0), ("time_to_first_token_ms", 180.0),
                    ("inter_token_latency_ms", 21.0), ("request_concurrency", 15.9),
                )
            },
        }
    ]
}  # fmt: skip
AIPERF = {
    "time_to_first_token": {"unit": "ms", "avg": 180.0},
    "inter_token_latency": {"unit": "ms", "avg": 21.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1024.0},
    "output_sequence_length": {"unit": "tokens", "avg": 256.0},
    "input_config": {"loadgen": {"concurrency": 16}, "endpoint": {"model_names": ["llama-3.1-8b"]}},
}


def without(result: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in names} | more


MEASURED = GUIDELLM["benchmarks"][0]["metrics"]
FIGURES = without(AIPERF, "input_config")
UNDER_WAY = 16 / (0.18 + 255 * 0.021)
"""Requests a second that keep 16 under way."""
RESULTS = [
    pytest.param(VLLM, id="vLLM bench"),
    pytest.param(without(VLLM, "mean_tpot_ms", mean_e2el_ms=180.0 + 255 * 21.0), id="vLLM bench, without TPOT"),
    pytest.param(without(VLLM, request_rate=2.9, max_concurrency=400, completed=100, duration=100 / UNDER_WAY),
                 id="vLLM bench, paced by a rate below its limit"),
    pytest.param(without(VLLM, "max_concurrency", request_rate="inf", duration=100 / UNDER_WAY),
                 id="vLLM bench, no limit on concurrency"),
    pytest.param(GUIDELLM, id="guidellm"),
    pytest.param({"benchmarks": [{
        "args": {"strategy": {"type_": "concurrent", "streams": 16}}, "worker": {"backend_model": "llama-3.1-8b"},
        "metrics": MEASURED,
    }]}, id="guidellm 0.3"),
    pytest.param({"metadata": {"version": 2}, "benchmarks": [{
        "config": {"strategy": {"type_": "constant", "max_concurrency": 512}, "backend": {"model": "llama-3.1-8b"}},
        "metrics": MEASURED,
    }]}, id="guidellm 0.8, a rate below its limit"),
    pytest.param(AIPERF, id="aiperf"),
    pytest.param(FIGURES | {"input_config": {
        "models": {"items": [{"name": "llama-3.1-8b"}]},
        "phases": [{"kind": "warmup", "concurrency": 4}, {"kind": "profiling", "concurrency": 16}],
    }}, id="aiperf 0.13"),
    pytest.param(FIGURES | {"effective_concurrency": {"unit": "requests", "avg": 16.1}, "input_config": {
        "models": {"items": [{"name": "llama-3.1-8b"}]}, "phases": [{"kind": "profiling", "rate": 3.0}],
    }}, id="aiperf 0.13, paced by a rate"),
    pytest.param({"records": without(FIGURES, "time_to_first_token", ttft={"unit": "ms", "avg": 180.0}),
                  "input_config": AIPERF["input_config"]}, id="aiperf 0.1"),
    pytest.param(FIGURES | {"inter_token_latency": {"unit": "us", "avg": 21_000.0},
                            "input_config": {"model": ["llama-3.1-8b"], "concurrency": 16}}, id="genai-perf 0.0.8"),
    pytest.param(FIGURES | {"input_config": {
        "model_names": ["llama-3.1-8b"], "perf_analyzer": {"stimulus": {"concurrency": 16}},
    }}, id="genai-perf 0.0.16"),
    pytest.param(FIGURES | {"request_throughput": {"unit": "requests/sec", "avg": UNDER_WAY}, "input_config": {
        "model_names": ["llama-3.1-8b"], "perf_analyzer": {"stimulus": {"request_rate": 2.9}},
    }}, id="genai-perf, paced by a rate"),
]  # fmt: skip


@pytest.mark.parametrize("result", RESULTS)
def test_the_result_of_each_generator_is_the_same_point(result: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result))
    (point,) = read_measurements([file], Place(hardware="l40s", weights="fp8", devices=1))
    assert point.setup.shape.name == "llama-3.1-8b"
    assert (point.protocol.users, point.protocol.input_tokens, point.protocol.output_tokens) == (16, 1024, 256)
    assert (point.first_s, point.token_s) == pytest.approx((0.18, 0.021))


def test_results_that_were_appended_to_a_file_are_points_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(
        "\n".join(json.dumps(VLLM | {"max_concurrency": users}) for users in (1, 8, 32)), encoding="utf-8-sig"
    )
    points = read_measurements([file], PLACE)
    assert [point.protocol.users for point in points] == [1, 8, 32]


def test_a_load_generator_of_one_engine_says_which_one_it_was(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    for backend, engine in (("sglang", "sglang"), ("sglang-oai-chat", "sglang"), ("openai-chat", "vllm")):
        file.write_text(json.dumps(VLLM | {"backend": backend}))
        assert read_measurements([file], PLACE)[0].setup.engine == engine


TOO_LITTLE = [
    pytest.param(VLLM | {"completed": 0}, "none of its requests was answered", id="vLLM bench, all failed"),
    pytest.param(without(VLLM, "mean_ttft_ms"), "--percentile-metrics ttft,tpot", id="vLLM bench, no TTFT"),
    pytest.param(VLLM | {"duration": None}, "a figure in it is not a number", id="vLLM bench, null"),
    pytest.param(without(AIPERF, "time_to_first_token"), "Run it with --streaming", id="aiperf, not streamed"),
    pytest.param({"benchmarks": [{"mode": "asynchronous", "results": []}]}, "before 0.2", id="guidellm 0.1"),
    pytest.param({"benchmarks": [{"metrics": MEASURED | {"output_token_count": {"successful": {"mean": 0.0}}}}]},
                 "none of the requests of a benchmark in it was answered", id="guidellm, all failed"),
    pytest.param([{"benchmark": "vLLM benchmark", "metric": {}}], "not a result", id="a list"),
    pytest.param({"elapsed_time": 3.0, "requests_per_second": 5.0}, "not a result", id="vllm bench throughput"),
]  # fmt: skip


@pytest.mark.parametrize(("result", "why"), TOO_LITTLE)
def test_a_result_that_says_too_little_says_what_is_missing(result: Any, why: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result))
    with pytest.raises(FileBroken, match=why):
        read_measurements([file], PLACE)


def test_a_timed_trace_becomes_points(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    rows = "".join(f"{number},1000,101,200,2200\n" for number in range(80))
    file.write_text("arrival_s,input_tokens,output_tokens,ttft_ms,duration_ms\n" + rows)
    dated = "".join(f"2026-11-16T09:{at // 60:02d}:{at % 60:02d}Z;1000;101;0.2;2.2\n" for at in range(80))
    other = tmp_path / "other.csv"
    other.write_text("Time;prompt_tokens;completion_tokens;ttft_s;latency_s\n" + dated)
    points = read_measurements([file], PLACE)
    again = read_measurements([other], PLACE)
    assert [(one.first_s, one.token_s, one.protocol) for one in again] == [
        (pytest.approx(one.first_s), pytest.approx(one.token_s), one.protocol) for one in points
    ]
    other.write_text("time,input_tokens,output_tokens,ttft_ms,duration_ms\n1,2,3,,9\n")
    with pytest.raises(FileBroken, match="a request lacks a latency"):
        read_measurements([other], PLACE)
    assert len(points) == 4
    assert points[0].token_s == pytest.approx(0.02)
    assert points[0].protocol.users == 2, "one request a second that takes 2.2 s"


def test_a_file_that_says_too_little_is_named(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(VLLM))
    with pytest.raises(RowUnusable, match="--hardware"):
        read_measurements([file], Place())
    file.write_text("{}")
    with pytest.raises(FileBroken, match="not a result"):
        read_measurements([file], PLACE)
    file.write_text(json.dumps({key: value for key, value in VLLM.items() if key != "completed"}))
    with pytest.raises(FileBroken, match="it lacks 'completed'"):
        read_measurements([file], PLACE)


def own_points(factor: float) -> list[Point]:
    """What an L40S would measure that is slower than told, by a factor."""
    rows = [
        {
            "model": "llama-3.1-8b", "hardware": "l40s", "engine": "vllm", "weights": "fp8", "tp": "1",
            "isl": "1024", "osl": "256", "concurrency": str(users),
        }
        for users in (1, 8, 32, 64)
    ]  # fmt: skip
    asked = [point_of(row, name=row["concurrency"]) for row in rows]
    return [
        point_of(
            {**row, "ttft_ms": str(1e3 * factor * one.first_s.value), "tpot_ms": str(1e3 * factor * one.token_s.value)},
            name=one.id,
        )
        for row, one in zip(rows, predict(asked), strict=True)
    ]


def test_four_points_bring_the_error_down_and_change_nothing_else() -> None:
    points = own_points(1.5)
    found = calibrate(points, today=TODAY)
    assert found.before.token == pytest.approx(33.3, abs=1)
    assert found.after.token < 6
    assert found.unseen is not None
    assert found.unseen.token < 15
    after = joined(shipped(), found.calibration)
    row = {"model": "llama-3.1-70b", "hardware": "h100-sxm", "weights": "fp8", "tp": "4", "isl": "1024", "osl": "256"}
    other = point_of({**row, "concurrency": "8"}, name="other")
    assert predict([other], calibration=after) == predict([other])
    told = predict(points, calibration=after)
    assert {one.known for one in told} == {"inside"}
    before = predict(points)
    assert told[0].token_s.high / told[0].token_s.low < before[0].token_s.high / before[0].token_s.low


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = calibrate(own_points(1.2), today=TODAY)
    write_calibration(found.calibration, tmp_path / "c.json")
    again = read_calibration(tmp_path / "c.json")
    assert again.cells == found.calibration.cells
    assert again.effects.keys() == found.calibration.effects.keys()
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(FileBroken, match="not a calibration"):
        read_calibration(tmp_path / "c.json")


def test_nothing_to_fit_on_is_told() -> None:
    with pytest.raises(InputError, match="None of the points"):
        calibrate([], today=TODAY)


def test_the_command_writes_and_the_next_prediction_takes_it(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps(VLLM))
    call = ["deploy", "calibrate", str(result), "--hardware", "l40s", "--weights", "fp8", "--devices", "1"]
    done = CliRunner().invoke(app, [*call, "--dir", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["points"] == 1
    assert told["after"]["token"] < told["before"]["token"]
    assert (tmp_path / "calibration.json").is_file()
