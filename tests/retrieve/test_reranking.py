"""Scoring passages again and rewriting follow-ups: pinned, paid for in the trace, harmless where the engine fails."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from slipway.config.reader import load_settings
from slipway.domain.errors import ConfigError
from slipway.domain.message import Message
from slipway.domain.trace import Span
from slipway.release.parts import cut_release
from slipway.release.pipeline import Asked, answer
from slipway.retrieve.batch import search_questions
from slipway.retrieve.index import build_index
from slipway.retrieve.query import search_index
from slipway.retrieve.rerankers.engine import read_scores, write_question
from slipway.workspace import Workspace, open_workspace

QUESTION = "What does shipping of a lamp cost?"
JUDGE = 'reranker = { kind = "engine", engine = "judge", model = "m" }'
REWRITER = 'rewriting = { engine = "writer", model = "m" }'
PRICE = "[prices.judge]\ninput = 1000.0\noutput = 1000.0\n[prices.writer]\ninput = 1000.0\noutput = 1000.0\n"


def configured(folder: Path, line: str, engines: str = "") -> Workspace:
    path = folder / "slipway.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[retrieve]\n", f"[retrieve]\ncut = 0.0\n{line}\n") + f"\n{engines}\n{PRICE}")
    return open_workspace(folder, settings=load_settings(folder))


def judge(reply: str) -> str:
    return f'[engines.judge]\nkind = "echo"\nreply = {json.dumps(reply)}\n'


def spans_of(workspace: Workspace, asked: Asked) -> dict[str, Span]:
    build_index(workspace)
    made = asyncio.run(answer(cut_release(workspace), asked, workspace=workspace))
    return {span.name: span for span in workspace.store.traces.get(made.trace).spans}


def test_an_engine_as_judge_puts_passages_in_a_new_order(application: Path) -> None:
    with configured(application, JUDGE, judge("1: 2\n2: 9\n3: 0")) as workspace:
        index = build_index(workspace)
        found = search_index(workspace, index, QUESTION)
        (told,) = search_questions(workspace, index, [("", QUESTION)])
    assert [passage.score for passage in found] == [0.9, 0.2]
    first, second = (passage.first_score or 0.0 for passage in found)
    assert first < second, "the second hit of the search is now the first"
    assert list(told.passages) == found
    assert told.reranked is not None
    assert (told.reranked.engine, told.reranked.model, told.reranked.failed) == ("judge", "m", "")
    assert told.reranked.input_tokens > 20
    assert told.reranked.cost_micros == 1000 * (told.reranked.input_tokens + told.reranked.output_tokens)


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (judge("I cannot say."), "holds no scores"),
        ('[engines.judge]\nkind = "echo"\nfails = "unreachable"\n', "unreachable"),
    ],
)
def test_the_order_of_the_search_stays_where_the_judge_fails(application: Path, engine: str, why: str) -> None:
    with open_workspace(application) as plain:
        expected = [one.document for one in search_index(plain, build_index(plain), QUESTION)]
    with configured(application, JUDGE, engine) as workspace:
        index = build_index(workspace)
        (told,) = search_questions(workspace, index, [("", QUESTION)])
    assert [one.document for one in told.passages][: len(expected)] == expected
    assert {one.first_score for one in told.passages} == {None}
    assert told.reranked is not None
    assert why in told.reranked.failed


def test_an_engine_that_has_left_the_settings_stops_no_search(application: Path) -> None:
    with configured(application, JUDGE, judge("1: 9")) as workspace:
        index = build_index(workspace)
    path = application / "slipway.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[engines.judge]", "[engines.other]"))
    with open_workspace(application, settings=load_settings(application)) as workspace:
        (told,) = search_questions(workspace, index, [("", QUESTION)])
    assert told.passages
    assert told.reranked is not None
    assert "There is no engine 'judge'" in told.reranked.failed


def test_scores_of_nothing_but_zero_keep_the_order(application: Path) -> None:
    with configured(application, JUDGE, judge("1: 0\n2: 0\n3: 0")) as workspace:
        found = search_index(workspace, build_index(workspace), QUESTION)
    assert len(found) >= 2
    assert found[0].score == 1.0


def test_the_step_and_its_cost_stand_in_the_trace(application: Path) -> None:
    with configured(application, JUDGE, judge("1: 9\n2: 1")) as workspace:
        spans = spans_of(workspace, Asked(question=QUESTION))
        line = workspace.store.traces.summary(spans["answer"].trace)
    step = spans["rerank"]
    assert (step.kind, step.provider, step.model, step.status) == ("rerank", "judge", "m", "ok")
    assert step.parent == spans["retrieval"].span
    assert step.cost_micros > 0
    assert spans["answer"].cost_micros == line.cost_micros == step.cost_micros
    passages = spans["retrieval"].content["passages"]
    assert isinstance(passages, list)
    assert passages[0]["score"] == 0.9
    assert 0 < passages[0]["first_score"] <= 1


def test_reranker_and_rewriting_are_pinned_by_the_hash_of_the_index(application: Path) -> None:
    engines = judge("1: 5") + '[engines.writer]\nkind = "echo"\n'
    with open_workspace(application) as plain:
        before = build_index(plain)
    with configured(application, JUDGE, engines) as workspace:
        reranked = build_index(workspace)
        assert build_index(workspace).version == reranked.version
    path = application / "slipway.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(JUDGE, REWRITER))
    with open_workspace(application, settings=load_settings(application)) as workspace:
        rewritten = build_index(workspace)
    assert len({before.hash, reranked.hash, rewritten.hash}) == 3
    assert (before.search.reranker, before.search.rewriting) == ("", "")
    assert json.loads(reranked.search.reranker)["model"] == "m"
    assert json.loads(rewritten.search.rewriting) == {"engine": "writer", "model": "m"}


HISTORY = (
    Message(role="user", text="How long is the warranty of a lamp?"),
    Message(role="assistant", text="Five years."),
)
WRITER = '[engines.writer]\nkind = "echo"\nreply = "What does express shipping cost?"\n'


def test_a_follow_up_is_rewritten_before_the_search_and_paid_for(application: Path) -> None:
    with configured(application, REWRITER, WRITER) as workspace:
        spans = spans_of(workspace, Asked(question="And the fast one?", history=HISTORY))
    step = spans["rewrite question"]
    assert step.content == {"question": "And the fast one?", "reply": "What does express shipping cost?"}
    assert (step.kind, step.provider, step.status) == ("chat", "writer", "ok")
    assert step.cost_micros > 0
    assert spans["answer"].cost_micros == step.cost_micros
    passages = spans["retrieval"].content["passages"]
    assert isinstance(passages, list)
    assert passages[0]["document"] == "shipping.md"


def test_a_first_question_is_not_rewritten(application: Path) -> None:
    with configured(application, REWRITER, WRITER) as workspace:
        assert "rewrite question" not in spans_of(workspace, Asked(question="How long is the warranty?"))


@pytest.mark.parametrize("engine", ['fails = "timeout"', f'reply = "{"word " * 200}"'])
def test_the_question_itself_is_searched_where_rewriting_fails(application: Path, engine: str) -> None:
    with configured(application, REWRITER, f'[engines.writer]\nkind = "echo"\n{engine}\n') as workspace:
        spans = spans_of(workspace, Asked(question="Does it cover the bulb?", history=HISTORY))
    assert spans["rewrite question"].status == "error"
    assert spans["answer"].status == "ok"
    passages = spans["retrieval"].content["passages"]
    assert isinstance(passages, list)
    assert passages[0]["document"] == "warranty.md"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('reranker = { engine = "judge" }', "it has no kind"),
        ('reranker = { kind = "nothing" }', "nothing"),
        ('reranker = { kind = "engine" }', "engine"),
        ('reranker = { kind = "engine", engine = "absent", model = "m" }', "There is no engine 'absent'"),
        ('reranker = { kind = "engine", engine = "judge" }', "names no model"),
        ('reranker = { kind = "engine", engine = "judge", model = "m", depth = 1 }', "from 2 to 100"),
        ('reranker = { kind = "engine", engine = "extractive" }', "only quotes"),
        ('rewriting = { model = "m" }', "engine"),
        ('rewriting = { engine = "judge", models = "m" }', "models"),
    ],
)
def test_a_wrong_table_is_told_when_the_index_is_built(application: Path, line: str, why: str) -> None:
    with configured(application, line, judge("")) as workspace, pytest.raises(ConfigError, match=why):
        build_index(workspace)


def test_scores_are_read_from_whatever_shape_the_lines_have() -> None:
    assert read_scores("1: 7\nPassage 2: 10/10\n- 3 = 12\n9: 4", 4) == (0.7, 1.0, 1.0, 0.0)
    assert read_scores("no idea", 2) == ()
    assert read_scores("5: 3", 2) == ()


def test_passages_are_sent_with_their_numbers() -> None:
    assert write_question("Q?", ["a", "b"]).count("<passage number=") == 2
