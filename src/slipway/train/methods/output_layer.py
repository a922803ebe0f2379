"""Trains only the layer that turns states into words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.domain.errors import ModelUnfit
from slipway.train.methods.base import Prepared, Saved, methods
from slipway.train.packages import load


@methods.register("output_layer")
@dataclass(frozen=True)
class OutputLayer:
    """Only the output layer learns: little memory and time; suits choosing words, not new abilities.

    Where input embedding and output layer share one matrix it is untied first: otherwise the embedding would learn too.
    """

    def prepare(self, model: Any) -> Prepared:
        head = model.get_output_embeddings()
        if head is None:
            raise ModelUnfit(type(model).__name__, "it has no output layer of its own")
        notes: tuple[str, ...] = ()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if head.weight is model.get_input_embeddings().weight:
            torch = load("torch")
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
            model.config.tie_word_embeddings = False
            # transformers remembers which weights are tied and would leave the copy out when it saves.
            model._tied_weights_keys = None
            if hasattr(model, "all_tied_weights_keys"):
                model.all_tied_weights_keys = {}
            notes = ("input embedding and output layer shared one matrix; it was untied, which adds a copy",)
        for parameter in head.parameters():
            parameter.requires_grad_(True)
        return Prepared(model=model, notes=notes)

    def save(self, model: Any, folder: Path, *, probe: Any) -> Saved:
        model.save_pretrained(folder / "model", safe_serialization=True)
        return Saved()
