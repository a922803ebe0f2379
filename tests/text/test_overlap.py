"""Words, coverage, n-grams and common runs."""

import pytest

from slipway.text.overlap import (
    asked_words,
    content_words,
    coverage,
    longest_common_run,
    ngrams,
    rarity,
    space_out,
    token_f1,
    words,
)

WORDS = [
    pytest.param("The lamp's price: 1,000.50 euros", ["the", "lamp", "price", "1,000.50", "euros"], id="numbers stay"),
    pytest.param("max_tokens and re-use", ["max", "tokens", "and", "re", "use"], id="identifiers fall apart"),
    pytest.param("don’t STOP", ["don’t", "stop"], id="an apostrophe inside a word"),
    pytest.param("", [], id="nothing"),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_content_words_are_stems_without_stop_words() -> None:
    assert content_words("What are the warranties of these lamps?") == ["warranti", "lamp"]


def test_coverage_counts_distinct_words() -> None:
    assert coverage(["a", "b", "b"], ["b"]) == 0.5
    assert coverage([], ["b"]) == 0.0


def test_a_rare_word_weighs_more() -> None:
    weights = rarity([["lamp", "cord"], ["lamp"], ["lamp"]])
    assert weights["cord"] > weights["lamp"] > 0
    assert coverage(["lamp", "cord"], ["cord"], weights) > 0.5 > coverage(["lamp", "cord"], ["lamp"], weights)


def test_an_unknown_word_weighs_as_the_rarest() -> None:
    weights = {"lamp": 1.0, "cord": 3.0}
    assert coverage(["lamp", "zebra"], ["lamp"], weights) == 0.25


def test_ngrams_and_runs() -> None:
    a, b = words("the red lamp is new"), words("a red lamp was new")
    assert ngrams(a, 2)[0] == ("the", "red")
    assert len(ngrams(a, 2)) == 4
    assert ngrams(["one"], 2) == []
    assert longest_common_run(a, b) == 2
    assert longest_common_run([], b) == 0


F1 = [
    pytest.param("five years", "five years", 1.0, id="the same"),
    pytest.param("about five years", "five years", 0.8, id="one word too many"),
    pytest.param("never", "five years", 0.0, id="nothing shared"),
    pytest.param("", "", 1.0, id="both empty"),
    pytest.param("", "x", 0.0, id="one empty"),
]


@pytest.mark.parametrize(("text", "expected", "score"), F1)
def test_token_f1(text: str, expected: str, score: float) -> None:
    assert token_f1(text.split(), expected.split()) == pytest.approx(score)


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ("Wie viele Urlaubstage habe ich?", ["urlaubstage"]),
        ("Combien coûte la livraison avec le transporteur ?", ["combien", "coûte", "livraison", "transporteur"]),
        ("¿Cuánto cuesta el envío a las islas?", ["cuesta", "envío", "islas"]),
        ("Who won the war about the hat?", ["won", "war", "about", "hat"]),
        ("die hard", ["die", "hard"]),
        ("退款需要多长时间", ["退", "款", "需", "长", "时", "间"]),
        ("كم يكلف الشحن هل هو مجاني", ["يكلف", "الشحن", "مجاني"]),
    ],
)
def test_what_carries_no_topic_is_told_by_the_language_of_the_question(question: str, kept: list[str]) -> None:
    assert asked_words(question) == kept


def test_an_accent_is_one_with_its_letter_however_it_was_written() -> None:
    assert words("Mu\u0308ller") == words("M\u00fcller") == ["m\u00fcller"]


def test_characters_that_set_no_spaces_are_words() -> None:
    assert words("v2の漢字、コード1") == ["v2", "の", "漢", "字", "コ", "ー", "ド", "1"]
    assert space_out("v2漢字 ok").split() == ["v2", "漢", "字", "ok"]
