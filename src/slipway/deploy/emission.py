"""Writes the files of a deployment and checks a folder of them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.config.settings import Settings
from slipway.deploy.deployment import Deployment, Files, ModelServer
from slipway.deploy.plan import THIS_MACHINE
from slipway.deploy.shape import Problem
from slipway.deploy.targets.base import targets
from slipway.domain.deployment import Plan
from slipway.domain.errors import Conflict, DeploymentInvalid, FileBroken, FileMissing, InputError
from slipway.domain.ids import hash_text
from slipway.domain.release import Release
from slipway.models.hardware import find_hardware
from slipway.store.files import write_text
from slipway.workspace import Workspace

MARKER = "deployment.json"
MASTER_KEY = {"SLIPWAY_PRIVACY__MASTER_KEY": "env:SLIPWAY_MASTER_KEY"}
"""Where a deployed application takes its master key from, unless slipway.toml says so."""
SECRET = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
PRIVATE = re.compile(r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|-----BEGIN [A-Z ]*PRIVATE KEY)")


def describe_deployment(workspace: Workspace, plan: Plan, release: Release | None) -> Deployment:
    """What the targets are told about an application, its release and its plan."""
    settings = workspace.settings
    url = settings.store.url
    chosen = plan.chosen
    return Deployment(
        application=workspace.application,
        release=release.label if release else "",
        plan=plan.id,
        image=settings.deploy.image,
        port=settings.server.port or 8080,
        replicas=chosen.replicas if chosen is not None and chosen.hardware == THIS_MACHINE else 1,
        database="sqlite" if not url or url.startswith("sqlite") else "postgres",
        secrets=tuple(sorted(secret_names(settings))),
        model=_model_server(plan),
        environment=MASTER_KEY if not settings.privacy.master_key else {},
    )


def secret_names(settings: Settings) -> set[str]:
    """Environment variables that slipway.toml names, and the master key."""
    found = set() if settings.privacy.master_key else {"SLIPWAY_MASTER_KEY"}

    def look(value: Any) -> None:
        match value:
            case str():
                match_ = SECRET.fullmatch(value)
                if match_:
                    found.add(match_.group(1))
            case Mapping():
                for one in value.values():
                    look(one)
            case list():
                for one in value:
                    look(one)

    look(settings.engines)
    look([settings.store.url, settings.privacy.master_key])
    return found


def emit(
    workspace: Workspace, target: str, *, plan: Plan, release: Release | None, settings: Mapping[str, Any]
) -> Files:
    """The files of one target, checked by it, with a marker that names plan and release.

    Raises `UnknownBackend`, `BackendSettingInvalid`, `ModelNotPlanned`, `DeploymentInvalid` when its own check fails.
    """
    backend = targets.make(target, settings)
    deployment = describe_deployment(workspace, plan, release)
    files = backend.emit(deployment)
    problems = [*backend.validate(files), *find_secrets(files)]
    if problems:
        raise DeploymentInvalid(target, [str(problem) for problem in problems])
    marker = {
        "target": target,
        "application": deployment.application,
        "release": deployment.release,
        "plan": deployment.plan,
        "files": {path: hash_text(text) for path, text in sorted(files.items())},
    }
    return {**files, MARKER: json.dumps(marker, indent=2) + "\n"}


def read_settings(pairs: Sequence[str]) -> dict[str, str]:
    """Settings of a target written as `key=value`. Raises `InputError`."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InputError(f"'{pair}' is no setting: write key=value.")
        found[key.strip()] = value
    return found


def write_files(files: Files, folder: Path, *, force: bool = False) -> list[Path]:
    """Writes emitted files; a folder that holds other things is left alone unless `force`. Raises `Conflict`."""
    if folder.exists() and not folder.is_dir():
        raise Conflict(f"'{folder}' is a file. Name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).exists() and not force:
        raise Conflict(f"'{folder}' holds other files. Name an empty folder, or add --force.")
    for path, text in files.items():
        write_text(folder / path, text)
    return [folder / path for path in files]


def check_folder(folder: Path, *, target: str = "") -> list[Problem]:
    """What is wrong with a folder of deployment files. Which target it is for stands in its marker.

    Raises `FileMissing`, `FileBroken`, `InputError` when the target cannot be told.
    """
    if not folder.is_dir():
        raise FileMissing(folder, next_step="Emit files first: slipway deploy emit TARGET --out DIR")
    files: Files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                files[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as wrong:
                raise FileBroken(path, "it is not text", next_step="Leave only deployment files there.") from wrong
    marker = files.pop(MARKER, "")
    if not target:
        try:
            target = str(json.loads(marker)["target"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"'{folder}' does not say what it is for. Name it: slipway deploy check DIR --target compose"
            ) from None
    return [*targets.make(target).validate(files), *find_secrets(files)]


def find_secrets(files: Mapping[str, str]) -> list[Problem]:
    """Values that look like keys: none belongs into a file."""
    return [
        Problem(
            file=path, place=f"line {text[: found.start()].count(chr(10)) + 1}", reason="holds what looks like a secret"
        )
        for path, text in files.items()
        for found in PRIVATE.finditer(text)
    ]


def _model_server(plan: Plan) -> ModelServer | None:
    chosen = plan.chosen
    shape = plan.shape
    if chosen is None or shape is None:
        return None
    return ModelServer(
        name=shape.name,
        weights=shape.weights or shape.name,
        hardware=chosen.hardware,
        devices=chosen.devices_per_replica,
        replicas=chosen.replicas,
        precision=chosen.precision,
        context=min(shape.context, plan.demand.context_tokens),
        sequences=chosen.sequences,
        per_machine=find_hardware(chosen.hardware).devices_per_node,
        step_tokens=chosen.step_tokens,
        least_replicas=chosen.least_replicas,
        most_replicas=max(chosen.replicas, chosen.later_replicas),
        per_second=chosen.requests_per_second / max(1, chosen.replicas),
    )
