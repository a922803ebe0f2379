"""Quality: right answers, right abstentions, citations, context overlap, time and cost over a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.evaluation import CaseResult, Score
from slipway.domain.release import EvidenceKind, Measure
from slipway.evaluate.suites.base import (
    Conclusion,
    Material,
    Probe,
    choose,
    grouped,
    latencies,
    mean_measure,
    present,
    suites,
)
from slipway.metrics.base import AnswerView, metrics

METRICS = ("quality", "exact", "overlap", "answered", "refused", "citation", "context_overlap", "latency", "cost")
SHORT, LONG = 7, 14
"""Words of a question: fewer than the first is short, more than the second is long."""


@suites.register("quality")
@dataclass(frozen=True)
class Quality:
    """Asks the cases of a dataset and scores each answer by every metric; groups by topic and length of question."""

    metric: ClassVar[str] = "quality"
    kind: ClassVar[EvidenceKind] = "evaluation"
    streamed: ClassVar[bool] = False

    def plan(self, material: Material) -> list[Probe]:
        return [Probe(case=case) for case in choose(material.cases, material.limit, seed=material.seed)]

    def score(self, probe: Probe, answer: AnswerView, material: Material) -> tuple[Score, ...]:
        return tuple(metrics.make(name).score(probe.case, answer) for name in METRICS)

    def conclude(self, results: Sequence[CaseResult], material: Material) -> Conclusion:
        seed = material.seed
        shares = [mean_measure(results, name, seed=seed) for name in METRICS[:-2]]
        cost = mean_measure(results, "cost", better="lower", unit="$", seed=seed)
        notes = []
        if shares[0] is None:
            notes.append(
                "No case says what a good answer is; add 'expected', 'answerable' or 'documents' to the cases."
            )
        return Conclusion(
            results=tuple(results),
            measures=present([*shares, *latencies(results), cost]),
            groups=self._groups(results, seed),
            notes=tuple(notes),
        )

    def failed(self, result: CaseResult) -> bool:
        quality = result.value("quality")
        return bool(result.error) or (quality is not None and quality < 0.5)

    def _groups(self, results: Sequence[CaseResult], seed: int) -> dict[str, tuple[Measure, ...]]:
        found: dict[str, tuple[Measure, ...]] = {}
        splits = {
            "group": grouped(results, lambda result: result.group),
            "length": grouped(results, lambda result: length_of(result.question)),
        }
        for tag in dict.fromkeys(tag for result in results for tag in result.tags):
            splits.setdefault("tag", {})[tag] = [result for result in results if tag in result.tags]
        for split, groups in splits.items():
            if len(groups) < 2 and split != "group":
                continue
            for name, members in groups.items():
                measures = [mean_measure(members, metric, seed=seed) for metric in METRICS[:-2]]
                if kept := present(measures):
                    found[f"{split}: {name}"] = kept
        return found


def length_of(question: str) -> str:
    """`short`, `medium` or `long` by the number of words."""
    words = len(question.split())
    return "short" if words < SHORT else "long" if words > LONG else "medium"
