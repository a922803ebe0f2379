"""`slipway deploy` from the outside."""

import json
from pathlib import Path

from typer.testing import CliRunner

from slipway.cli.main import app

runner = CliRunner()


def test_plan_emit_edit_check(application: Path) -> None:
    plan = runner.invoke(app, ["deploy", "plan", "--model", "llama-3.1-8b", "--dir", str(application), "--json"])
    assert plan.exit_code == 0, plan.output
    made = json.loads(plan.stdout)
    assert made["chosen"]["replicas"] >= 1
    assert json.loads(runner.invoke(app, ["deploy", "show", "--dir", str(application), "--json"]).stdout) == made

    emitted = runner.invoke(app, ["deploy", "emit", "kubernetes", "--dir", str(application), "--json"])
    assert emitted.exit_code == 0, emitted.output
    folder = application / "deploy"
    assert str(folder / "gateway.yaml") in json.loads(emitted.stdout)["files"]
    assert json.loads(runner.invoke(app, ["deploy", "check", str(folder), "--json"]).stdout) == {
        "ok": True,
        "problems": [],
    }

    manifest = folder / "gateway.yaml"
    manifest.write_text(manifest.read_text().replace("containers:", "contaners:", 1))
    checked = runner.invoke(app, ["deploy", "check", str(folder)])
    assert checked.exit_code == 1
    assert "gateway.yaml: spec.template.spec: unknown field 'contaners'. Did you mean 'containers'" in checked.stdout


def test_a_plan_that_nothing_holds_ends_with_3(application: Path) -> None:
    command = ["deploy", "plan", "--model", "llama-3.1-405b", "--hardware", "l4", "--dir", str(application), "--json"]
    done = runner.invoke(app, command)
    assert done.exit_code == 3
    assert "GiB" in json.loads(done.stdout)["others"][0]["rejected"]


def test_the_catalogue_is_listed() -> None:
    models = json.loads(runner.invoke(app, ["deploy", "models", "--json"]).stdout)
    assert "dolly-v2-12b" in {model["name"] for model in models}
    hardware = json.loads(runner.invoke(app, ["deploy", "hardware", "--json"]).stdout)
    assert {"h100-sxm", "mi300x"} <= {one["hardware"]["name"] for one in hardware}
    assert "h100-sxm" in runner.invoke(app, ["deploy", "hardware"]).stdout
