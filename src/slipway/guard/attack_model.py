"""The prompt-attack model that ships: two linear models over hashed n-grams, for turns and for sentences.

Weights are made by benchmarks/guard/train_prompt_attack.py; data/PROVENANCE.md names what they were learned from.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from math import exp
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from slipway.domain.errors import FileBroken
from slipway.domain.guardrail import TextSource
from slipway.guard.attack_features import SENTENCE_SIGNS, TURN_SIGNS, Floats, read_sentences, turn_signs
from slipway.guard.ngrams import BUCKETS, grams

WEIGHTS = Path(__file__).parent / "data" / "prompt_attack.npz"
SIGN_SCALE = 0.3
"""What the signs are multiplied with beside n-gram vectors of length 1."""


class Place(NamedTuple):
    """A score between 0 and 1 and the stretch [start, end) that earned it."""

    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One linear model: weight times inverse document frequency of each bucket, that frequency, weights of signs."""

    weights: Floats
    idf: Floats
    signs: Floats
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackModel:
    """`thresholds` hold a false-positive rate of 1 % per source on development data, by cross-validation."""

    turn: Head
    sentence: Head
    seen: NDArray[np.bool_]
    thresholds: dict[str, float]
    fingerprint: str

    def score_turn(self, text: str) -> float:
        """How much a user's turn looks like an attack, 0 to 1."""
        found = grams(text)
        buckets, counts = np.unique(found.buckets, return_counts=True)
        idf, root = self.turn.idf[buckets], np.sqrt(counts)
        length = float(np.sqrt(((root * idf) ** 2).sum())) or 1.0
        value = float((root * self.turn.weights[buckets]).sum()) / length
        value += float(turn_signs(text, found, self.seen) @ self.turn.signs) * SIGN_SCALE + self.turn.bias
        return probability(value)

    def score_document(self, text: str) -> Place:
        """How much the most suspicious sentence of a document looks like one said to the assistant, 0 to 1."""
        sentences = read_sentences(text)
        if not sentences.long_enough.any():
            return Place(0.0, 0, 0)
        many = len(sentences.spans)
        buckets = sentences.grams.buckets
        value = np.bincount(sentences.owner, weights=self.sentence.weights[buckets], minlength=many)
        length = np.bincount(sentences.owner, weights=self.sentence.idf[buckets] ** 2, minlength=many)
        logits = value / np.sqrt(np.maximum(length, 1e-9)) + sentences.signs @ self.sentence.signs * SIGN_SCALE
        logits[~sentences.long_enough] = -np.inf
        best = int(np.argmax(logits))
        start, end = sentences.spans[best]
        return Place(probability(float(logits[best]) + self.sentence.bias), start, end)

    def threshold(self, source: TextSource) -> float:
        return self.thresholds["user" if source == "user" else "document"]


def probability(logit: float) -> float:
    return 1.0 / (1.0 + exp(-max(-60.0, min(60.0, logit))))


@lru_cache(maxsize=1)
def load_attack_model() -> AttackModel:
    """The model that ships with Slipway. Raises `FileBroken` when its file is."""
    return read_attack_model(WEIGHTS)


def read_attack_model(path: Path) -> AttackModel:
    """A model from its file. Raises `FileBroken` when the file is missing, cut or of another shape."""
    try:
        raw = path.read_bytes()
        with np.load(BytesIO(raw), allow_pickle=False) as arrays:
            model = AttackModel(
                turn=_read_head(arrays, "turn", TURN_SIGNS),
                sentence=_read_head(arrays, "sentence", SENTENCE_SIGNS),
                seen=np.unpackbits(arrays["seen"]).astype(bool)[:BUCKETS],
                thresholds={"user": float(arrays["thresholds"][0]), "document": float(arrays["thresholds"][1])},
                fingerprint=hashlib.sha256(raw).hexdigest()[:16],
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as wrong:
        raise FileBroken(path, str(wrong), next_step="Install slipway again.") from wrong
    return model


def _read_head(arrays: Any, name: str, signs: int) -> Head:
    scales = arrays[f"{name}_scales"]
    weights = arrays[f"{name}_weights"].astype(np.float64) * scales[0]
    idf = arrays[f"{name}_idf"].astype(np.float64) * scales[1]
    head = Head(weights=weights, idf=idf, signs=arrays[f"{name}_signs"].astype(np.float64), bias=float(scales[2]))
    if len(weights) != BUCKETS or len(idf) != BUCKETS or len(head.signs) != signs:
        raise ValueError(f"{name} has the wrong shape")
    return head
