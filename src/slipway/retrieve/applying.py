"""Writes the best setting of a comparison into slipway.toml and builds the index that it describes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from slipway.config.editing import set_table
from slipway.config.reader import FILE_NAME, parse_settings
from slipway.domain.errors import NoClearDifference, NotAnApplication
from slipway.domain.settings_comparison import SettingsComparison, SettingsResult
from slipway.retrieve.index import build_index
from slipway.store.files import write_text
from slipway.workspace import Workspace, open_workspace


def apply_best(
    workspace: Workspace,
    comparison: SettingsComparison,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> SettingsComparison:
    """Sets [retrieve] to the best setting, builds that index version and notes it in the comparison.

    What is there stays unless the best is clearly better; `force` sets it all the same. Raises `NoClearDifference`.

    Comments and layout of slipway.toml stay. The file is checked before it is replaced, at once or not at all. Raises
    `ConfigError` where the table cannot be edited safely, and what `build_index` raises.
    """
    if not (comparison.clear or force):
        raise NoClearDifference(comparison.verdict)
    path = workspace.folder / FILE_NAME
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotAnApplication(workspace.folder) from None
    values = best_values(workspace, comparison.best)
    after = set_table(before, "retrieve", values)
    parse_settings(tomllib.loads(after), path=path)
    write_text(path, after)
    # What the settings say is read when an application is opened, so the index is built in one that sees them.
    with open_workspace(workspace.folder) as changed:
        index = build_index(changed, on_progress=on_progress)
    applied = replace(comparison, applied=f"{index.name}@{index.version}")
    workspace.store.records.save(applied)
    return applied


def best_values(workspace: Workspace, best: SettingsResult) -> Mapping[str, Any]:
    """The keys of [retrieve] that the setting gives; a chunker keeps its other keys where its kind stays."""
    table = dict(workspace.settings.retrieve.chunker)
    same = str(table.get("kind", "recursive")) == best.chunker
    chunker = {**table, "kind": best.chunker, "size": best.size} if same else {"kind": best.chunker, "size": best.size}
    values: dict[str, Any] = {"chunker": chunker, "cut": best.cut}
    if best.embedder:
        values |= {"similarity": best.similarity, "alpha": best.alpha}
    elif workspace.embedder is not None:
        values["embedder"] = {"kind": "none"}
    return values
