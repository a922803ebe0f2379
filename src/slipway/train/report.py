"""The report on training data before anything is trained: splits, duplicates, leaks, lengths, personal data."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from slipway.domain.dataset import Dataset
from slipway.domain.evaluation import Evaluation
from slipway.domain.training import Pair
from slipway.text.personal_data import find_personal_data
from slipway.text.secrets import find_secrets
from slipway.text.tokens import count_tokens
from slipway.train.duplicates import clusters, jaccard, near_duplicates, normalise, runs_of
from slipway.train.pairs import Collected
from slipway.workspace import Workspace

FEW, ENOUGH, MANY = 50, 1_000, 50_000
LEAK = 0.8
"""Questions that share so much count as the same question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens: median, 95th percentile and longest."""

    median: int
    p95: int
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Training pairs whose question also stands in a dataset that releases are evaluated with."""

    dataset: str
    pairs: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What is in the data, and whether to train on it.

    `contradictions` are prompts with several different answers. `kept` are the ids that remain when exact duplicates
    are dropped, `validation` those of them that are held out; near duplicates always lie on one side.
    """

    pairs: int
    sources: dict[str, int]
    people: int
    exact_duplicates: int
    near_duplicates: int
    near_examples: tuple[tuple[str, str], ...]
    contradictions: int
    empty: int
    leaks: tuple[Leak, ...]
    prompt_tokens: Lengths
    completion_tokens: Lengths
    tokens: int
    personal_data: dict[str, int]
    secrets: int
    kept: tuple[str, ...]
    validation: tuple[str, ...]
    seed: int
    left_out: tuple[str, ...]
    verdict: Literal["ready", "look first", "not ready"]
    reasons: tuple[str, ...]
    advice: str


def report_on(workspace: Workspace, collected: Collected, *, validation_share: float, seed: int) -> DataReport:
    """The report of an application's pairs against every dataset that its evaluations used."""
    return make_report(
        collected.pairs,
        evaluation=evaluation_questions(workspace),
        validation_share=validation_share,
        seed=seed,
        left_out=collected.left_out,
    )


def evaluation_questions(workspace: Workspace) -> dict[str, list[str]]:
    """Questions of the datasets that evaluations ran over, and of the application's own questions."""
    used = {run.dataset.name for run in workspace.store.records.list(Evaluation) if run.dataset is not None}
    used.add("questions")
    found: dict[str, list[str]] = {}
    for name in sorted(used):
        dataset = workspace.store.records.latest(Dataset, name)
        if dataset is not None:
            found[f"{dataset.name}@{dataset.version}"] = [case.question for case in dataset.cases]
    return found


def make_report(
    pairs: Sequence[Pair],
    *,
    evaluation: Mapping[str, Sequence[str]] | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
    left_out: Sequence[str] = (),
    tokens_of: Callable[[str], int] = count_tokens,
) -> DataReport:
    """The report of these pairs; the same pairs and seed give the same splits in any order of the pairs."""
    ordered = sorted(pairs, key=lambda pair: (pair.id, pair.source))
    sound = [pair for pair in ordered if pair.prompt.strip() and pair.completion.strip()]
    unique = list({(normalise(pair.prompt), normalise(pair.completion)): pair for pair in reversed(sound)}.values())
    unique.reverse()
    alike = list(near_duplicates([f"{pair.prompt}\n{pair.completion}" for pair in unique]))
    personal = Counter(
        hit.kind for pair in unique for text in (pair.prompt, pair.completion) for hit in find_personal_data(text)
    )
    prompt_tokens = [tokens_of(pair.prompt) for pair in unique]
    completion_tokens = [tokens_of(pair.completion) for pair in unique]
    report = DataReport(
        pairs=len(pairs),
        sources=dict(
            Counter(pair.source.partition("@")[0] if "feedback:" not in pair.source else "feedback" for pair in ordered)
        ),
        people=len({pair.subject for pair in ordered if pair.subject}),
        exact_duplicates=len(sound) - len(unique),
        near_duplicates=len(alike),
        near_examples=tuple((unique[one].prompt, unique[other].prompt) for one, other, _ in alike[:3]),
        contradictions=_contradictions(unique),
        empty=len(ordered) - len(sound),
        leaks=tuple(_leaks(unique, evaluation or {})),
        prompt_tokens=_lengths(prompt_tokens),
        completion_tokens=_lengths(completion_tokens),
        tokens=sum(prompt_tokens) + sum(completion_tokens),
        personal_data=dict(personal),
        secrets=sum(len(find_secrets(text)) for pair in unique for text in (pair.prompt, pair.completion)),
        kept=tuple(pair.id for pair in unique),
        validation=tuple(_hold_out(unique, clusters(len(unique), alike), validation_share, seed)),
        seed=seed,
        left_out=tuple(left_out),
        verdict="ready",
        reasons=(),
        advice=_advice(len(unique)),
    )
    return _judged(report)


def _hold_out(pairs: Sequence[Pair], cluster_of: Sequence[int], share: float, seed: int) -> list[str]:
    """Ids to hold out: whole clusters of near duplicates, so that none is seen in both parts."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, cluster in enumerate(cluster_of):
        members[cluster].append(place)
    order = sorted(members)
    random.Random(seed).shuffle(order)
    wanted = round(len(pairs) * share)
    held: list[int] = []
    for cluster in order:
        if len(held) + len(members[cluster]) <= wanted:
            held += members[cluster]
    return [pairs[place].id for place in sorted(held)]


def _leaks(pairs: Sequence[Pair], evaluation: Mapping[str, Sequence[str]]) -> list[Leak]:
    found = []
    runs = [runs_of(pair.prompt) for pair in pairs]
    by_run: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(runs):
        for run in one:
            by_run[run].append(place)
    for dataset, questions in evaluation.items():
        leaked: dict[int, str] = {}
        for question in questions:
            asked = runs_of(question)
            # Whoever shares 80 % of the union lacks at most a quarter of the question's runs, so it has one of these.
            rare = sorted(asked, key=lambda run: len(by_run.get(run, ())))[: len(asked) // 4 + 1]
            for place in {place for run in rare for place in by_run.get(run, ())}:
                if jaccard(asked, runs[place]) >= LEAK:
                    leaked[place] = question
        if leaked:
            found.append(Leak(dataset=dataset, pairs=len(leaked), examples=tuple(list(leaked.values())[:3])))
    return found


def _contradictions(pairs: Sequence[Pair]) -> int:
    answers: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        answers[normalise(pair.prompt)].add(normalise(pair.completion))
    return sum(1 for found in answers.values() if len(found) > 1)


def _lengths(tokens: Sequence[int]) -> Lengths:
    ordered = sorted(tokens) or [0]
    last = len(ordered) - 1
    return Lengths(median=ordered[last // 2], p95=ordered[round(0.95 * last)], longest=ordered[-1])


def _advice(pairs: int) -> str:
    """Which road the number of pairs suggests. Thresholds are habits, not measurements."""
    if pairs < FEW:
        return f"{pairs} pairs are few: put the best of them into the prompt as examples before training."
    if pairs < ENOUGH:
        return f"{pairs} pairs suit LoRA with a small rank (8 to 16)."
    if pairs < MANY:
        return f"{pairs:,} pairs suit LoRA with a rank of 16 to 64."
    return f"{pairs:,} pairs can carry training of all layers."


def _judged(report: DataReport) -> DataReport:
    stops, looks = [], []
    if not report.kept:
        stops.append("there is no pair: correct answers in review or feedback, or put pairs into training/*.jsonl")
    stops += [
        f"{leak.pairs} pairs repeat questions of {leak.dataset}: its evaluation would measure memory"
        for leak in report.leaks
    ]
    if report.secrets:
        stops.append(f"{report.secrets} secrets stand in the pairs: a model would learn them by heart")
    if report.kept and not report.validation:
        looks.append("nothing could be held out: the effect of training cannot be measured")
    if report.personal_data:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.personal_data.items()))
        looks.append(f"personal data stands in the pairs: {kinds}")
    if report.contradictions:
        looks.append(f"{report.contradictions} prompts have several different answers")
    if report.kept and report.near_duplicates > 0.2 * len(report.kept):
        looks.append(f"{report.near_duplicates} near duplicates: the same thing would be learnt over and over")
    if report.empty:
        looks.append(f"{report.empty} pairs have an empty side and are left out")
    if 0 < len(report.kept) < FEW:
        looks.append(f"only {len(report.kept)} pairs")
    verdict: Literal["ready", "look first", "not ready"] = "not ready" if stops else "look first" if looks else "ready"
    return replace(report, verdict=verdict, reasons=(*stops, *looks))
