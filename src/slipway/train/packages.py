"""Loads what trains only when something is trained, and names the pip line of what is missing."""

import importlib
from typing import Any

from slipway.plugins import missing_package


def load(name: str) -> Any:
    """A module of torch, transformers, peft or safetensors. Raises `PackageMissing`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise missing_package("Training", missing) from missing


def versions() -> dict[str, str]:
    """Versions of what trains, for the record of a run."""
    return {name: str(load(name).__version__) for name in ("torch", "transformers", "peft")}
