"""Words that cost tokens and say nothing, sentences that stand twice, prompts that are too long."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, first_line, instructions, prose, rules, sections

FILLERS = {
    "please note that": "",
    "it is important to note that": "",
    "it is very important that": "",
    "i would like you to": "",
    "i want you to": "",
    "your task is to": "",
    "you should always": "always",
    "in order to": "to",
    "due to the fact that": "because",
    "at this point in time": "now",
    "in the event that": "if",
    "for the purpose of": "for",
    "a large number of": "many",
    "kindly": "",
    "please": "",
}
_FILLER = re.compile(rf"(?<![\w\"'])(?:{'|'.join(map(re.escape, FILLERS))})(?![\w'])[ ]?", re.I)
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")


@rules.register("concise")
@dataclass(frozen=True, slots=True, kw_only=True)
class Concise:
    """Asks for short prompts: no filler, no sentence twice, at most `most_words` words of instructions."""

    most_words: int = 500

    practice: ClassVar[Practice] = "concise"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        seen: set[str] = set()
        for part in sections(prompt):
            written = _QUOTED.sub(lambda quote: " " * len(quote.group()), prose(part.text))
            for match in _FILLER.finditer(written):
                yield LintFinding(
                    rule="concise",
                    practice=self.practice,
                    severity="hint",
                    place=part.place,
                    start=match.start(),
                    end=match.end(),
                    reason=f"'{match.group().strip()}' costs tokens in every call and says nothing",
                    rewrite=FILLERS[match.group().strip().lower()],
                    fixable=True,
                )
            for match in _SENTENCE.finditer(written):
                key = " ".join(match.group().lower().split())
                if len(key.split()) >= 4 and key in seen:
                    yield LintFinding(
                        rule="concise",
                        practice=self.practice,
                        severity="warning",
                        place=part.place,
                        start=match.start() + len(match.group()) - len(match.group().lstrip()),
                        end=match.end(),
                        reason="this sentence stands in the prompt already",
                    )
                seen.add(key)
        words = len(instructions(prompt).split())
        if words > self.most_words:
            part = max(sections(prompt), key=lambda one: len(one.text))
            start, end = first_line(part)
            yield LintFinding(
                rule="concise",
                practice=self.practice,
                severity="warning",
                place=part.place,
                start=start,
                end=end,
                reason=f"the instructions have {words} words; more than {self.most_words} cost time and money in every "
                "call and hide what matters",
                rewrite="Keep what changes the answers of your cases: slipway prompt try shows it.",
            )

    def fix(self, prompt: Prompt) -> Prompt:
        return replace(prompt, system=_without_filler(prompt.system), user=_without_filler(prompt.user))


def _without_filler(text: str) -> str:
    """Fillers replaced; a sentence that began with one begins with a capital again. Tags and quotes stay."""
    kept = [(match.start(), match.end()) for match in re.finditer(r"\{[{%#].*?[}%#]\}|\"[^\"\n]{1,400}\"", text, re.S)]

    def shorter(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in kept):
            return match.group()
        short = FILLERS[match.group().strip().lower()]
        return f"{short} " if short and match.group().endswith(" ") else short

    fixed = _FILLER.sub(shorter, text)
    if fixed == text:
        return text
    return re.sub(r"(\A|(?<=[.!?] )|(?<=\n))([a-z])(?=[a-z]* )", lambda letter: letter.group().upper(), fixed)
