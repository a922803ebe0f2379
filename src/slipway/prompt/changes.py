"""What changed between two texts, word by word."""

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

WORDS = re.compile(r"\s+|\w+|[^\w\s]")


class Piece(NamedTuple):
    """A run of words that stayed, came (`ins`) or went (`del`)."""

    kind: Literal["same", "ins", "del"]
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """The pieces in reading order; `same` and `del` together give `before`, `same` and `ins` give `after`."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    pieces: list[Piece] = []
    for tag, old_start, old_end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(old[old_start:old_end])))
            continue
        if old_end > old_start:
            pieces.append(Piece("del", "".join(old[old_start:old_end])))
        if new_end > new_start:
            pieces.append(Piece("ins", "".join(new[new_start:new_end])))
    return pieces
