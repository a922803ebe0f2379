"""What an answer came from: places that support its sentences, shares that add up, sentences that nothing supports."""

from __future__ import annotations

import pytest

from slipway.retrieve.attribution import Attribution, Source, attribute
from slipway.workspace import Workspace

SHIPPING = "# Shipping\n\nStandard shipping costs 4.90 euros. Express shipping costs 12 euros and arrives the next day."
RETURNS = "You can return a parcel within 30 days after delivery. We pay for returns inside the European Union."
SOURCES = [
    Source("shipping.md", 100, 100 + len(SHIPPING), SHIPPING, 1.0),
    Source("returns.md", 0, len(RETURNS), RETURNS, 0.8),
]


def supports(found: Attribution) -> list[tuple[str, int | None]]:
    return [(sentence.support, sentence.passage) for sentence in found.sentences]


def test_each_sentence_is_traced_to_the_place_that_supports_it() -> None:
    answer = "Express shipping costs 12 euros [1]. A parcel can be returned within 30 days [2]. Lamps come from Spain."
    found = attribute(answer, SOURCES)
    assert supports(found) == [("words", 0), ("words", 1), ("none", None)]
    assert [one.text for one in found.without_support] == ["Lamps come from Spain."]
    first = found.sentences[0]
    assert answer[first.start : first.end] == first.text
    evidence = SHIPPING[first.evidence_start - 100 : first.evidence_end - 100]
    assert evidence == "Express shipping costs 12 euros and arrives the next day."
    assert [(one.document, one.sentences) for one in found.passages] == [("shipping.md", 1), ("returns.md", 1)]


def test_shares_and_what_is_unsupported_make_the_whole() -> None:
    found = attribute("Express shipping costs 12 euros. Lamps shine. We pay for returns.", SOURCES)
    assert sum(one.share for one in found.passages) + found.unsupported == pytest.approx(1)
    assert 0 < found.unsupported < 0.5
    assert found.words == sum(sentence.words for sentence in found.sentences)


def test_a_number_that_stands_nowhere_near_takes_the_support_away() -> None:
    (sentence,) = attribute("Express shipping costs 14 euros.", SOURCES).sentences
    assert (sentence.support, sentence.missing_numbers) == ("none", ("14",))
    (right,) = attribute("Express shipping costs 12 euros.", SOURCES).sentences
    assert (right.support, right.missing_numbers) == ("words", ())


def test_the_number_of_a_citation_is_no_number_of_the_sentence() -> None:
    (sentence,) = attribute("You can return a parcel after delivery [17].", SOURCES).sentences
    assert sentence.support == "words"


def test_words_that_are_strewn_over_passages_support_nothing() -> None:
    strewn = [Source("a", 0, 30, "Express trains. Blue whales. Costs rose."), Source("b", 0, 30, "Shipping of euros.")]
    assert supports(attribute("Express shipping costs euros.", strewn)) == [("none", None)]


def test_a_sentence_without_content_has_nothing_to_support() -> None:
    assert supports(attribute("Yes. Express shipping costs 12 euros.", SOURCES)) == [
        ("nothing to support", None),
        ("words", 0),
    ]


@pytest.mark.parametrize(("answer", "sources"), [("", SOURCES), ("...", SOURCES), ("# Title", SOURCES)])
def test_an_answer_that_says_nothing_is_taken_apart_to_nothing(answer: str, sources: list[Source]) -> None:
    found = attribute(answer, sources)
    assert (found.sentences, found.words, found.unsupported) == ((), 0, 0.0)
    assert [one.share for one in found.passages] == [0.0, 0.0]


def test_without_passages_everything_is_unsupported() -> None:
    found = attribute("Express shipping costs 12 euros.", [])
    assert (found.unsupported, found.passages) == (1.0, ())


def test_a_table_row_and_a_list_item_are_sentences_of_their_own() -> None:
    found = attribute("- Express shipping costs 12 euros\n- The moon is cheese\n", SOURCES)
    assert supports(found) == [("words", 0), ("none", None)]


def test_a_paraphrase_is_similar_where_an_embedder_runs_here(with_vectors: Workspace) -> None:
    answer = "Sending a parcel back remains possible for one month once it reached you. Bread is baked after delivery."
    plain = attribute(answer, SOURCES)
    assert supports(plain) == [("none", None), ("none", None)]
    assert plain.measure == "word overlap"
    found = attribute(answer, SOURCES, embedder=with_vectors.embedder)
    assert found.measure.startswith("word overlap, then similarity by all-MiniLM-L6-v2")
    assert supports(found) == [("similar", 1), ("none", None)]
    first, second = (sentence.similarity or 0.0 for sentence in found.sentences)
    assert first > second
