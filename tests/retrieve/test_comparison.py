"""Comparing settings: right measures, every combination, the best with its uncertainty, saved."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.config.editing import set_table
from slipway.domain.dataset import Case
from slipway.domain.document import Chunk
from slipway.domain.errors import ConfigError, InputError, NoClearDifference
from slipway.domain.release import Measure
from slipway.domain.settings_comparison import SettingsComparison, SettingsResult
from slipway.retrieve import comparison
from slipway.retrieve.applying import apply_best
from slipway.retrieve.comparison import (
    Outcome,
    Searched,
    Setting,
    _weigh_evidence,
    choose_best,
    compare_settings,
    judge,
    merge_spans,
)
from slipway.retrieve.fusion import Fused
from slipway.retrieve.index import load_index, load_sources
from slipway.retrieve.questions import make_questions
from slipway.retrieve.ranking import ndcg_at, reciprocal_rank
from slipway.workspace import Workspace, open_workspace

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
    settings = {Setting("recursive", one.size, "", "cosine", one.alpha, one.cut): one for one in rows}
    assert choose_best(settings)[-2:] == (0.5, 0.65)
    assert choose_best(settings).size == 200


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


def test_progress_is_told_inside_of_one_way_to_cut(workspace: Workspace) -> None:
    cases = make_questions(load_sources(workspace).documents)
    told: list[tuple[int, int]] = []
    compare_settings(workspace, cases=cases, sizes=[30, 200], on_percent=lambda *step: told.append(step))
    done = [percent for percent, _ in told]
    assert {total for _, total in told} == {100}
    assert done == sorted(done)
    assert done[-1] == 100
    assert len(set(done)) > 3, "not only at the end of each"


def test_the_settings_in_use_are_among_those_tried_and_named(workspace: Workspace) -> None:
    cases = make_questions(load_sources(workspace).documents)
    compared = compare_settings(workspace, cases=cases)
    assert compared.current is not None
    assert (compared.current.size, compared.current.cut) == (200, 0.76)
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


def test_chunkers_similarities_and_embedders_are_tried_too(with_vectors: Workspace) -> None:
    cases = make_questions(load_sources(with_vectors).documents)
    compared = compare_settings(
        with_vectors,
        cases=cases,
        chunkers=["recursive", "sentence"],
        sizes=[60],
        embedders=[with_vectors.embedder, None],
        similarities=["cosine", "euclid"],
        alphas=[0.3, 0.6],
        cuts=[0.7],
    )
    tried = [(row.chunker, bool(row.embedder), row.similarity, row.alpha) for row in compared.rows]
    assert tried == [
        (chunker, *rest)
        for chunker in ("recursive", "sentence")
        for rest in [
            *((True, similarity, alpha) for similarity in ("cosine", "euclid") for alpha in (0.3, 0.6)),
            (False, "cosine", 1.0),
        ]
    ]
    assert all(row.iou is not None and row.precision is not None for row in compared.rows)


def test_precision_and_iou_count_characters_once() -> None:
    case = Case(id="1", question="?", spans=(("a", 5, 15),))
    twice = [Fused(1, 1.0, 1, 0), Fused(0, 0.9, 0.9, 0), Fused(1, 0.9, 0.9, 0)]
    outcome = judge(case, twice, twice, SEARCHED)
    assert (outcome.recall, outcome.precision, outcome.iou) == pytest.approx((9 / 10, 9 / 20, 9 / 21))
    assert merge_spans([("a", 5, 9), ("b", 0, 1), ("a", 0, 6)]) == [("a", 0, 9), ("b", 0, 1)]


def test_a_run_that_was_stopped_goes_on_where_it_was(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = make_questions(load_sources(workspace).documents)
    whole = compare_settings(workspace, cases=cases, sizes=[30, 60, 200])
    cut: list[int] = []

    def stop(done: int, _total: int) -> None:
        cut.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_settings(workspace, cases=cases, sizes=[30, 60, 200], on_progress=stop)
    tried: list[object] = []
    real = comparison._try_cutting
    monkeypatch.setattr(comparison, "_try_cutting", lambda *given: tried.append(given[3].size) or real(*given))
    again = compare_settings(workspace, cases=cases, sizes=[30, 60, 200])
    assert tried == [200], "two of the three were kept"
    assert again.rows == whole.rows
    assert list((workspace.state / "comparisons").iterdir()) == [], "a finished run leaves nothing behind"


def test_the_best_setting_is_written_and_its_index_is_built(application: Path) -> None:
    settings = application / "slipway.toml"
    with open_workspace(application) as opened:
        before = settings.read_text(encoding="utf-8")
        compared = compare_settings(
            opened, cases=make_questions(load_sources(opened).documents), sizes=[40], cuts=[0.7]
        )
        applied = apply_best(opened, compared, force=True)
        assert opened.store.records.get(SettingsComparison, compared.id) == applied
    after = settings.read_text(encoding="utf-8")
    assert [line for line in before.splitlines() if line.startswith("#")] == [
        line for line in after.splitlines() if line.startswith("#")
    ]
    assert tomllib.loads(after)["retrieve"]["cut"] == 0.7
    with open_workspace(application) as opened:
        index = load_index(opened, applied.applied)
        assert "size=40" in index.chunker
        assert index.search.cut == 0.7


TABLES = [
    pytest.param("[retrieve]\nalpha = 0.5  # words\n\n# The next\n[guard]\nx = 1\n",
                 "[retrieve]\nalpha = 0.3  # words\ncut = 0.7\n\n# The next\n[guard]\nx = 1\n", id="comments stay"),
    pytest.param("name = 'a'\n", "name = 'a'\n\n[retrieve]\nalpha = 0.3\ncut = 0.7\n", id="no table yet"),
    pytest.param("[retrieve]\nalpha = [\n 1,\n]\n", "[retrieve]\nalpha = 0.3\ncut = 0.7\n", id="over several lines"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), TABLES)
def test_a_table_is_edited_in_place(before: str, after: str) -> None:
    assert set_table(before, "retrieve", {"alpha": 0.3, "cut": 0.7}) == after


def test_a_table_that_cannot_be_edited_safely_is_left() -> None:
    with pytest.raises(ConfigError, match="Edit it by hand"):
        set_table("[retrieve.chunker]\nkind = 'fixed'\n", "retrieve", {"chunker": {"kind": "recursive"}})


def outcomes(*, ndcg: float, recall: float = 0.9, tokens: int = 500) -> list[Outcome]:
    return [Outcome(ndcg + 0.01 * (place % 3), recall, 0.5, tokens + place) for place in range(60)]


HERE = Setting("recursive", 200, "minilm", "cosine", 0.45, 0.76)


@pytest.mark.parametrize(
    ("best", "found", "clear", "said"),
    [
        pytest.param(HERE, {"ndcg": 0.5}, False, "These are the settings", id="the same"),
        pytest.param(HERE._replace(size=100), {"ndcg": 0.6}, True, "Better than", id="better"),
        pytest.param(HERE._replace(size=100), {"ndcg": 0.5}, False, "No clear difference", id="level"),
        pytest.param(HERE._replace(cut=0.9), {"ndcg": 0.5, "tokens": 300}, True, "fewer tokens", id="sharper"),
        pytest.param(HERE._replace(cut=0.6), {"ndcg": 0.5, "recall": 0.95}, True, "recall is higher", id="wider"),
        pytest.param(HERE._replace(cut=0.9), {"ndcg": 0.5, "recall": 0.8, "tokens": 300}, False, "without a clear",
                     id="sharper and worse"),
    ],
)  # fmt: skip
def test_evidence_is_clear_only_beyond_chance(best: Setting, found: dict[str, float], clear: bool, said: str) -> None:
    tried = {HERE: outcomes(ndcg=0.5), best: outcomes(**found)}  # type: ignore[arg-type]
    evidence = _weigh_evidence(tried, best, HERE)
    assert evidence.clear is clear
    assert said in evidence.verdict
    untried = _weigh_evidence({best: tried[best]}, best, HERE._replace(size=1))
    assert not untried.clear


def test_what_is_there_stays_without_a_clear_difference(application: Path) -> None:
    settings = application / "slipway.toml"
    before = settings.read_text(encoding="utf-8")
    with open_workspace(application) as opened:
        compared = compare_settings(opened, cases=make_questions(load_sources(opened).documents), sizes=[40])
        with pytest.raises(NoClearDifference, match="--force"):
            apply_best(opened, replace(compared, clear=False))
        assert opened.store.records.get(SettingsComparison, compared.id).applied == ""
    assert settings.read_text(encoding="utf-8") == before
