"""Calibrates the coverage model on a team's own questions: a stated rate of false alarms then holds for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from slipway.domain.coverage import Calibration, Coverage, Found
from slipway.domain.dataset import Case
from slipway.domain.errors import InputError
from slipway.domain.evaluation import Interval
from slipway.domain.index import Index
from slipway.embedders.base import Vectors
from slipway.intervals import beta_quantile
from slipway.retrieve.coverage import FALSE_ALARMS, coverage_log_odds, to_logit
from slipway.retrieve.query import Legs, embed_questions, search_legs
from slipway.retrieve.questions import MADE
from slipway.retrieve.signals import Known, describe_search
from slipway.vectors.base import IndexReader
from slipway.workspace import Workspace

AT_ONCE = 64
"""Questions embedded at once."""


class Labelled(NamedTuple):
    """Distinct questions that the documents are known to answer, and those that they are known not to."""

    answered: list[Case]
    unanswered: list[Case]


class Scores(NamedTuple):
    """Log-odds that questions are covered; `left_out` without the documents that answer, where these are named."""

    answered: list[float]
    left_out: list[float]
    unanswered: list[float]


def calibrate_index(
    workspace: Workspace,
    index: Index,
    cases: Sequence[Case],
    *,
    false_alarms: float = FALSE_ALARMS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Index:
    """The index version with its decision moved to the answered questions among `cases`, saved.

    The weights of the model stay; see `conformal_cutoff` for what holds. What is not answered, and the answered ones
    without their documents, only tell how much is still found; nothing is fitted to them. Raises `InputError` for
    labels that do not fit the index and for too few questions, `EmbedderChanged`, `NotFound`; then nothing changed.
    """
    name = f"{index.name}@{index.version}"
    if index.coverage is None:
        raise InputError(f"{name} has no coverage model. Rebuild it: slipway retrieve build {index.name}")
    labelled = check_cases(index, cases, false_alarms=false_alarms)
    scores = _score_cases(workspace, index, labelled, on_progress)
    calibration = calibrate(
        scores, index=name, threshold=to_logit(index.coverage.threshold), false_alarms=false_alarms, now=workspace.now()
    )
    return _save(workspace, name, calibration)


def undo_calibration(workspace: Workspace, index: Index) -> Index:
    """The index version as its model was shipped, saved. Raises `InputError` where nothing is to be undone."""
    name = f"{index.name}@{index.version}"
    if index.calibration is None:
        raise InputError(f"{name} is not calibrated on questions of yours, so there is nothing to undo.")
    return _save(workspace, name, None)


def carry_calibration(before: Index | None, coverage: Coverage) -> Calibration | None:
    """The calibration of the version before, where the next one tells coverage by the same model; else None."""
    if before is None or before.calibration is None or before.coverage is None:
        return None
    then = before.coverage
    same = (then.features, then.weights, then.bias) == (coverage.features, coverage.weights, coverage.bias)
    return before.calibration if same else None


def conformal_cutoff(scores: Sequence[float], false_alarms: float) -> float:
    """The score below which a question counts as not covered: the k-th lowest of n, k = floor(rate (n + 1)).

    For a further question that is exchangeable with these, the chance of a score strictly below it is at most
    k / (n + 1), so at most the rate, whatever the distribution and however few they are. Minus infinity where n is
    below `fewest_questions`: then only "never an alarm" keeps the rate. Source: split conformal prediction,
    Papadopoulos et al., ECML (2002); Lei et al., JASA 113 (2018), theorem 2.2, whose upper quantile
    ceil((1 - rate) (n + 1)) of the negated scores this is.
    """
    rank = _rank(len(scores), false_alarms)
    return sorted(scores)[rank - 1] if rank else -math.inf


def fewest_questions(false_alarms: float) -> int:
    """Answered questions from which on a rate can be kept and an alarm still be given: 19 for 5 %.

    >>> fewest_questions(0.05), fewest_questions(0.1)
    (19, 9)
    """
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def rate_interval(questions: int, false_alarms: float) -> Interval:
    """Where the rate of one calibration lies with 95 % probability over the questions that it was made from.

    It follows Beta(k, n + 1 - k), or lies below where scores are tied. Source: Vovk, Conditional validity of inductive
    conformal predictors, ACML (2012).
    """
    rank = _rank(questions, false_alarms)
    if not rank:
        return Interval(0.0, 0.0)
    return Interval(beta_quantile(0.025, rank, questions + 1 - rank), beta_quantile(0.975, rank, questions + 1 - rank))


def alarms_left_out(scores: Sequence[float], false_alarms: float) -> int:
    """False alarms when each question is judged by a cut-off from all the others."""
    rank = _rank(len(scores) - 1, false_alarms)
    ordered = sorted(scores)
    # Without one of the lowest k, the k-th lowest of the others is the next one up; without another it stays.
    return sum(score < ordered[rank] for score in ordered[:rank])


def calibrate(scores: Scores, *, index: str, threshold: float, false_alarms: float, now: datetime) -> Calibration:
    """What the scores give. `threshold` is the shipped one in log-odds. There must be enough answered questions."""
    cutoff = conformal_cutoff(scores.answered, false_alarms)
    low, high = rate_interval(len(scores.answered), false_alarms)
    return Calibration(
        index=index,
        questions=len(scores.answered),
        false_alarms=false_alarms,
        low=low,
        high=high,
        cutoff=cutoff,
        answered=Found(
            of=len(scores.answered),
            before=_below(scores.answered, threshold),
            after=alarms_left_out(scores.answered, false_alarms),
        ),
        unanswered=_found(scores.unanswered, threshold, cutoff),
        left_out=_found(scores.left_out, threshold, cutoff),
        calibrated_at=now,
    )


def describe_calibration(calibration: Calibration) -> str:
    """One line for people, such as: calibrated on your 120 questions of 2026-11-30: 5 % false alarms (2 to 9 %)."""
    return (
        f"calibrated on your {calibration.questions} questions of {calibration.calibrated_at:%Y-%m-%d}: at most "
        f"{100 * calibration.false_alarms:.2g} % false alarms on average "
        f"({100 * calibration.low:.1f} to {100 * calibration.high:.1f} % with 95 % probability)"
    )


def found_rows(calibration: Calibration) -> list[tuple[str, Found]]:
    """What was counted on each kind of question that was given, named for people."""
    named = [
        ("answered: false alarms", calibration.answered),
        ("answered, without what answers: found", calibration.left_out),
        ("not answered: found", calibration.unanswered),
    ]
    return [(what, found) for what, found in named if found.of]


def most_unseen(calibration: Calibration) -> bool:
    """Whether less than half of the gaps is found at this rate, as far as the questions tell."""
    missed = calibration.left_out if calibration.left_out.of else calibration.unanswered
    return 2 * missed.after < missed.of


def check_cases(index: Index, cases: Sequence[Case], *, false_alarms: float) -> Labelled:
    """The cases by label. Raises `InputError` where they cannot calibrate this index at this rate; asks nothing."""
    labelled = sort_by_label(cases)
    check_labels(index, labelled.answered)
    _check_count(labelled, false_alarms)
    return labelled


def sort_by_label(cases: Sequence[Case]) -> Labelled:
    """Distinct questions by what their labels say; those without a label are left out.

    Raises `InputError` where the same question has both labels, where Slipway made some, and where none is answered.
    """
    made = sum(MADE in case.tags for case in cases)
    if made:
        raise InputError(
            f"{made} of {len(cases)} questions were made from the documents, so they do not tell how people ask. Take "
            "them out, or give questions that people wrote."
        )
    answered: dict[str, Case] = {}
    unanswered: dict[str, Case] = {}
    for case in cases:
        question = " ".join(case.question.split())
        if case.answerable is False:
            unanswered.setdefault(question, case)
        elif case.answerable or case.documents or case.spans or case.expected:
            answered.setdefault(question, case)
    for question in answered.keys() & unanswered.keys():
        raise InputError(f"'{question}' is labelled both as answered and as not answered. Take one of them out.")
    if not answered:
        raise InputError(
            f"None of the {len(cases)} questions is labelled as answered. Say so with "
            '"documents": ["file.md"] or "answerable": true.'
        )
    return Labelled(list(answered.values()), list(unanswered.values()))


def check_labels(index: Index, answered: Sequence[Case]) -> None:
    """Raises `InputError` where questions name documents, or places in them, that the index does not hold."""
    there = {entry.id: entry.characters for entry in index.documents}
    wrong = [
        (case, document)
        for case in answered
        for document in dict.fromkeys([*case.documents, *(span[0] for span in case.spans)])
        if document not in there or any(span[0] == document and span[2] > there[document] for span in case.spans)
    ]
    if wrong:
        case, document = wrong[0]
        what = f"names '{document}'" if document not in there else f"names a place behind the end of '{document}'"
        raise InputError(
            f"{len({case.id for case, _ in wrong})} of {len(answered)} answered questions do not fit "
            f"{index.name}@{index.version}: '{case.id}' {what}, which it does not hold. Mend the labels, or leave "
            "these questions out."
        )


def _check_count(labelled: Labelled, false_alarms: float) -> None:
    count, fewest = len(labelled.answered), fewest_questions(false_alarms)
    if count < fewest:
        able = math.ceil(1000 / (count + 1)) / 1000
        other = (
            f" {count} {'suffices' if count == 1 else 'suffice'} for {100 * able:.1f} %: --false-alarms {able:g}"
            if able <= 0.5
            else ""
        )
        are = "question is" if count == 1 else "questions are"
        raise InputError(
            f"{count} answered {are} too few to keep {100 * false_alarms:.2g} % false alarms: that takes "
            f"{fewest}, so {fewest - count} more.{other}"
        )


def _score_cases(
    workspace: Workspace, index: Index, labelled: Labelled, on_progress: Callable[[int, int], None] | None
) -> Scores:
    reader = workspace.indexes.open(index.hash)
    known = Known(reader, workspace.embedder if index.dimensions else None)
    scores, strange, example = Scores([], [], []), 0, ""
    cases = [*labelled.answered, *labelled.unanswered]
    for first in range(0, len(cases), AT_ONCE):
        some = cases[first : first + AT_ONCE]
        questions = [" ".join(case.question.split()) for case in some]
        vectors = embed_questions(workspace, index, questions)
        for place, (case, question) in enumerate(zip(some, questions, strict=True)):
            vector = None if vectors is None else vectors[place]
            legs = search_legs(reader, question, vector, index.search)
            score = partial(_score, known, index, question, legs, vector)
            if first + place >= len(labelled.answered):
                scores.unanswered.append(score())
            else:
                if not legs.lexical:
                    strange, example = strange + 1, example or question
                scores.answered.append(score())
                own = _own_chunks(reader, case)
                if own and len(own) < reader.chunk_count:
                    scores.left_out.append(score(own))
            if on_progress:
                on_progress(first + place + 1, len(cases))
    if 2 * strange > len(labelled.answered):
        raise InputError(
            f"{strange} of {len(labelled.answered)} questions share no word with {index.name}@{index.version}, such as "
            f"'{example}': it hardly answers them. Name the index that does, or check the file."
        )
    return scores


def _score(
    known: Known, index: Index, question: str, legs: Legs, vector: Vectors | None, dropped: Sequence[int] = ()
) -> float:
    row = describe_search(known, question, legs, vector=vector, alpha=index.search.alpha, dropped=dropped)
    return coverage_log_odds(row, index)


def _own_chunks(reader: IndexReader, case: Case) -> list[int]:
    """Chunks that hold the answer by the labels: those that meet a span, else whole documents."""
    numbers = [number for document in dict.fromkeys(case.documents) for number in reader.chunk_numbers(document)]
    if not case.spans:
        return numbers
    return [
        number
        for number, chunk in zip(numbers, reader.chunks(numbers), strict=True)
        if any(chunk.document == name and start < chunk.end and end > chunk.start for name, start, end in case.spans)
    ]


def _save(workspace: Workspace, name: str, calibration: Calibration | None) -> Index:
    records = workspace.store.records
    with workspace.store.transaction():
        changed = replace(records.get(Index, name), calibration=calibration)
        records.save(changed)
    return changed


def _found(scores: Sequence[float], threshold: float, cutoff: float) -> Found:
    return Found(of=len(scores), before=_below(scores, threshold), after=_below(scores, cutoff))


def _below(scores: Sequence[float], cutoff: float) -> int:
    return sum(score < cutoff for score in scores)


def _rank(questions: int, false_alarms: float) -> int:
    return math.floor(false_alarms * (questions + 1) + 1e-9)
