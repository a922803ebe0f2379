"""Files of a deployment: written whole, marked with plan and release, checked again later."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml

from slipway.deploy.emission import check_folder, emit, secret_names, write_files
from slipway.deploy.plan import make_plan
from slipway.deploy.targets.base import targets
from slipway.domain.errors import Conflict, FileMissing, InputError, ModelNotPlanned, UnknownBackend
from slipway.workspace import Workspace


@pytest.fixture
def hosting(workspace: Workspace) -> Workspace:
    """The application with an engine of its own and a key that stands in the environment."""
    engines = {"hosted": {"kind": "openai", "base_url": "http://model:8000/v1", "api_key": "env:HOSTED_KEY"}}
    return replace(workspace, settings=msgspec.structs.replace(workspace.settings, engines=engines))


@pytest.mark.parametrize("target", targets.names())
def test_files_are_written_and_found_clean(hosting: Workspace, tmp_path: Path, target: str) -> None:
    plan = make_plan(hosting, model="llama-3.1-8b", hardware=["h100-sxm"])
    files = emit(hosting, target, plan=plan, release=None, settings={})
    written = write_files(files, tmp_path / "out")
    assert {path.name for path in written} >= {"README.md", "deployment.json"}
    assert check_folder(tmp_path / "out") == []
    marker = json.loads((tmp_path / "out" / "deployment.json").read_text())
    assert (marker["target"], marker["plan"]) == (target, plan.id)
    assert not list((tmp_path / "out").glob(".*"))


def test_an_edit_that_breaks_a_file_is_caught(hosting: Workspace, tmp_path: Path) -> None:
    plan = make_plan(hosting, model="llama-3.1-8b")
    write_files(emit(hosting, "kubernetes", plan=plan, release=None, settings={}), tmp_path / "out")
    manifest = tmp_path / "out" / "gateway.yaml"
    manifest.write_text(manifest.read_text().replace("replicas:", "replica:", 1))
    problems = check_folder(tmp_path / "out")
    assert [(one.file, one.place) for one in problems] == [("gateway.yaml", "spec")]
    assert "Did you mean 'replicas'" in problems[0].reason


def test_a_key_that_was_written_into_a_file_is_caught(hosting: Workspace, tmp_path: Path) -> None:
    plan = make_plan(hosting, model="llama-3.1-8b")
    write_files(emit(hosting, "compose", plan=plan, release=None, settings={}), tmp_path / "out")
    (tmp_path / "out" / ".env").write_text("OPENAI_API_KEY=sk-abcdefghijklmnopqrstuvwx\n")
    assert "looks like a secret" in check_folder(tmp_path / "out")[0].reason


def test_secrets_are_found_in_the_settings_by_name(hosting: Workspace) -> None:
    assert secret_names(hosting.settings) == {"HOSTED_KEY", "SLIPWAY_MASTER_KEY"}


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match="other files"):
        write_files({"a.txt": "x"}, tmp_path)
    assert not (tmp_path / "a.txt").exists()
    assert write_files({"a.txt": "x"}, tmp_path, force=True)


def test_a_model_server_without_a_planned_model_is_refused(hosting: Workspace) -> None:
    plan = replace(make_plan(hosting, model="llama-3.1-8b"), chosen=None)
    with pytest.raises(ModelNotPlanned, match="deploy plan --model"):
        emit(hosting, "vllm", plan=plan, release=None, settings={})


def test_wrong_names_are_named(hosting: Workspace, tmp_path: Path) -> None:
    plan = make_plan(hosting, model="llama-3.1-8b")
    with pytest.raises(UnknownBackend, match="Did you mean 'kubernetes'"):
        emit(hosting, "kubernets", plan=plan, release=None, settings={})
    with pytest.raises(FileMissing):
        check_folder(tmp_path / "none")
    (tmp_path / "unmarked").mkdir()
    with pytest.raises(InputError, match="--target"):
        check_folder(tmp_path / "unmarked")


def test_a_hosted_model_scales_between_the_bounds_of_its_plan(hosting: Workspace, tmp_path: Path) -> None:
    plan = make_plan(hosting, model="llama-3.1-8b", hardware=["h100-sxm"])
    assert plan.chosen is not None
    busy = replace(plan, chosen=replace(plan.chosen, replicas=9, least_replicas=3, requests_per_second=18.0))
    files = emit(hosting, "kubernetes", plan=busy, release=None, settings={"prometheus": "http://prom.watch.svc"})
    keda = yaml.safe_load(files["autoscaling/keda.yaml"])["spec"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (3, 9)
    rate = keda["triggers"][0]["metadata"]
    assert (rate["threshold"], rate["serverAddress"]) == ("2", "http://prom.watch.svc")
    horizontal = yaml.safe_load(files["autoscaling/hpa.yaml"])["spec"]
    assert (horizontal["minReplicas"], horizontal["maxReplicas"]) == (3, 9)
    assert horizontal["metrics"][0]["pods"]["target"]["averageValue"] == "2000m"
    write_files(files, tmp_path / "out")
    assert check_folder(tmp_path / "out") == []
    scaled = tmp_path / "out" / "autoscaling" / "keda.yaml"
    scaled.write_text(scaled.read_text().replace("maxReplicaCount", "maxReplicas"))
    assert [one.file for one in check_folder(tmp_path / "out")] == ["autoscaling/keda.yaml"]

    steady = replace(plan, chosen=replace(plan.chosen, replicas=1, least_replicas=1))
    assert not [name for name in emit(hosting, "kubernetes", plan=steady, release=None, settings={}) if "auto" in name]
