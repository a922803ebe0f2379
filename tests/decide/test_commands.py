"""`slipway decide` from the outside: JSON on standard output, one clear line for what goes wrong."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.errors import InputError, NothingMeets, RequirementMissing
from slipway.domain.trace import Span
from slipway.workspace import open_workspace

runner = CliRunner()


def run(folder: Path, *command: str) -> str:
    done = runner.invoke(app, ["decide", *command, "--dir", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_decision_is_made_shown_and_listed(application: Path) -> None:
    made = json.loads(run(application, "run", "--json"))
    assert made["recommended"] in {option["name"] for option in made["options"]}
    assert json.loads(run(application, "show", "--json")) == made
    assert [row["id"] for row in json.loads(run(application, "list", "--json"))] == [made["id"]]
    assert made["verdict"] in run(application, "run")
    assert json.loads(run(application, "report", "--json"))["record"] == made["id"]


def test_the_memo_is_one_html_file(application: Path, tmp_path: Path) -> None:
    pytest.importorskip("slipway.web.report", reason="the pages are not there")
    made = json.loads(run(application, "run", "--json"))
    run(application, "report", "--html", str(tmp_path / "memo" / "decision.html"))
    html = (tmp_path / "memo" / "decision.html").read_text()
    assert made["recommended"] in html
    assert "<script" not in html


def test_answers_are_written_from_the_command_line(application: Path) -> None:
    asked = json.loads(run(application, "ask", "-a", "requests_per_day=777", "-a", "skills=strong", "--json"))
    assert (asked["requests_per_day"], asked["skills"]) == (777, "strong")


def test_answers_are_asked_for_one_by_one(application: Path) -> None:
    done = runner.invoke(app, ["decide", "ask", "--dir", str(application)], input="many\n900\n\n\n")
    assert done.exit_code == 0, done.output
    assert "requests_per_day = 900" in (application / "slipway.toml").read_text()


def test_nothing_meets_prints_the_record_and_ends_with_3(application: Path) -> None:
    run(application, "ask", "-a", "monthly_budget=5")
    done = runner.invoke(app, ["decide", "run", "--json", "--dir", str(application)])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["recommended"] == ""
    assert isinstance(runner.invoke(app, ["decide", "run", "--dir", str(application)]).exception, NothingMeets)


def test_own_traces_are_replayed_for_a_decision_with_a_limit(application: Path) -> None:
    start = datetime(2026, 11, 2, tzinfo=UTC)
    gaps = np.cumsum(np.where(np.arange(600) % 100 == 0, 300.0, 0.05))
    with open_workspace(application) as workspace:
        workspace.store.traces.add([_span(number, start + timedelta(seconds=gap)) for number, gap in enumerate(gaps)])
    run(application, "ask", "-a", "first_token_ms=500", "-a", "open_models=llama-3.1-8b", "-a", "gpu_hourly=2.5")
    made = json.loads(run(application, "run", "--traces", "--json"))
    assert made["demand"]["traffic"]["source"] == "own traces"
    assert made["demand"]["traffic"]["safe_use"] > 0
    told = {what: source for what, _, source in made["assumptions"]}
    assert told["Safe utilisation in the busiest minute"] == "replay of own traces within the limits on latency"
    again = json.loads(run(application, "rerun", "--traces", "--json"))
    assert not again["changes"]


def _span(number: int, start: datetime) -> Span:
    started = int(start.timestamp() * 1e9)
    return Span(
        trace=f"{number:032x}",  # type: ignore[arg-type]
        span=f"{number:016x}",  # type: ignore[arg-type]
        name="answer", kind="request", start_ns=started, end_ns=started + 1000, project="lamps", input_tokens=900,
        output_tokens=150,
    )  # fmt: skip


def test_a_missing_answer_is_named(application: Path) -> None:
    settings = application / "slipway.toml"
    settings.write_text(settings.read_text().replace("requests_per_day", "# requests_per_day"))
    done = runner.invoke(app, ["decide", "run", "--dir", str(application)])
    assert isinstance(done.exception, RequirementMissing)


WEEK = "time,tokens\n" + "".join(f"{second},{900 + second % 7}\n" for second in range(0, 200_000, 300))


def test_a_csv_of_two_columns_becomes_a_printed_decision_without_an_application(tmp_path: Path) -> None:
    (tmp_path / "traffic.csv").write_text(WEEK)
    printed = run(tmp_path, "run", "--traffic", str(tmp_path / "traffic.csv"))
    assert "traffic.csv: 667 requests in 2.32 days, 288 a day" in printed
    assert "Take openai/gpt-5-mini by API" in printed
    assert "Confidence: cheapest in" in printed
    assert "Nothing was saved." in printed
    assert list(tmp_path.iterdir()) == [tmp_path / "traffic.csv"]


def test_answers_on_the_command_line_hold_for_one_run(application: Path) -> None:
    kept = json.loads(run(application, "run", "--json"))
    tried = json.loads(run(application, "run", "-a", "data_may_leave=no", "--json"))
    assert tried["recommended"] != kept["recommended"]
    assert json.loads(run(application, "show", "--json")) == kept
    assert "data_may_leave" not in (application / "slipway.toml").read_text()


def test_without_traffic_and_without_an_application_the_next_step_is_named(tmp_path: Path) -> None:
    done = runner.invoke(app, ["decide", "run", "--dir", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "slipway decide run --traffic FILE" in str(done.exception)


def test_what_a_csv_says_is_written_into_the_settings(application: Path, tmp_path: Path) -> None:
    (tmp_path / "traffic.csv").write_text(WEEK)
    run(application, "traffic", str(tmp_path / "traffic.csv"), "--keep")
    written = (application / "slipway.toml").read_text()
    assert "requests_per_day = 288" in written
    assert "input_tokens = 767.5" in written or "input_tokens = 767.6" in written


def test_cases_are_checked_from_the_command_line(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(
        '{"id": "a", "kind": "gpu_cost", "inputs": {"gpus": 2, "usd_per_gpu_hour": 2}, "expected": 96}\n'
        '{"id": "b", "kind": "gpu_cost", "inputs": {}, "expected": 96}\n'
    )
    done = runner.invoke(app, ["decide", "evaluate", "--cases", str(cases)], catch_exceptions=False)
    assert "1 of 1 within their tolerance; 1 skipped, with the reason." in done.stdout
    rows = json.loads(runner.invoke(app, ["decide", "evaluate", "--cases", str(cases), "--json"]).stdout)
    assert [row["within"] for row in rows] == [True, None]
