"""The training loop: the same data, seed and settings give the same weights, killed in between or not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

from slipway.domain.errors import TrainingDiverged
from slipway.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from slipway.train.examples import IGNORED, Example, batch_places
from slipway.train.packages import load

OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How the loop runs. `length` is the longest example in tokens."""

    steps: int
    batch: int = 8
    rate: float = 2e-4
    warm_up: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    length: int = 1024
    checkpoint_every: int = 50
    seed: int = 0


def run_loop(
    model: Any, examples: Sequence[Example], settings: LoopSettings, *, folder: Path, on_step: OnStep
) -> Progress:
    """Trains `model` in place, from the checkpoint in `folder` if there is one; returns where it ended.

    AdamW, linear warm-up, cosine to a tenth of the rate. Every step sets its own seed, so nothing depends on what ran
    before. Raises `TrainingDiverged` when the loss is no number.
    """
    torch = load("torch")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=settings.weight_decay, foreach=False)
    progress = load_checkpoint(folder, model, optimizer) or Progress(step=0, losses=())
    losses = list(progress.losses)
    device = next(model.parameters()).device
    model.train()
    for step in range(progress.step, settings.steps):
        torch.manual_seed(settings.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * rate_at(step, settings)
        places = batch_places(len(examples), settings.batch, step, seed=settings.seed)
        loss = model(**collate([examples[place] for place in places], device)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        losses.append(float(loss))
        if losses[-1] != losses[-1]:
            raise TrainingDiverged(step + 1)
        done = step + 1
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            save_checkpoint(
                folder, model, optimizer, Progress(step=done, losses=tuple(losses), resumed=progress.resumed)
            )
        on_step(done, settings.steps, losses[-1])
    return Progress(step=settings.steps, losses=tuple(losses), resumed=progress.resumed)


def mean_loss(model: Any, examples: Sequence[Example], *, batch: int) -> float | None:
    """Mean loss per answer token over the examples, in nats; None without any."""
    if not examples:
        return None
    torch = load("torch")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = tokens = 0.0
    with torch.no_grad():
        for start in range(0, len(examples), batch):
            inputs = collate(examples[start : start + batch], device)
            # The first token of a sequence is never predicted.
            count = int((inputs["labels"][:, 1:] != IGNORED).sum())
            total += float(model(**inputs).loss) * count
            tokens += count
    model.train(was_training)
    return total / tokens if tokens else None


def collate(examples: Sequence[Example], device: Any) -> dict[str, Any]:
    """Input ids, attention mask and labels of a batch, shape (examples, longest), padded on the right."""
    torch = load("torch")
    longest = max(len(example.ids) for example in examples)
    rows = {"input_ids": [], "attention_mask": [], "labels": []}  # type: dict[str, list[list[int]]]
    for example in examples:
        gap = longest - len(example.ids)
        rows["input_ids"].append([*example.ids, *[0] * gap])
        rows["attention_mask"].append([1] * len(example.ids) + [0] * gap)
        answer = list(example.ids[example.answer_start :])
        rows["labels"].append([IGNORED] * example.answer_start + answer + [IGNORED] * gap)
    return {name: torch.tensor(values, device=device) for name, values in rows.items()}


def rate_at(step: int, settings: LoopSettings) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine from 1 to 0.1."""
    warm = max(1, round(settings.steps * settings.warm_up))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return 0.1 + 0.45 * (1 + cos(pi * done))
