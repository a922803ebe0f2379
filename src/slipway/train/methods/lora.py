"""Trains small matrices beside every linear layer (LoRA), and merges them without changing what the model says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.domain.errors import MergeDiffers
from slipway.train.methods.base import Prepared, Saved, methods
from slipway.train.packages import load

LARGEST_DIFFERENCE = 1e-4
"""Largest difference of a logit that merging may make, in 32 bits."""


@methods.register("lora")
@dataclass(frozen=True)
class Lora:
    """Low-rank matrices beside every linear layer learn, the base stays (Hu et al. 2021): small memory and files."""

    rank: int = 16
    alpha: int = 32
    merge: bool = True
    """Also write base and adapter as one model: engines without adapters serve that."""

    def prepare(self, model: Any) -> Prepared:
        peft = load("peft")
        config = peft.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return Prepared(model=peft.get_peft_model(model, config))

    def save(self, model: Any, folder: Path, *, probe: Any) -> Saved:
        """Raises `MergeDiffers` when the merged model does not say what base and adapter say."""
        torch = load("torch")
        model.save_pretrained(folder / "adapter", safe_serialization=True)
        if not self.merge:
            return Saved()
        model.eval()
        with torch.no_grad():
            before = model(probe).logits
            merged = model.merge_and_unload()
            difference = float((merged(probe).logits - before).abs().max())
        if difference > LARGEST_DIFFERENCE:
            raise MergeDiffers(difference, LARGEST_DIFFERENCE)
        merged.save_pretrained(folder / "model", safe_serialization=True)
        return Saved(merge_difference=difference)
