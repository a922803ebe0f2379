"""What every deployment target promises: clean files, no secrets, and a misspelt field is caught offline."""

from collections.abc import Iterator

import pytest
import yaml

from slipway.deploy.deployment import Deployment, Files, ModelServer
from slipway.deploy.emission import find_secrets
from slipway.deploy.targets.base import Target, targets

MODEL = ModelServer(
    name="llama-3.1-8b",
    weights="meta-llama/Llama-3.1-8B-Instruct",
    hardware="h100-sxm",
    devices=2,
    replicas=3,
    precision="fp8",
    context=8192,
    sequences=128,
    per_machine=8,
)


def a_deployment(*, database: str = "sqlite", model: ModelServer | None = MODEL) -> Deployment:
    return Deployment(
        application="lamps",
        release="lamps@3",
        plan="p1",
        image="registry.example/lamps:3",
        port=8080,
        replicas=2,
        database=database,
        secrets=("OPENAI_API_KEY", "SLIPWAY_MASTER_KEY"),
        environment={"SLIPWAY_PRIVACY__MASTER_KEY": "env:SLIPWAY_MASTER_KEY"},
        model=model,
    )


@pytest.fixture(params=targets.names())
def target(request: pytest.FixtureRequest) -> Target:
    made: Target = targets.make(request.param)
    return made


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_it_emits_is_valid(target: Target, database: str) -> None:
    files = target.emit(a_deployment(database=database))
    assert files
    assert target.validate(files) == []


def test_the_same_deployment_gives_the_same_files(target: Target) -> None:
    assert target.emit(a_deployment()) == target.emit(a_deployment())


def test_paths_stay_inside_the_folder(target: Target) -> None:
    assert all(not path.startswith("/") and ".." not in path.split("/") for path in target.emit(a_deployment()))


def test_secrets_are_named_but_never_written(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-found-anywhere")
    files = target.emit(a_deployment())
    assert not any("sk-not-to-be-found" in text for text in files.values())
    assert find_secrets(files) == []


def test_there_is_a_readme_with_the_next_steps(target: Target) -> None:
    assert "lamps" in target.emit(a_deployment())["README.md"]


def _mutations(files: Files) -> Iterator[tuple[str, Files]]:
    """The files with one key misspelt, in every structured file."""
    for path, text in files.items():
        if path.endswith(".yaml"):
            for word in (
                "containers:",
                "services:",
                "selector:",
                "podSelector:",
                "maxReplicas:",
                "image:",
                "template:",
            ):
                if word in text:
                    yield f"{path}: {word}", {**files, path: text.replace(word, f"{word[:-2]}x:", 1)}
        elif path.endswith(".service"):
            yield f"{path}: ExecStart", {**files, path: text.replace("ExecStart=", "ExecStrat=")}
        elif path == "argv.json":
            yield f"{path}: option", {**files, path: text.replace("--max-model-len", "--max-model-length")}
        elif path == "Containerfile":
            yield f"{path}: instruction", {**files, path: text.replace("COPY", "CPY")}


def test_a_misspelt_field_is_caught_in_every_file(target: Target) -> None:
    tried = 0
    for what, files in _mutations(target.emit(a_deployment(database="postgres"))):
        assert target.validate(files), f"nobody noticed {what}"
        tried += 1
    assert tried


def test_a_missing_file_is_caught(target: Target) -> None:
    assert target.validate({})


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_second_validator_agrees_about_kubernetes(database: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for path, text in targets.make("kubernetes").emit(a_deployment(database=database)).items():
        if path.endswith(".yaml"):
            for one in yaml.safe_load_all(text):
                validator.validate(one, validator.latest_version(), strict=True)


def test_the_second_validator_rejects_what_ours_rejects() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    target = targets.make("kubernetes")
    text = target.emit(a_deployment())["gateway.yaml"].replace("replicas: 1", "replicas: one", 1)
    with pytest.raises(validator.ValidationError):
        validator.validate(next(yaml.safe_load_all(text)), validator.latest_version(), strict=True)
    assert "must be a whole number" in str(target.validate({"gateway.yaml": text})[0])
