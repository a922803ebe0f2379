"""What the docs claim about context overlap holds on labelled answers: gross errors are seen, changed facts are not."""

import json
from pathlib import Path

import numpy as np
import pytest

from slipway.domain.dataset import Case
from slipway.domain.document import Passage
from slipway.metrics.base import AnswerView, metrics

LABELLED = Path(__file__).parents[3] / "shared" / "data" / "groundedness"
pytestmark = pytest.mark.skipif(
    not LABELLED.exists(), reason="the labelled answers of the development data are not here"
)


def scores(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Context overlap and label (1 is grounded) of every answer."""
    metric = metrics.make("context_overlap")
    found = []
    for line in (LABELLED / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        context = row["context"]
        passage = Passage(document="d", title="", start=0, end=len(context), text=context, score=1.0)
        score = metric.score(Case(id="c", question="q"), AnswerView(text=row["response"], passages=(passage,)))
        if score.value is not None:
            found.append((score.value, row["grounded"]))
    values, labels = np.array(found).T
    return values, labels


def area(values: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a grounded answer scores above one that is not; ties count half."""
    good, bad = values[labels == 1], values[labels == 0]
    above = (good[:, None] > bad[None, :]).mean() + 0.5 * (good[:, None] == bad[None, :]).mean()
    return float(above)


def test_answers_that_ignore_their_passages_are_seen() -> None:
    values, labels = scores("begin_dev.jsonl")
    assert area(values, labels) == pytest.approx(0.94, abs=0.01)
    assert (values[labels == 0] < 0.5).mean() == pytest.approx(0.52, abs=0.02)
    assert (values[labels == 1] < 0.5).mean() < 0.01


def test_changed_facts_go_unseen() -> None:
    values, labels = scores("summedits_dev.jsonl")
    assert 0.4 < area(values, labels) < 0.55, "no better than chance: if this rises, the docs may claim more"
