"""Training runs: data with its report, the loop, and a record that leads from the weights back to the people."""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway.domain.errors import DataNotReady, FileMissing, InputError, NotFound, UnknownBackend
from slipway.domain.ids import ContentHash, hash_parts
from slipway.domain.training import LossPoint, MethodName, Pair, TrainingRun, TrainingSet
from slipway.models.memory import GIB
from slipway.store.files import write_text
from slipway.train.base_model import check_base, find_device, hash_folder, load_base
from slipway.train.checkpoint import Progress
from slipway.train.examples import make_examples, steps_of
from slipway.train.loop import LoopSettings, OnStep, mean_loss, run_loop
from slipway.train.methods.base import Method, Prepared, make_method
from slipway.train.packages import load, versions
from slipway.train.pairs import Collected, collect_pairs
from slipway.train.report import DataReport, report_on
from slipway.workspace import Workspace

POINTS_KEPT = 200
"""Most points of the loss curve in a record; the file loss.jsonl holds all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run is asked for; what is left out comes from [train]."""

    method: MethodName
    base: Path
    epochs: float = 3.0
    steps: int | None = None
    """Steps instead of epochs."""
    batch: int = 8
    rate: float | None = None
    length: int = 1024
    checkpoint_every: int = 50
    seed: int = 0
    validation_share: float = 0.1
    method_settings: Mapping[str, str] = field(default_factory=dict)


RATES: dict[MethodName, float] = {"lora": 2e-4, "output-layer": 1e-3, "all-layers": 2e-5}
"""Learning rates that usually work, by method."""


def train(
    workspace: Workspace,
    settings: RunSettings,
    *,
    datasets: Sequence[str] = (),
    force: bool = False,
    on_step: OnStep = lambda _done, _all, _loss: None,
) -> TrainingRun:
    """Trains on the application's pairs and records the run; a run that was killed continues where it was.

    The same base, data and settings are the same run: it is done once. Raises `DataNotReady` when the data report says
    so (unless `force`), `FileMissing`, `ModelUnfit`, `PackageMissing`, `TrainingDiverged`, `MergeDiffers`.
    """
    check_base(settings.base)
    method = make_method(settings.method, dict(settings.method_settings))
    collected = collect_pairs(workspace, datasets=datasets)
    report = report_on(workspace, collected, validation_share=settings.validation_share, seed=settings.seed)
    if report.verdict == "not ready" and (not force or not report.kept):
        raise DataNotReady(report.reasons)
    data = save_training_set(workspace, collected, report)
    base_hash = hash_folder(settings.base)
    run_id = _run_id(settings, method, base_hash, data.hash)
    known = workspace.store.records.find(TrainingRun, run_id)
    if known is not None:
        return known
    return _train(workspace, settings, method, data, base_hash, run_id, on_step)


def settings_for(
    workspace: Workspace,
    *,
    method: str = "",
    base: Path | None = None,
    epochs: float = 3.0,
    steps: int | None = None,
    batch: int = 8,
    rate: float | None = None,
    length: int = 1024,
    checkpoint_every: int = 50,
    method_settings: Sequence[str] = (),
) -> RunSettings:
    """Settings of a run, with [train] for what is left out. Raises `UnknownBackend`, `InputError`, `FileMissing`."""
    given = workspace.settings.train
    named = method or given.method
    match named:
        case "lora" | "output-layer" | "all-layers":
            chosen: MethodName = named
        case _:
            raise UnknownBackend("training method", named, RATES)
    if base is None and not given.base:
        raise FileMissing("[train] base", next_step="Name the folder of a base model there, or with --base DIR.")
    pairs = [pair.partition("=") for pair in method_settings]
    for key, sign, _ in pairs:
        if not sign:
            raise InputError(f"'{key}' is no setting: write key=value.")
    return RunSettings(
        method=chosen,
        base=base or workspace.folder / given.base,
        epochs=epochs,
        steps=steps,
        batch=batch,
        rate=rate,
        length=length,
        checkpoint_every=checkpoint_every,
        seed=given.seed,
        validation_share=given.validation_share,
        method_settings={key.strip(): value for key, _, value in pairs},
    )


def list_runs(workspace: Workspace) -> list[TrainingRun]:
    """All finished runs of the application, newest first."""
    return workspace.store.records.list(TrainingRun)


def load_run(workspace: Workspace, reference: str = "") -> TrainingRun:
    """A run by its id or the beginning of it, or the newest one. Raises `NotFound`."""
    runs = list_runs(workspace)
    found = [run for run in runs if run.id.startswith(reference)]
    if not found or (reference and len(found) > 1):
        raise NotFound("training run", reference or workspace.application, next_step="Train one: slipway train run")
    return found[0]


def save_training_set(workspace: Workspace, collected: Collected, report: DataReport) -> TrainingSet:
    """The kept pairs as the next version of the application's training set, with edges to what they came from."""
    kept = set(report.kept)
    by_id: dict[str, Pair] = {pair.id: pair for pair in reversed(collected.pairs) if pair.id in kept}
    pairs = tuple(by_id[id] for id in sorted(by_id))
    content = hash_parts(
        {"pairs": [[pair.id, pair.prompt, pair.completion] for pair in pairs], "validation": sorted(report.validation)}
    )
    records = workspace.store.records
    newest = records.latest(TrainingSet, workspace.application)
    if newest is not None and newest.hash == content:
        return newest
    made = TrainingSet(
        name=workspace.application,
        version=records.next_version(TrainingSet, workspace.application),
        hash=content,
        pairs=pairs,
        validation=tuple(sorted(report.validation)),
        seed=report.seed,
        created_at=workspace.now(),
    )
    parents = {_parent_of(pair.source) for pair in pairs} - {None}
    records.save(made, parents=sorted(parent for parent in parents if parent is not None), transform="training pairs")
    return made


def _train(
    workspace: Workspace,
    settings: RunSettings,
    method: Method,
    data: TrainingSet,
    base_hash: ContentHash,
    run_id: str,
    on_step: OnStep,
) -> TrainingRun:
    began = time.perf_counter()
    torch = load("torch")
    torch.manual_seed(settings.seed)
    model, tokenizer = load_base(settings.base, device=find_device())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    prepared = method.prepare(model)
    held = set(data.validation)
    learnt = make_examples([pair for pair in data.pairs if pair.id not in held], tokenizer, length=settings.length)
    unseen = make_examples([pair for pair in data.pairs if pair.id in held], tokenizer, length=settings.length)
    before = mean_loss(prepared.model, unseen, batch=settings.batch)
    loop = LoopSettings(
        steps=settings.steps or steps_of(len(learnt), settings.batch, settings.epochs),
        batch=settings.batch,
        rate=settings.rate or RATES[settings.method],
        length=settings.length,
        checkpoint_every=settings.checkpoint_every,
        seed=settings.seed,
    )
    workplace = workspace.state / "training" / run_id
    ended = run_loop(prepared.model, learnt, loop, folder=workplace, on_step=on_step)
    trainable = sum(one.numel() for one in prepared.model.parameters() if one.requires_grad)
    after = mean_loss(prepared.model, unseen, batch=settings.batch)
    output = workspace.state / "models" / run_id
    saved = _save(method, prepared, tokenizer, output, probe=torch.tensor([learnt[0].ids], device=find_device()))
    write_text(output / "loss.jsonl", _loss_lines(ended))
    run = TrainingRun(
        id=run_id,
        application=workspace.application,
        method=settings.method,
        base=str(settings.base),
        base_hash=base_hash,
        data=f"{data.name}@{data.version}",
        data_hash=data.hash,
        settings={key: str(value) for key, value in (asdict(loop) | _fields(method)).items()},
        seed=settings.seed,
        steps=ended.step,
        trainable=trainable,
        parameters=parameters,
        losses=_thinned(ended),
        validation_before=before,
        validation_after=after,
        output=output.relative_to(workspace.state).as_posix(),
        output_hash=hash_folder(output),
        merge_difference=saved,
        notes=prepared.notes,
        seconds=time.perf_counter() - began,
        peak_memory_gib=_peak_gib(),
        resumed=ended.resumed,
        versions=versions(),
        created_at=workspace.now(),
    )
    workspace.store.records.save(run, parents=[("training_set", run.data)], transform=settings.method)
    shutil.rmtree(workplace, ignore_errors=True)
    return run


def _save(method: Method, prepared: Prepared, tokenizer: Any, output: Path, *, probe: Any) -> float | None:
    """The trained weights beside their tokenizer: without it the merged model would be worthless."""
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    saved = method.save(prepared.model, output, probe=probe)
    for part in ("model", "adapter"):
        if (output / part).is_dir():
            tokenizer.save_pretrained(output / part)
    return saved.merge_difference


def _run_id(settings: RunSettings, method: Method, base_hash: ContentHash, data_hash: ContentHash) -> str:
    asked = {key: str(value) for key, value in asdict(settings).items() if key not in ("base", "checkpoint_every")}
    return hash_parts({"asked": asked, "method": _fields(method), "base": base_hash, "data": data_hash})[:26]


def _fields(method: Method) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(method).items()}  # type: ignore[call-overload]


def _parent_of(source: str) -> tuple[str, str] | None:
    """The record a pair was copied from, as an edge of lineage; files are no records."""
    kind, _, name = source.partition(":")
    return (kind, name) if kind in ("dataset", "feedback") else None


def _thinned(ended: Progress) -> tuple[LossPoint, ...]:
    every = max(1, -(-len(ended.losses) // POINTS_KEPT))
    last = len(ended.losses) - 1
    return tuple(
        LossPoint(step=place + 1, loss=loss)
        for place, loss in enumerate(ended.losses)
        if place % every == 0 or place == last
    )


def _loss_lines(ended: Progress) -> str:
    return "".join(json.dumps({"step": place + 1, "loss": loss}) + "\n" for place, loss in enumerate(ended.losses))


def _peak_gib() -> float:
    """Most memory in use so far: on the accelerator where there is one, else of this process."""
    torch = load("torch")
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / GIB
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB
