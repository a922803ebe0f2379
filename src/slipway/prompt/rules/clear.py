"""Words that leave the model to guess, shouting, and prompts that hardly ask for anything."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, first_line, instructions, prose, rules, sections

VAGUE = {
    "etc.": "name the whole list, or say what belongs to it",
    "and so on": "name the whole list, or say what belongs to it",
    "some": "say how many",
    "a few": "say how many, for example 'two to four'",
    "several": "say how many, for example 'three'",
    "appropriate": "say what makes it appropriate",
    "appropriately": "say how",
    "properly": "say how",
    "as needed": "say when it is needed",
    "if possible": "say when to do it and when not",
    "if necessary": "say when it is necessary",
    "try to": "leave it out: tell the model to do it",
    "good": "say what makes it good",
    "nice": "say what makes it nice",
    "stuff": "name it",
    "things": "name them",
    "somehow": "say how",
    "relevant information": "name what to include",
}
_VAGUE = re.compile(
    rf"(?<![\w'-])(?:{'|'.join(re.escape(word) for word in sorted(VAGUE, key=len, reverse=True))})(?![\w'-])", re.I
)
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"")
_SHOUTING = re.compile(r"(?:\b[A-Z]{3,}\b[ ,]+){2,}\b[A-Z]{3,}\b")
_MARKS = re.compile(r"!{2,}|\?{2,}")


@rules.register("clear")
@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Asks for words that leave nothing to guess: no 'appropriate', 'some' or 'etc.', no shouting, a task in full."""

    fewest_words: int = 8

    practice: ClassVar[Practice] = "clear and specific"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        for part in sections(prompt):
            written = _QUOTED.sub(lambda quote: " " * len(quote.group()), prose(part.text))
            for match in _VAGUE.finditer(written):
                word = match.group().lower()
                yield LintFinding(
                    rule="clear",
                    practice=self.practice,
                    severity="hint",
                    place=part.place,
                    start=match.start(),
                    end=match.end(),
                    reason=f"'{match.group()}' leaves the model to guess",
                    rewrite=VAGUE[word],
                )
            for match in _SHOUTING.finditer(written):
                yield LintFinding(
                    rule="clear",
                    practice=self.practice,
                    severity="hint",
                    place=part.place,
                    start=match.start(),
                    end=match.end(),
                    reason="capitals do not make an instruction clearer",
                    rewrite=match.group().capitalize(),
                )
            for match in _MARKS.finditer(written):
                yield LintFinding(
                    rule="clear",
                    practice=self.practice,
                    severity="hint",
                    place=part.place,
                    start=match.start(),
                    end=match.end(),
                    reason="repeated marks do not make an instruction clearer",
                    rewrite=match.group()[0],
                    fixable=True,
                )
        words = re.findall(r"[^\W\d_]+", re.sub(r"</?[\w-]+>", " ", instructions(prompt)))
        if len(words) < self.fewest_words:
            first = next(iter(sections(prompt)), None)
            start, end = first_line(first) if first else (0, 0)
            yield LintFinding(
                rule="clear",
                practice=self.practice,
                severity="warning",
                place=first.place if first else "user",
                start=start,
                end=end,
                reason=f"the prompt asks for its task in {len(words)} words; the model has to guess the rest",
                rewrite="Say who reads the answer, what it is for, and what it must hold.",
            )

    def fix(self, prompt: Prompt) -> Prompt:
        return replace(
            prompt,
            system=_MARKS.sub(lambda match: match.group()[0], prompt.system),
            user=_MARKS.sub(lambda match: match.group()[0], prompt.user),
        )
