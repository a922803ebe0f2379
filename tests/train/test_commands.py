"""`slipway train` from the outside."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.errors import FileMissing, UnknownBackend
from slipway.workspace import Workspace
from tests.train.conftest import word_pairs

runner = CliRunner()
Write = Callable[[list[dict[str, str]]], None]


def test_the_report_and_the_table_need_no_torch(workspace: Workspace, write_pairs: Write) -> None:
    write_pairs(word_pairs())
    folder = str(workspace.folder)
    report = json.loads(runner.invoke(app, ["train", "report", "--dir", folder, "--json"]).stdout)
    assert report["pairs"] == 48
    assert "verdict" in report
    text = runner.invoke(app, ["train", "report", "--dir", folder]).stdout
    assert text.startswith(report["verdict"])
    rows = json.loads(runner.invoke(app, ["train", "methods", "--base", "gpt2", "--dir", folder, "--json"]).stdout)
    assert [row["method"] for row in rows] == ["lora", "output-layer", "all-layers"]


def test_wrong_input_is_named(application: Path) -> None:
    no_base = runner.invoke(app, ["train", "run", "--dir", str(application)])
    assert isinstance(no_base.exception, FileMissing)
    method = runner.invoke(app, ["train", "run", "--method", "lorra", "--base", ".", "--dir", str(application)])
    assert isinstance(method.exception, UnknownBackend)
    assert "Did you mean 'lora'" in str(method.exception)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_from_the_command_line_is_listed_and_shown(
    workspace: Workspace, tiny_base: Path, write_pairs: Write
) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    write_pairs(word_pairs())
    folder = ["--dir", str(workspace.folder), "--json"]
    asked = ["--base", str(tiny_base), "--steps", "2", "--length", "32", "--set", "rank=2"]
    done = runner.invoke(app, ["train", "run", *asked, *folder], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    run = json.loads(done.stdout)
    assert run["settings"]["rank"] == "2"
    assert [row["id"] for row in json.loads(runner.invoke(app, ["train", "list", *folder]).stdout)] == [run["id"]]
    assert json.loads(runner.invoke(app, ["train", "show", run["id"][:8], *folder]).stdout) == run
