"""Cuts: the places in a text where it may be cut in two without cutting a pattern that a rail looks for.

A cut lies between two plain words (letters only, not all capitals, at most 24), between two characters of a script
written without spaces, and after a line that ends in a sign that no key or number ends in. Local rails promise that
no hit crosses a cut. Where a text offers no cut for `LONGEST` characters, one is made there, in whole texts and
streams alike, so that both give the same result.
"""

import re
from collections.abc import Iterator

LONGEST = 8192
"""Longest stretch without a cut, characters: a private key of 4096 bits with its frame has 3,300."""
CONTEXT = 80
"""Characters before a piece that a rail may read as context."""
LOOK_AHEAD = 64
"""Characters behind a place that say whether it is a cut: a plain word, a sign, and what ends it. Without this end, a
text that offers no cut would be searched to its end for each of its pieces."""

_PLAIN = r"(?![A-Z]+\b)[^\W\d_]{1,24}"
_SCRIPT = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
_CUT = re.compile(
    rf"(?<![^\s]){_PLAIN}[,.;!?]?[ \t](?={_PLAIN}[,.;!?]?\s)"
    rf"|{_SCRIPT}(?={_SCRIPT})"
    r"|[^A-Za-z0-9+/=\-\"'\\\s][ \t]*\n"
)


def last_cut(text: str, start: int, end: int) -> int:
    """The last cut in (start, end], or `start` where there is none. Only the text next to a place makes it a cut."""
    found = start
    for match in _CUT.finditer(text, start, end + LOOK_AHEAD):
        if match.end() > end:
            break
        found = match.end()
    return found


def pieces(text: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """[start, end) of stretches of at most `LONGEST` characters that together are the text from `start`, a cut, on."""
    while len(text) - start > LONGEST:
        end = last_cut(text, start, start + LONGEST)
        if end == start:
            end = start + LONGEST
        yield start, end
        start = end
    yield start, len(text)
