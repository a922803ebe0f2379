"""Training: pairs of what is asked and what should be answered, and runs that learnt from them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway.domain.ids import ContentHash, SubjectId

MethodName = Literal["lora", "output-layer", "all-layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One example. `source` is `dataset:questions@2`, `feedback:ID` or `file:training/pairs.jsonl`."""

    id: str
    prompt: str
    completion: str
    source: str
    subject: SubjectId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The pairs of one run, in an immutable version. `validation` are the ids that are held out."""

    name: str
    version: int
    hash: ContentHash
    pairs: tuple[Pair, ...]
    validation: tuple[str, ...]
    seed: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """Mean loss of one step, in nats a token."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One finished run: what it learnt from, how, and where the result lies.

    `output` is a folder relative to the application's state folder; `output_hash` covers its files. Losses are nats a
    token; `merge_difference` is the largest difference of a logit between adapter and merged model.
    """

    id: str
    application: str
    method: MethodName
    base: str
    base_hash: ContentHash
    data: str
    data_hash: ContentHash
    settings: dict[str, str]
    seed: int
    steps: int
    trainable: int
    parameters: int
    losses: tuple[LossPoint, ...]
    validation_before: float | None
    validation_after: float | None
    output: str
    output_hash: ContentHash
    merge_difference: float | None = None
    notes: tuple[str, ...] = ()
    seconds: float
    peak_memory_gib: float
    resumed: int = 0
    """How often the run was taken up again from a checkpoint."""
    versions: dict[str, str] = field(default_factory=dict)
    created_at: datetime
