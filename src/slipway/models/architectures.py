"""The catalogue of open models, and the architecture of any model from its own config.json."""

import json
import os
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from slipway.domain.architecture import Architecture, Licence
from slipway.domain.errors import FileBroken, FileMissing, NotFound
from slipway.models.config_shapes import NotADecoder, count_parameters, shape_of
from slipway.models.stored_weights import BITS_OF, count_stored

__all__ = ["count_parameters", "count_stored", "find_model", "list_models", "read_config"]


@cache
def list_models() -> tuple[Architecture, ...]:
    """Every model of the catalogue, in the order of its families."""
    licences = {one.id: one for one in msgspec.json.decode(_data("licences.json"), type=list[Licence])}
    rows: list[dict[str, Any]] = json.loads(_data("models.json"))
    return tuple(msgspec.convert({**row, "licence": licences[row["licence"]]}, Architecture) for row in rows)


def find_model(name: str, *, folder: Path | None = None) -> Architecture:
    """A model by its catalogue name, or by the path of a config.json or of the folder that holds one.

    Relative paths are looked up under `folder`. Raises `NotFound`, with a suggestion.
    """
    known = {model.name: model for model in list_models()}
    if name.lower() in known:
        return known[name.lower()]
    path = (folder or Path()) / name
    if name.endswith(".json") or os.path.isfile(path / "config.json"):
        return read_config(path)
    next_step = "List them: slipway deploy models. Any other model works by the path of its config.json."
    raise NotFound("model", name, known=list(known), next_step=next_step)


def read_config(path: Path) -> Architecture:
    """The architecture that a model's config.json describes; `path` is the file or its folder.

    Parameters are counted in the safetensors files beside it where there are any, and from the shapes otherwise.
    Raises `FileMissing`, or `FileBroken` with the fact that is lacking.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissing(file, next_step="Name a config.json or the folder that holds one.") from None
    except (OSError, ValueError) as wrong:
        raise FileBroken(file, f"it is not a JSON file ({wrong})") from wrong
    if not isinstance(read, dict):
        raise FileBroken(file, "it holds no JSON object")
    try:
        shape = shape_of(read, name=file.resolve().parent.name)
        stored = count_stored(file.parent, packed_bits=BITS_OF[shape.native])
    except NotADecoder as wrong:
        raise FileBroken(file, str(wrong), next_step="Name a model that writes text.") from None
    except KeyError as missing:
        raise FileBroken(file, f"it does not say {missing.args[0]}") from None
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as wrong:
        raise FileBroken(file, f"one of its numbers makes no sense ({wrong})") from wrong
    if stored:
        share = shape.active_parameters / shape.parameters
        shape = replace(shape, parameters=stored, active_parameters=round(stored * share))
    return replace(shape, weights=str(file.parent), source=str(file))


def _data(name: str) -> bytes:
    return files("slipway.models").joinpath("data", name).read_bytes()
