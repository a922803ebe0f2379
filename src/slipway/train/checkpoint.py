"""Checkpoints: trained parameters and the optimiser's state in one safetensors file, whole or not there at all."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.domain.errors import FileBroken
from slipway.train.packages import load

NAME = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands: steps done, losses so far, how often it was resumed."""

    step: int
    losses: tuple[float, ...]
    resumed: int = 0


def save_checkpoint(folder: Path, model: Any, optimizer: Any, progress: Progress) -> None:
    """Writes beside the old checkpoint, then takes its place."""
    tensors: dict[str, Any] = {}
    for name, parameter in _trained(model):
        tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    state = {"step": progress.step, "losses": progress.losses, "resumed": progress.resumed}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{NAME}.new"
    load("safetensors.torch").save_file(tensors, temporary, metadata={"progress": json.dumps(state)})
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(temporary, folder / NAME)


def load_checkpoint(folder: Path, model: Any, optimizer: Any) -> Progress | None:
    """Puts a checkpoint back into model and optimiser; None when there is none. Raises `FileBroken`."""
    path = folder / NAME
    if not path.exists():
        return None
    torch = load("torch")
    try:
        with load("safetensors").safe_open(str(path), framework="pt") as content:
            state = json.loads(content.metadata()["progress"])
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except Exception as wrong:
        raise FileBroken(path, str(wrong), next_step="Delete it to start the run anew.") from wrong
    with torch.no_grad():
        for name, parameter in _trained(model):
            if f"parameter/{name}" not in tensors:
                raise FileBroken(path, f"it lacks {name}", next_step="Delete it to start the run anew.")
            parameter.copy_(tensors[f"parameter/{name}"])
            kept = {
                key: tensors[f"{key}/{name}"].to(parameter.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}/{name}" in tensors
            }
            if kept:
                optimizer.state[parameter] = kept
    return Progress(step=int(state["step"]), losses=tuple(state["losses"]), resumed=int(state["resumed"]) + 1)


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
