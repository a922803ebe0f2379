"""Instructions that contradict each other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, prose, rules, sections


class Opposites(NamedTuple):
    """Two kinds of instruction that cannot both be followed."""

    what: str
    one: re.Pattern[str]
    other: re.Pattern[str]


def _words(pattern: str) -> re.Pattern[str]:
    # A negation just before turns the word round: "not too detailed" does not contradict "short".
    return re.compile(rf"(?<!not )(?<!not too )(?<!n't be )(?<!never )(?<!without )\b(?:{pattern})\b", re.I)


OPPOSITES = (
    Opposites(
        "length",
        _words(r"concise(?:ly)?|brief(?:ly)?|short|terse|in one sentence|one word|as few words as possible"),
        _words(r"detailed|in detail|thorough(?:ly)?|comprehensive(?:ly)?|exhaustive(?:ly)?|at length|in[- ]depth"),
    ),
    Opposites(
        "tone",
        _words(r"formal(?:ly)?|professional(?:ly)?|business[- ]like|serious"),
        _words(r"casual(?:ly)?|informal(?:ly)?|slang|funny|humorous|joking|playful(?:ly)?"),
    ),
    Opposites(
        "form",
        _words(r"only (?:valid )?json|json only|nothing but json|reply with json"),
        _words(r"plain text|markdown|full sentences|bullet points?|explain your (?:reasoning|answer)|step by step"),
    ),
    Opposites(
        "reasoning",
        _words(r"think step by step|explain your reasoning|show your (?:work|reasoning)"),
        _words(r"only the (?:answer|number|result)|without explanation|no explanation|do not explain"),
    ),
    Opposites(
        "sources",
        _words(r"only (?:use )?the (?:passages|context|documents)|use only the (?:passages|context|documents)"),
        _words(r"your own knowledge|general knowledge|what you know"),
    ),
)
_LANGUAGE = re.compile(
    r"\b(?:answer|reply|respond|write)\b[^.\n]{0,40}\bin ("
    r"English|German|French|Spanish|Italian|Dutch|Portuguese|Polish|"
    r"Swedish|Romanian|Chinese|Japanese)\b",
    re.I,
)

_MOST = re.compile(
    r"\b(?:at most|no more than|maximum of|up to|under|fewer than|less than) (\d+) (words|sentences|lines)\b", re.I
)
_LEAST = re.compile(r"\b(?:at least|no fewer than|minimum of|more than) (\d+) (words|sentences|lines)\b", re.I)


@rules.register("conflicts")
@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """Asks that no two instructions contradict each other: short and detailed, formal and casual, two languages."""

    practice: ClassVar[Practice] = "sound"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        written = [(part.place, prose(part.text)) for part in sections(prompt)]
        for opposites in OPPOSITES:
            one, other = _first(opposites.one, written), _first(opposites.other, written)
            if one and other:
                yield self._conflict(
                    other, f"contradicts '{one[1].group()}' ({opposites.what})", "Keep one of the two."
                )
        if prompt.output_schema and (other := _first(OPPOSITES[2].other, written)):
            yield self._conflict(other, "contradicts the output schema, which asks for JSON", "Leave it out.")
        languages = [(place, match) for place, text in written for match in _LANGUAGE.finditer(text)]
        for place, match in languages[1:]:
            if match[1].lower() != languages[0][1][1].lower():
                yield self._conflict((place, match), f"contradicts '{languages[0][1].group()}'", "Keep one language.")
        most, least = _first(_MOST, written), _first(_LEAST, written)
        if most and least and most[1][2].lower() == least[1][2].lower() and int(most[1][1]) < int(least[1][1]):
            yield self._conflict(least, f"contradicts '{most[1].group()}'", "Keep one bound, or order them.")

    def fix(self, prompt: Prompt) -> Prompt:
        return prompt

    def _conflict(self, found: tuple[str, re.Match[str]], reason: str, rewrite: str) -> LintFinding:
        place, match = found
        return LintFinding(
            rule="conflicts",
            practice=self.practice,
            severity="warning",
            place=place,
            start=match.start(),
            end=match.end(),
            reason=f"'{match.group()}' {reason}",
            rewrite=rewrite,
        )


def _first(pattern: re.Pattern[str], written: list[tuple[str, str]]) -> tuple[str, re.Match[str]] | None:
    for place, text in written:
        if match := pattern.search(text):
            return place, match
    return None
