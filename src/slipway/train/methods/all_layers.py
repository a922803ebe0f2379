"""Trains every parameter of the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.train.methods.base import Prepared, Saved, methods


@methods.register("all_layers")
@dataclass(frozen=True)
class AllLayers:
    """Every parameter learns: most memory, most effect, and the risk of forgetting what the base knew."""

    def prepare(self, model: Any) -> Prepared:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return Prepared(model=model)

    def save(self, model: Any, folder: Path, *, probe: Any) -> Saved:
        model.save_pretrained(folder / "model", safe_serialization=True)
        return Saved()
