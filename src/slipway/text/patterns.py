"""Compiles regular expressions that users write, and refuses those whose time could grow without measure."""

import re
from functools import lru_cache

LONGEST_PATTERN = 1000
LONGEST_TEXT = 20_000
"""Characters of a text that a user's pattern is tried on."""

_QUANTIFIER = re.compile(r"[*+]|\{(\d*)(,?)(\d*)\}")


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern, compiled. Raises `ValueError` when it is no pattern, or repeats a group that itself repeats or
    branches, as in `(a+)+`: such a pattern can take exponential time on a text that almost matches."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"the pattern has more than {LONGEST_PATTERN} characters")
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, RecursionError, OverflowError) as wrong:
        raise ValueError(f"'{pattern}' is not a regular expression: {wrong}") from None
    if _repeats_a_repetition(pattern):
        raise ValueError(
            f"'{pattern}' repeats a group that repeats or branches inside, which can take for ever. "
            "Write it without the inner or the outer repetition"
        )
    return compiled


def _repeats_a_repetition(pattern: str) -> bool:
    """Whether an open-ended quantifier stands after a group with an open-ended quantifier or a branch in it."""
    risky: list[bool] = [False]
    place = 0
    while place < len(pattern):
        sign = pattern[place]
        if sign == "\\":
            place += 2
        elif sign == "[":
            place = _end_of_class(pattern, place)
        elif sign == "(":
            risky.append(False)
            place += 1
        elif sign == ")":
            inside = risky.pop() if len(risky) > 1 else False
            place += 1
            repeated = _open_ended(pattern, place)
            if inside and repeated:
                return True
            risky[-1] = risky[-1] or inside or repeated
        else:
            if sign == "|" or _open_ended(pattern, place):
                risky[-1] = True
            place += 1
    return False


def _open_ended(pattern: str, place: int) -> bool:
    match = _QUANTIFIER.match(pattern, place)
    if match is None:
        return False
    if match.group() in ("*", "+"):
        return True
    lowest, comma, highest = match.groups()
    # {2} repeats a fixed number of times; {2,} and {0,500} do not.
    return bool(comma) and (not highest or int(highest) - int(lowest or 0) > 10)


def _end_of_class(pattern: str, place: int) -> int:
    """The place after a `[…]`."""
    place += 1
    if pattern[place : place + 1] == "^":
        place += 1
    if pattern[place : place + 1] == "]":
        place += 1
    while place < len(pattern) and pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place + 1
