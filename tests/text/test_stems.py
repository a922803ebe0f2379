"""Stems agree with those of the full-text index, since both sides of a search must."""

import sqlite3

import pytest

from slipway.text.stems import stem

TEXT = """
caresses ponies ties caress cats feed agreed plastered bled motoring sing conflated troubled sized hopping tanned
falling hissing fizzed failing filing happy sky relational conditional rational valenci hesitanci digitizer
conformabli radicalli differentli vileli analogousli vietnamization predication operator feudalism decisiveness
hopefulness callousness formaliti sensitiviti sensibiliti triplicate formative formalize electriciti electrical
hopeful goodness revival allowance inference airliner gyroscopic adjustable defensible irritant replacement
adjustment dependent adoption homologou communism activate angulariti homologous effective bowdlerize probate rate
cease controll roll
café größe naïveté übungen señores
yes yellow syzygy y by oxen indices documents documentation documented retrieves retrieval
evaluations evaluating releases rollback encryption encrypted keys keyed
"""
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def fts5_stems() -> dict[str, str]:
    connection = sqlite3.connect(":memory:")
    connection.execute("create virtual table texts using fts5(word, tokenize='porter unicode61 remove_diacritics 2')")
    connection.execute("create virtual table terms using fts5vocab(texts, instance)")
    connection.executemany("insert into texts (rowid, word) values (?, ?)", enumerate(WORDS, start=1))
    found = dict(connection.execute("select doc, term from terms"))
    connection.close()
    return {word: found[number] for number, word in enumerate(WORDS, start=1)}


def test_stems_are_those_of_the_full_text_index(fts5_stems: dict[str, str]) -> None:
    assert {word: stem(word) for word in WORDS} == fts5_stems


@pytest.mark.parametrize("word", ["2024", "漢字", "a", "v2"])
def test_what_is_no_plain_english_word_stays(word: str) -> None:
    assert stem(word) == word
