"""Sentences of a text as pairs of offsets, so that each one slices back to exactly its characters."""

import re
from typing import NamedTuple


class Span(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int


# A point behind one of these ends no sentence. Kept to words that seldom do, so that 'etc.' and 'Inc.' still can.
TITLES = "mr mrs ms dr prof st sr jr rev gen col lt sgt capt hon"
MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec"
SHORT_WORDS = "vs viz cf e.g i.e al approx ca no nos fig figs eq eqs sec vol vols pp ed eds dept est ext tel mt ft"
COMPANIES = "inc ltd co corp"
ABBREVIATIONS = frozenset(f"{TITLES} {MONTHS} {SHORT_WORDS} {COMPANIES}".split())
# These end a sentence before a capital letter all the same; behind the others stands a name that belongs to them.
MAY_END = frozenset(f"{COMPANIES} al ext jr sr".split())
# Tried at the first sign of a run only: a page of dots is then read once, not once for each of them.
TERMINATOR = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_`]*+(?=\s)|[。！？]+[」』”）]*")
BLANK_LINE = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
LAST_WORD = re.compile(r"[\w.]+$")
OPENERS = "\"'“‘«([*_`#-–—•"


def split_sentences(text: str) -> list[Span]:
    """Spans of the sentences in reading order, without the white space around them.

    A blank line always ends a sentence, a single line break never does (PDF text breaks lines anywhere).
    """
    spans: list[Span] = []
    start = 0
    for blank in BLANK_LINE.finditer(text):
        _split_paragraph(text, start, blank.start(), spans)
        start = blank.end()
    _split_paragraph(text, start, len(text), spans)
    return spans


def _split_paragraph(text: str, start: int, end: int, spans: list[Span]) -> None:
    for mark in TERMINATOR.finditer(text, start, end):
        if _ends_sentence(text, start, mark, end):
            _add(text, start, mark.end(), spans)
            start = mark.end()
    _add(text, start, end, spans)


def _add(text: str, start: int, end: int, spans: list[Span]) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        spans.append(Span(start, end))


def _ends_sentence(text: str, start: int, mark: re.Match[str], end: int) -> bool:
    if mark[0][0] in "。！？":
        return True
    after = mark.end()
    while after < end and text[after].isspace():
        after += 1
    if after >= end:
        return True
    following = text[after]
    if not (following.isupper() or following.isdigit() or following in OPENERS or ord(following) > 0x2E7F):
        return False
    if mark[0][0] != "." or len(mark[0]) > 1:
        return True
    word = LAST_WORD.search(text, max(0, mark.start() - 20), mark.start())
    if word is None:
        return True
    plain = word[0].lower().strip(".")
    if plain in ABBREVIATIONS:
        return plain in MAY_END and following.isupper()
    # An initial, as in 'J. Smith' or 'U.S. Army'; a digit numbers a list item where the sentence begins with it.
    if len(plain) == 1 or (len(plain) == 3 and plain[1] == "."):
        return plain.isdigit() and bool(text[start : word.start()].strip())
    return True
