"""Words of a text as the search over traces knows them: lower case, without accents, each once."""

import re
import unicodedata

LONGEST_WORD = 64
_ASCII_BREAKS = {code: " " for code in range(128) if not chr(code).isalnum()}
_WORD = re.compile(r"[^\W_]+")
# Scripts without spaces are searched by pairs of characters.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")


def words_of(text: str) -> set[str]:
    """Words of at most 64 characters; longer ones are encoded data that nobody searches for."""
    if text.isascii():
        words = set(text.lower().translate(_ASCII_BREAKS).split())
        if words and len(max(words, key=len)) > LONGEST_WORD:
            return {word for word in words if len(word) <= LONGEST_WORD}
        return words
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(letter)
    )
    # Hangul is taken apart by NFKD and put together again here.
    plain = unicodedata.normalize("NFKC", plain)
    found: set[str] = set()
    for word in _WORD.findall(plain):
        at = 0
        for run in _UNSPACED.finditer(word):
            found.add(word[at : run.start()])
            found.update(_pairs(run.group()))
            at = run.end()
        found.add(word[at:])
    found.discard("")
    return {word for word in found if len(word) <= LONGEST_WORD}


def query_words(text: str) -> list[str]:
    """Words that a trace must all hold. A star after a word asks for its beginning: `refund*`."""
    wanted: set[str] = set()
    for piece in text.split():
        words = sorted(words_of(piece))
        if piece.endswith("*") and len(words) == 1:
            words = [words[0] + "*"]
        if len(piece) == 1 and _UNSPACED.fullmatch(piece):
            words = [piece + "*"]
        wanted.update(words)
    return sorted(wanted)


def _pairs(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)]
