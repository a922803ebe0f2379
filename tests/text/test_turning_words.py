"""Numbers and negations, the words that turn a question into another one."""

import pytest

from slipway.text.turning_words import turning_words

PAIRS = [
    pytest.param("Can I return it with a receipt?", "Can I return it without a receipt?", id="without"),
    pytest.param("Is it dimmable?", "Isn't it dimmable?", id="a contraction"),
    pytest.param("What do 5 lamps cost?", "What do 50 lamps cost?", id="a number"),
    pytest.param("How many feet are 1.5 m?", "How many feet are 15 m?", id="a decimal point"),
    pytest.param("Kann ich ihn mit Bon umtauschen?", "Kann ich ihn ohne Bon umtauschen?", id="German"),
    pytest.param("Puis-je le rendre avec un ticket ?", "Puis-je le rendre sans ticket ?", id="French"),
    pytest.param("Two lamps, please", "Three lamps, please", id="a number in words"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_they_tell_near_questions_apart(one: str, other: str) -> None:
    assert turning_words(one) != turning_words(other)


SAME = [
    pytest.param("What does shipping cost?", "what does the shipping cost", id="none"),
    pytest.param("I can't open it", "I cannot open it!", id="two forms of one negation"),
    pytest.param("2 lamps for 10 rooms", "For 10 rooms 2 lamps", id="another order"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_other_words_do_not_count(one: str, other: str) -> None:
    assert turning_words(one) == turning_words(other)
