"""Late interaction: each word of a question by the nearest token of a sentence, weighed by how telling the word is."""

from __future__ import annotations

import numpy
import pytest

from slipway.embedders.base import TokenVectors
from slipway.retrieve.likeness import NOTHING_MET, OF_LIKENESS, describe_likeness, take_tokens
from slipway.text.overlap import WORD, content_words
from slipway.workspace import Workspace

MEANINGS = {"lamp": 0, "lantern": 0, "warranty": 1, "guarantee": 1, "train": 2, "who": 3}


def tokens(text: str) -> TokenVectors:
    """Words of one meaning share an axis; every other word has the last, far from all."""
    found = list(WORD.finditer(text))
    rows = numpy.zeros((len(found), 8), dtype=numpy.float32)
    for place, word in enumerate(found):
        rows[place, MEANINGS.get(word.group().lower(), 7)] = 1
    return TokenVectors(rows.mean(axis=0) if len(rows) else numpy.zeros(8, dtype=numpy.float32), rows,
                        tuple(range(len(found))), tuple(word.span() for word in found))  # fmt: skip


def describe(question: str, *sentences: str) -> dict[str, float]:
    """Each sentence is a passage of its own."""
    words = [frozenset(content_words(sentence)) for sentence in sentences]
    return describe_likeness(
        take_tokens(question, tokens(question)), [tokens(one) for one in sentences], range(len(sentences)), words
    )


def test_a_word_of_the_same_meaning_counts_as_met() -> None:
    met = describe("lamp warranty", "lantern guarantee")
    assert (met["met_by_best"], met["unmet_by_passage"]) == pytest.approx((1.0, 0.0))
    half = describe("lamp warranty", "lantern train")
    assert 0.2 < half["met_by_best"] < 0.8
    assert half["unmet_by_passage"] == pytest.approx(1 - half["met_by_best"])


def test_a_word_that_stands_in_the_passage_is_never_unmet() -> None:
    there, absent = describe("zebra", "zebra"), describe("zebra", "lamp")
    assert (there["unmet_by_passage"], absent["unmet_by_passage"]) == pytest.approx((0.0, 1.0))
    assert there["met_by_passage"] >= 0.85


def test_the_best_of_several_passages_counts_and_stands_out() -> None:
    found = describe("lamp warranty", "train", "lantern guarantee", "train")
    assert (found["met_by_best"], found["met_by_first"]) == pytest.approx((1.0, 0.0))
    assert (found["met_stands_out"], found["met_by_passage_lead"]) == pytest.approx((1.0, 1.0))


def test_words_apart_are_met_by_all_sentences_together() -> None:
    found = describe("lamp warranty", "lantern train", "guarantee train")
    assert found["met_by_all"] == pytest.approx(1.0)
    assert found["met_by_best"] < 1


def test_the_word_that_asks_is_compared_but_does_not_count_as_content() -> None:
    asked = take_tokens("Who sells lamps?", tokens("Who sells lamps?"))
    assert asked.stems == ("sell", "lamp")
    assert asked.asking == (0,)


@pytest.mark.parametrize(("question", "sentences"), [("?!", ["lamp"]), ("lamp", []), ("lamp", ["..."]), ("", [""])])
def test_nothing_to_compare_meets_nothing(question: str, sentences: list[str]) -> None:
    assert describe(question, *sentences) == NOTHING_MET
    assert set(NOTHING_MET) == set(OF_LIKENESS)


def test_minilm_meets_a_synonym_and_not_another_subject(with_vectors: Workspace) -> None:
    embedder = with_vectors.embedder
    question = "How long is the guarantee?"
    asked, near, far = embedder.embed_tokens(  # type: ignore[union-attr]
        [question, "Every lamp has a warranty of five years.", "Trains leave from platform nine."]
    )
    taken = take_tokens(question, asked)
    close, distant = (describe_likeness(taken, [one], [0], [frozenset()]) for one in (near, far))
    assert close["met_by_best"] > distant["met_by_best"] + 0.1
