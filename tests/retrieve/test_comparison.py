"""Comparing settings: right measures, every combination, the best with its uncertainty, saved."""

from __future__ import annotations

import math

import pytest

from slipway.domain.dataset import Case
from slipway.domain.document import Chunk
from slipway.domain.errors import InputError
from slipway.domain.release import Measure
from slipway.domain.settings_comparison import SettingsComparison, SettingsResult
from slipway.retrieve.comparison import Searched, choose_best, compare_settings, judge, ndcg_at, reciprocal_rank
from slipway.retrieve.fusion import Fused
from slipway.retrieve.index import load_sources
from slipway.retrieve.questions import make_questions
from slipway.workspace import Workspace

GAINS = [
    pytest.param([True], 1, 1.0, id="the only one first"),
    pytest.param([False, True], 1, 1 / math.log2(3), id="second"),
    pytest.param([True, False, True], 2, (1 + 0.5) / (1 + 1 / math.log2(3)), id="two of two, one of them late"),
    pytest.param([False] * 10 + [True], 1, 0.0, id="beyond the tenth"),
    pytest.param([True] * 10, 30, 1.0, id="no more than ten can be had"),
    pytest.param([], 1, 0.0, id="nothing returned"),
    pytest.param([False], 0, 0.0, id="nothing to find"),
]


@pytest.mark.parametrize(("relevant", "there", "expected"), GAINS)
def test_ndcg(relevant: list[bool], there: int, expected: float) -> None:
    assert ndcg_at(relevant, there) == pytest.approx(expected)


def test_reciprocal_rank() -> None:
    assert reciprocal_rank([False, False, True]) == pytest.approx(1 / 3)
    assert reciprocal_rank([False]) == 0


TEXT = "aaaaaaaaaa bbbbbbbbbb cccccccccc"
CHUNKS = [Chunk(document="a", start=11 * n, end=11 * n + 10, text=TEXT[11 * n : 11 * n + 10]) for n in range(3)]
SEARCHED = Searched(10, [], [*CHUNKS, Chunk(document="b", start=0, end=5, text="other")], [4, 5, 6, 7])
RANKING = [Fused(1, 1.0, 1, 0), Fused(3, 0.9, 0.9, 0), Fused(0, 0.5, 0.5, 0)]


def test_a_span_is_judged_by_its_characters() -> None:
    case = Case(id="1", question="?", spans=(("a", 5, 15),))
    outcome = judge(case, RANKING, RANKING[:2], SEARCHED)
    assert outcome.recall == pytest.approx(4 / 10), "4 of the 10 characters lie in the chunk that the cut left"
    assert outcome.mrr == 1
    assert outcome.tokens == 5 + 7
    assert outcome.ndcg == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)))


def test_a_document_is_judged_by_its_best_chunk() -> None:
    case = Case(id="1", question="?", documents=("b",))
    outcome = judge(case, RANKING, RANKING[:1], SEARCHED)
    assert (outcome.recall, outcome.mrr) == (0.0, 0.5)
    assert outcome.ndcg == pytest.approx(1 / math.log2(3))


def row(size: int, cut: float, ndcg: float, recall: float) -> SettingsResult:
    return SettingsResult(
        size=size,
        alpha=0.5,
        cut=cut,
        ndcg=Measure(name="nDCG@10", value=ndcg),
        recall=Measure(name="recall", value=recall),
        mrr=Measure(name="MRR", value=ndcg),
        tokens=100.0,
    )


def test_the_best_has_the_highest_ndcg_and_the_sharpest_cut_that_costs_nothing() -> None:
    rows = [row(100, 0.5, 0.7, 0.95), row(200, 0.5, 0.8, 0.9), row(200, 0.65, 0.8, 0.895), row(200, 0.8, 0.8, 0.7)]
    assert choose_best({(one.size, one.alpha, one.cut): one for one in rows}) == (200, 0.5, 0.65)


def test_every_combination_is_tried_and_the_result_is_kept(workspace: Workspace) -> None:
    cases = make_questions(load_sources(workspace).documents)
    told: list[tuple[int, int]] = []
    compared = compare_settings(
        workspace, cases=cases, sizes=[30, 200], cuts=[0.5, 0.9], on_progress=lambda *step: told.append(step)
    )
    assert [(one.size, one.alpha, one.cut) for one in compared.rows] == [
        (size, 1.0, cut) for size in (30, 200) for cut in (0.5, 0.9)
    ], "without vectors alpha does not count"
    assert compared.made
    assert compared.best in compared.rows
    assert compared.questions == sum(case.answerable is not False for case in cases)
    for one in compared.rows:
        assert one.ndcg.low is not None
        assert one.ndcg.high is not None
        assert 0 <= one.ndcg.low <= one.ndcg.value <= one.ndcg.high <= 1
    assert told == [(1, 2), (2, 2)]
    assert workspace.store.records.get(SettingsComparison, compared.id) == compared


def test_the_settings_in_use_are_among_those_tried_and_named(workspace: Workspace) -> None:
    cases = make_questions(load_sources(workspace).documents)
    compared = compare_settings(workspace, cases=cases)
    assert compared.current is not None
    assert (compared.current.size, compared.current.cut) == (200, 0.78)
    assert "slipway.toml" in compared.verdict


def test_vectors_add_alphas(with_vectors: Workspace) -> None:
    cases = make_questions(load_sources(with_vectors).documents)
    compared = compare_settings(with_vectors, cases=cases, sizes=[200], cuts=[0.65])
    assert [one.alpha for one in compared.rows] == [0.3, 0.45, 0.6]


UNUSABLE = [
    pytest.param([], id="none"),
    pytest.param([Case(id="1", question="Where?")], id="without a place"),
    pytest.param([Case(id="1", question="Where?", answerable=False, documents=("a",))], id="unanswerable"),
]


@pytest.mark.parametrize("cases", UNUSABLE)
def test_cases_that_cannot_be_judged_are_refused(workspace: Workspace, cases: list[Case]) -> None:
    with pytest.raises(InputError, match="says where its answer stands"):
        compare_settings(workspace, cases=cases)
