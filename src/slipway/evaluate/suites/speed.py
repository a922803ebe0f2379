"""Speed: how long answers take and how fast they stream, one request after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.evaluation import CaseResult, Score
from slipway.domain.release import EvidenceKind
from slipway.evaluate.suites.base import (
    Conclusion,
    Material,
    Probe,
    choose,
    latencies,
    mean_measure,
    percentile_measure,
    present,
    suites,
    values_of,
)
from slipway.metrics.base import AnswerView, is_answerable, metrics


@suites.register("speed")
@dataclass(frozen=True)
class Speed:
    """Asks questions one after the other and streams each answer: latency, first piece, tokens a second.

    It measures one user at a time on this machine and network. What many users at once do is for `slipway deploy`.
    """

    metric: ClassVar[str] = "latency"
    kind: ClassVar[EvidenceKind] = "latency"
    streamed: ClassVar[bool] = True
    requests: int = 20

    def plan(self, material: Material) -> list[Probe]:
        # An abstention is over sooner than an answer and would flatter the figures.
        asked = [case for case in material.cases if is_answerable(case)] or list(material.cases)
        return [Probe(case=case) for case in choose(asked, material.limit, self.requests, seed=material.seed)]

    def score(self, probe: Probe, answer: AnswerView, material: Material) -> tuple[Score, ...]:
        return (metrics.make("latency").score(probe.case, answer), _first_piece(answer), _tokens_per_second(answer))

    def conclude(self, results: Sequence[CaseResult], material: Material) -> Conclusion:
        notes = ["One request at a time."]
        if results and not values_of(results, "tokens_per_second"):
            notes.append("The engine does not count its tokens.")
        return Conclusion(
            results=tuple(results),
            measures=present(
                [
                    *latencies(results),
                    percentile_measure(results, "first_piece", "first_piece_p50", 0.5),
                    mean_measure(results, "tokens_per_second", unit="tokens/s", seed=material.seed),
                ]
            ),
            notes=tuple(notes),
        )

    def failed(self, result: CaseResult) -> bool:
        return bool(result.error)


def _first_piece(answer: AnswerView) -> Score:
    if answer.first_piece_s is None:
        return Score(metric="first_piece", value=None, reason="nothing was streamed")
    return Score(
        metric="first_piece", value=answer.first_piece_s, reason="from question to first piece, guardrails included"
    )


def _tokens_per_second(answer: AnswerView) -> Score:
    tokens = answer.usage.output_tokens
    if not answer.answered or answer.usage.estimated or not tokens or not answer.seconds:
        return Score(metric="tokens_per_second", value=None, reason="no counted tokens")
    return Score(metric="tokens_per_second", value=tokens / answer.seconds, reason=f"{tokens} tokens, search included")
