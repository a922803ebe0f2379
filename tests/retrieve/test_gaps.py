"""Gaps: what the documents do not cover is found, grouped and named; what they cover is left alone."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy
import pytest

from slipway.domain.document import Document
from slipway.domain.ids import hash_text
from slipway.domain.index import Index
from slipway.domain.trace import Span
from slipway.retrieve.coverage import (
    FEWEST_PROBES,
    PRIORS,
    answerable_probability,
    general_probability,
    make_probes,
)
from slipway.retrieve.gaps import find_gaps, judge_questions
from slipway.retrieve.index import build_index
from slipway.retrieve.query import embed_question, search_legs
from slipway.retrieve.reading import WEIGHED as READER_WEIGHTS
from slipway.retrieve.reading import Sentence
from slipway.retrieve.signals import BY_WORDS_ALONE, OF_SENTENCES, Known, describe_search
from slipway.retrieve.topics import average_link, group_questions, lend_words, name_topic, word_vectors
from slipway.workspace import Workspace

COVERED = ["How long can I return a parcel?", "What does express shipping cost?", "How long is the warranty of a lamp?"]
MISSING = [
    "How do I bake sourdough bread?",
    "How long should bread bake in the oven?",
    "Can I pay with PayPal?",
    "Do you accept PayPal payments?",
    "Can I pay with PayPal?",
]


@pytest.fixture(params=["words", "vectors"])
def ready(request: pytest.FixtureRequest) -> Workspace:
    opened: Workspace = request.getfixturevalue("workspace" if request.param == "words" else "with_vectors")
    build_index(opened)
    return opened


def latest(workspace: Workspace) -> Index:
    found = workspace.store.records.latest(Index, "documents")
    assert found is not None
    return found


@pytest.mark.parametrize("question", COVERED)
def test_what_the_documents_cover_is_probable(ready: Workspace, question: str) -> None:
    assert answerable_probability(ready, latest(ready), question) > 0.4


@pytest.mark.parametrize("question", [*MISSING, "", "???"])
def test_what_they_do_not_cover_is_improbable(ready: Workspace, question: str) -> None:
    assert answerable_probability(ready, latest(ready), question) < 0.2


def test_gaps_are_grouped_by_topic_with_volume_and_the_document_to_write(ready: Workspace) -> None:
    gaps = find_gaps(ready, latest(ready), [*COVERED, *MISSING])
    assert [gap.volume for gap in gaps] == [3, 2]
    assert "PayPal" in gaps[0].topic
    assert "bread" in gaps[1].topic
    assert gaps[0].questions[0] == "Can I pay with PayPal?", "the most asked stands first"
    assert gaps[1].suggestion.startswith(f"Write a document about {gaps[1].topic} that answers: How")
    assert all(name.endswith(".md") for gap in gaps for name in gap.nearest)


def test_questions_that_are_covered_are_no_gap(ready: Workspace) -> None:
    assert find_gaps(ready, latest(ready), COVERED) == []
    assert find_gaps(ready, latest(ready), []) == []


def test_a_gap_closes_when_a_later_version_answers_it(ready: Workspace) -> None:
    before = find_gaps(ready, latest(ready), ["Can I pay with PayPal?"])
    assert len(before) == 1
    page = "# Payment\n\nYou can pay with PayPal, by card or by invoice.\n"
    (ready.folder / "documents" / "payment.md").write_text(page, encoding="utf-8")
    assert find_gaps(ready, build_index(ready), ["Can I pay with PayPal?"]) == []


def test_each_question_is_judged_once_with_its_volume(ready: Workspace) -> None:
    judged = judge_questions(ready, latest(ready), [*MISSING, "  Can I pay\nwith PayPal? ", ""])
    assert [(one.question, one.volume) for one in judged][2] == ("Can I pay with PayPal?", 3)
    assert len(judged) == 4


def test_questions_come_from_traces_of_this_index(workspace: Workspace) -> None:
    index = build_index(workspace)
    now = time.time_ns()
    for number, (question, name) in enumerate(
        [("Can I pay with PayPal?", "documents@1"), (COVERED[0], "documents@1"), ("Bake bread?", "other@1")]
    ):
        span = Span(
            trace=f"{number:032x}",  # type: ignore[arg-type]
            span=f"{number:016x}",  # type: ignore[arg-type]
            name="answer",
            kind="request",
            start_ns=now,
            end_ns=now + 1000,
            project=workspace.application,
            index=name,
            content={"question": question},
        )
        workspace.store.traces.add([span])
    assert [gap.questions for gap in find_gaps(workspace, index)] == [("Can I pay with PayPal?",)]


def many_documents(count: int) -> list[Document]:
    things = ["lamp", "bulb", "cable", "socket", "switch", "shade", "plug", "fuse", "meter", "panel"]
    made = []
    for number in range(count):
        thing, other = things[number % 10], things[(number * 3 + 1) % 10]
        text = "\n\n".join(
            f"The {thing} of series {number} is made by factory {number * 7 + part}. Its {other} lasts {part + 2} "
            f"years and carries the mark quality{number}x{part}. Order it under code {thing}{number}{part}."
            for part in range(4)
        )
        made.append(
            Document(
                id=f"{number:03}.txt", title=f"Series {number}", text=text, source="", content_hash=hash_text(text)
            )
        )
    return made


def test_an_index_calibrates_itself_by_leaving_documents_out(workspace: Workspace) -> None:
    coverage = build_index(workspace, "many", documents=many_documents(60)).coverage
    assert coverage is not None
    assert coverage.questions >= FEWEST_PROBES
    # The documents resemble each other on purpose: chance would be 0.5.
    assert 0.7 < coverage.auroc < 0.95
    assert 0.02 < coverage.threshold < 0.9
    assert coverage.found > 0.3


def test_a_small_index_says_that_it_was_not_calibrated(workspace: Workspace) -> None:
    index = build_index(workspace)
    assert index.coverage is not None
    assert index.coverage.questions < FEWEST_PROBES
    assert index.unanswered_below == index.coverage.threshold == PRIORS["words"].threshold


def test_leaving_a_document_out_equals_an_index_without_it(workspace: Workspace) -> None:
    documents = many_documents(12)
    with_it = build_index(workspace, "with", documents=documents)
    without_it = build_index(workspace, "without", documents=documents[1:])
    question = "Which factory makes the lamp of series 0 with the mark quality0x1?"
    reader = workspace.indexes.open(with_it.hash)
    own = reader.chunk_numbers("000.txt")
    assert own
    left_out = describe_search(
        Known(reader), question, search_legs(reader, question, None, with_it.search), dropped=own
    )
    other = workspace.indexes.open(without_it.hash)
    absent = describe_search(Known(other), question, search_legs(other, question, None, without_it.search))
    # Lengths and frequencies of the index without the document differ a little in BM25 itself.
    assert left_out == pytest.approx(absent, abs=0.05)


def test_probes_are_the_same_for_the_same_seed(workspace: Workspace) -> None:
    reader = workspace.indexes.open(build_index(workspace, "many", documents=many_documents(30)).hash)
    assert list(make_probes(reader, count=20, seed=1)) == list(make_probes(reader, count=20, seed=1))
    assert list(make_probes(reader, count=20, seed=1)) != list(make_probes(reader, count=20, seed=2))


def reference_average_link(similarity: numpy.ndarray, least: float) -> list[list[int]]:
    groups = [[place] for place in range(len(similarity))]
    while len(groups) > 1:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        value, a, b = max((float(similarity[numpy.ix_(groups[a], groups[b])].mean()), a, b) for a, b in pairs)
        if value < least:
            break
        groups[b] += groups.pop(a)
    return sorted(sorted(group) for group in groups)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [-1.0, 0.0, 0.2, 0.9])
def test_average_link_agrees_with_the_definition(seed: int, least: float) -> None:
    drawn = numpy.random.default_rng(seed).normal(size=(18, 4))
    drawn /= numpy.linalg.norm(drawn, axis=1, keepdims=True)
    similarity = (drawn @ drawn.T).astype(numpy.float32)
    assert sorted(average_link(similarity, least=least)) == reference_average_link(similarity, least)


def test_nothing_to_group_is_no_group() -> None:
    assert group_questions([], None) == []
    assert average_link(numpy.zeros((0, 0), dtype=numpy.float32), least=0.5) == []


TOPICS = [
    pytest.param(["Do you take PayPal?", "Pay by PayPal?"], ["Bake bread?"], "PayPal", id="as people write it"),
    pytest.param(["Is there a refund policy?", "refund policy please"], ["Is it new?"], "refund policy", id="in order"),
    pytest.param(["???"], [], "", id="no word at all"),
]


@pytest.mark.parametrize(("questions", "others", "topic"), TOPICS)
def test_a_topic_is_named_by_the_words_it_shares(questions: Sequence[str], others: Sequence[str], topic: str) -> None:
    assert name_topic(questions, others).startswith(topic)


def test_by_words_alone_two_questions_meet_by_a_third_that_has_words_of_both() -> None:
    vectors = word_vectors(["Vistula terraces", "terraces pharaohs", "pharaohs pyramids", "gearbox oil"])
    lent = lend_words(vectors)
    before, after = vectors @ vectors.T, lent @ lent.T
    assert before[0, 2] == 0
    assert after[0, 2] > 0.1
    assert after[0, 3] == 0
    assert numpy.abs(numpy.linalg.norm(lent, axis=1) - 1).max() < 1e-5


def test_no_sentence_is_embedded_where_the_search_is_sure_without(with_vectors: Workspace) -> None:
    index = build_index(with_vectors)
    reader = with_vectors.indexes.open(index.hash)
    known = Known(reader, with_vectors.embedder)
    question = "What does express shipping cost?"
    vector = embed_question(with_vectors, index, question)
    legs = search_legs(reader, question, vector, index.search)
    sure = describe_search(known, question, legs, vector=vector, sure=-math.inf)
    assert "read" not in sure
    assert not known._sentences
    assert general_probability(sure) > 0.5
    read: list[Sentence] = []
    unsure = describe_search(known, question, legs, vector=vector, sure=math.inf, sentences=read)
    assert sure.items() <= unsure.items(), "what was told without sentences stays"
    assert set(OF_SENTENCES) <= unsure.keys()
    assert "12 euros" in max(read, key=lambda one: float(one.described @ READER_WEIGHTS)).text


def test_a_search_with_cosines_of_another_model_is_told_by_words(with_vectors: Workspace) -> None:
    """The scale of cosines differs from model to model, so weights that MiniLM's have do not hold."""
    index = build_index(with_vectors)
    reader = with_vectors.indexes.open(index.hash)
    question = "How long is the warranty of a lamp?"
    vector = embed_question(with_vectors, index, question)
    legs = search_legs(reader, question, vector, index.search)
    foreign = describe_search(Known(reader, OtherModel()), question, legs, vector=vector)
    assert foreign.keys() == set(BY_WORDS_ALONE)
    assert general_probability(foreign) > 0.4


def test_a_question_in_chinese_is_told_by_words(with_vectors: Workspace) -> None:
    """MiniLM knows hardly a character of it, and the threshold stays that of the index."""
    text = "# 退货\n\n顾客可以在收到商品后三十天内退货。退款会在五个工作日内完成。"
    index = build_index(
        with_vectors,
        "chinese",
        documents=[Document(id="zh.md", title="退货", text=text, source="", content_hash=hash_text(text))],
    )
    assert answerable_probability(with_vectors, index, "收到商品后多少天内可以退货？") > index.unanswered_below
    assert answerable_probability(with_vectors, index, "澳大利亚的首都是哪里？") < index.unanswered_below


class OtherModel:
    """An embedder that only tells who it is."""

    id = "another-model"
    dimensions = 384

    def embed(self, texts: Sequence[str]) -> numpy.ndarray:
        raise AssertionError("no text is embedded for this")


def test_a_name_tells_more_of_a_topic_than_a_word_as_rare() -> None:
    first, same_name, same_word = word_vectors(
        ["Where was Zoltan schooled?", "When did Zoltan emigrate?", "Which pupils were schooled elsewhere?"]
    )
    assert first @ same_name > 1.5 * (first @ same_word) > 0
