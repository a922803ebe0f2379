"""One headline number per case: is this what should have come back?"""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, is_answerable, metrics, references
from slipway.metrics.citation import CitationMetric
from slipway.text.overlap import content_words, longest_common_run, token_f1, words

LONG = 5
"""From so many content words on, an expected answer need not stand there word for word."""
MOST = 0.8
# fmt: off
NUMBERS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "fifteen": "15",
    "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100",
}
# fmt: on
"""Number words and their digits: "five years" is "5 years". "One" is left out, for it is mostly a pronoun."""
SPELT = re.compile(rf"\b({'|'.join(NUMBERS)})\b", re.IGNORECASE)


@metrics.register("quality")
@dataclass(frozen=True)
class Quality:
    """1 for a good outcome, 0 for a bad one, between for an answer that holds a part of the expected one.

    Unanswerable: 1 when the release abstained, else 0. Answerable: 0 when nothing was answered; 1 when the answer holds
    the expected text word for word, or four fifths of the content words of a longer one with all its numbers, or when
    the token F1 reaches `enough`; 0 when a short expected answer has a number that is not there ("14 days" for "30
    days"); else the token F1. Without an expected text: whether the right place is cited.
    Nothing known about the case: no score.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""
    enough: float = 0.6

    def score(self, case: Case, answer: AnswerView) -> Score:
        match is_answerable(case):
            case None:
                return Score(metric="quality", value=None, reason="nothing is known about a good answer")
            case False:
                return _score_unanswerable(answer)
            case True:
                return self._score_answerable(case, answer)

    def _score_answerable(self, case: Case, answer: AnswerView) -> Score:
        if answer.blocked:
            return Score(metric="quality", value=0.0, reason="a guardrail stopped it")
        if answer.abstained:
            return Score(metric="quality", value=0.0, reason="abstained although the documents hold the answer")
        expected = references(case)
        if not expected:
            place = CitationMetric().score(case, answer)
            return Score(metric="quality", value=place.value, reason=place.reason)
        said = with_digits(answer.text)
        return max((self._compare(with_digits(text), said) for text in expected), key=lambda score: score.value or 0.0)

    def _compare(self, expected: str, said: str) -> Score:
        if holds_word_for_word(expected, said):
            return Score(metric="quality", value=1.0, reason="holds the expected answer word for word")
        if holds_most(expected, said):
            return Score(metric="quality", value=1.0, reason="holds the content of the expected answer")
        if missing := missing_numbers(expected, said):
            return Score(metric="quality", value=0.0, reason=f"lacks {', '.join(missing)} of the expected answer")
        f1 = token_f1(words(said), words(expected))
        if f1 >= self.enough:
            return Score(metric="quality", value=1.0, reason=f"F1 {f1:.2f} with the expected answer")
        reason = f"F1 {f1:.2f} with the expected answer" if f1 else "shares no word with the expected answer"
        return Score(metric="quality", value=f1, reason=reason)


def _score_unanswerable(answer: AnswerView) -> Score:
    if answer.abstained:
        return Score(metric="quality", value=1.0, reason="abstained, as it should")
    if answer.blocked:
        return Score(metric="quality", value=0.0, reason="a guardrail stopped it")
    return Score(metric="quality", value=0.0, reason="answered although the documents do not hold the answer")


def with_digits(text: str) -> str:
    """The text with number words as digits."""
    return SPELT.sub(lambda found: NUMBERS[found[0].lower()], text)


def holds_word_for_word(expected: str, said: str) -> bool:
    """Whether the words of `expected` stand in `said` as one run."""
    wanted = words(expected)
    return bool(wanted) and longest_common_run(wanted, words(said)) == len(wanted)


def holds_most(expected: str, said: str) -> bool:
    """Whether a longer expected answer is there in other words: most of its content words and all its numbers."""
    wanted = set(content_words(expected))
    if len(wanted) < LONG:
        return False
    there = set(content_words(said))
    return not _numbers(wanted) - there and len(wanted & there) >= MOST * len(wanted)


def missing_numbers(expected: str, said: str) -> list[str]:
    """Numbers of a short expected answer that were not said: there the number is the answer."""
    wanted = set(content_words(expected))
    return sorted(_numbers(wanted) - set(content_words(said))) if len(wanted) < LONG else []


def _numbers(found: set[str]) -> set[str]:
    return {word for word in found if word[:1].isdigit()}
