"""Words: cut the same way when they are stored and when they are asked for."""

import pytest

from slipway.store.words import query_words, words_of

CASES = [
    pytest.param("Hello, World! 42 times", {"hello", "world", "42", "times"}, id="plain words and numbers"),
    pytest.param("snake_case and kebab-case", {"snake", "case", "and", "kebab"}, id="words with signs inside"),
    pytest.param("DE89 3704-0044", {"de89", "3704", "0044"}, id="an account number"),
    pytest.param("Größe, ÉTÉ, naïve", {"grosse", "ete", "naive"}, id="accents and umlauts"),
    pytest.param("東京都 tower", {"東京", "京都", "tower"}, id="Japanese goes in pairs"),
    pytest.param("価", {"価"}, id="a single sign"),
    pytest.param("서울 날씨", {"서울", "날씨"}, id="Korean has spaces"),
    pytest.param("", set(), id="nothing"),
    pytest.param("!?…", set(), id="signs only"),
    pytest.param("a" * 65 + " b", {"b"}, id="encoded data is left out"),
]


@pytest.mark.parametrize(("text", "words"), CASES)
def test_words_of_a_text(text: str, words: set[str]) -> None:
    assert words_of(text) == words


QUERIES = [
    pytest.param("Return PARCEL", ["parcel", "return"], id="any case, in order"),
    pytest.param("refund* now", ["now", "refund*"], id="a beginning"),
    pytest.param("*", [], id="only a star"),
    pytest.param("e-mail*", ["e", "mail"], id="a beginning of two words is no beginning"),
    pytest.param("東", ["東*"], id="a single sign is the beginning of a pair"),
]


@pytest.mark.parametrize(("text", "words"), QUERIES)
def test_words_of_a_query(text: str, words: list[str]) -> None:
    assert query_words(text) == words
