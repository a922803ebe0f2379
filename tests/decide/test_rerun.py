"""A decision made again: what changed is listed, and whether the verdict turns."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.decide.decision import decide
from slipway.decide.rerun import decide_again
from slipway.domain.deployment import DecisionRecord
from slipway.domain.errors import NotFound
from slipway.workspace import open_workspace

runner = CliRunner()


def set_key(folder: Path, line: str) -> None:
    path = folder / "slipway.toml"
    path.write_text(path.read_text().replace("[decide]\n", f"[decide]\n{line}\n"))


def test_before_the_first_decision_the_command_is_named(application: Path) -> None:
    with open_workspace(application) as workspace, pytest.raises(NotFound, match="slipway decide run"):
        decide_again(workspace)


def test_nothing_changed_saves_nothing(application: Path) -> None:
    with open_workspace(application) as workspace:
        decide(workspace)
        again = decide_again(workspace)
        assert (again.changes, again.turned, again.saved) == ((), False, False)
        assert len(workspace.store.records.list(DecisionRecord)) == 1


def test_a_new_requirement_turns_the_verdict_and_is_named(application: Path) -> None:
    with open_workspace(application) as workspace:
        first = decide(workspace)
    set_key(application, "data_may_leave = false")
    with open_workspace(application) as workspace:
        again = decide_again(workspace)
        assert again.turned
        assert again.after.previous == first.id
        assert ("data_may_leave", "yes", "no") in [(one.what, one.before, one.after) for one in again.changes]
        assert "possible" in [one.before for one in again.changes if one.kind == "option"]
        assert len(workspace.store.records.list(DecisionRecord)) == 2


def test_a_new_price_in_ones_own_file_is_a_change_that_does_not_turn_the_verdict(application: Path) -> None:
    with open_workspace(application) as workspace:
        decide(workspace)
    (application / "prices.toml").write_text(
        '[models."openai/gpt-5-mini"]\ninput = 0.2\noutput = 1.5\nas_of = 2026-11-01\nsource = "contract 17"\n'
    )
    done = runner.invoke(app, ["decide", "rerun", "--dir", str(application)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "price: openai/gpt-5-mini, a million tokens in" in done.stdout
    assert "The verdict stays." in done.stdout
    shown = json.loads(runner.invoke(app, ["decide", "show", "--json", "--dir", str(application)]).stdout)
    sources = [source for what, _, source in shown["assumptions"] if what == "Price of openai/gpt-5-mini"]
    assert sources == ["prices.toml: contract 17, 2026-11-01"]


def test_traffic_that_was_measured_is_kept_until_new_traffic_is_given(application: Path, tmp_path: Path) -> None:
    calm, busy = tmp_path / "calm.csv", tmp_path / "busy.csv"
    calm.write_text("time,input,output\n" + "".join(f"{second},900,100\n" for second in range(0, 90_000, 60)))
    busy.write_text("time,input,output\n" + "".join(f"{second},900,100\n" for second in range(0, 90_000, 6)))

    def run(*command: str) -> dict[str, object]:
        done = runner.invoke(app, ["decide", *command, "--json", "--dir", str(application)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found: dict[str, object] = json.loads(done.stdout)
        return found

    first = run("run", "--traffic", str(calm))
    assert first["demand"]["requests_per_day"] == pytest.approx(1440)  # type: ignore[index]
    assert run("rerun")["saved"] is False
    again = run("rerun", "--traffic", str(busy))
    changed = {one["what"]: (one["before"], one["after"]) for one in again["changes"]}  # type: ignore[attr-defined]
    assert changed["requests_per_day"] == ("1,440", "14,400")
    assert changed["traffic"] == ("calm.csv", "busy.csv")
