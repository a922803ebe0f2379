"""`slipway decide` from the outside: JSON on standard output, one clear line for what goes wrong."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.errors import NothingMeets, RequirementMissing

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


def test_a_missing_answer_is_named(application: Path) -> None:
    settings = application / "slipway.toml"
    settings.write_text(settings.read_text().replace("requests_per_day", "# requests_per_day"))
    done = runner.invoke(app, ["decide", "run", "--dir", str(application)])
    assert isinstance(done.exception, RequirementMissing)
