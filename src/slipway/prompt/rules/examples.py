"""Prompts without an example of a good answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, first_line, instructions, rules, sections

_EXAMPLE = re.compile(
    r"\b(?:for example|for instance|e\.g\.|examples?\b[^.\n]{0,60}:|such as|like this|looks like)", re.I
)


@rules.register("examples")
@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Asks for an example of a good answer, and for examples that differ from each other."""

    practice: ClassVar[Practice] = "examples"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        seen: dict[str, int] = {}
        for number, example in enumerate(prompt.examples):
            key = " ".join(example.input.lower().split())
            if not example.output.strip():
                yield self._about(number, 0, 0, "the example has no answer", "Write the answer you want to see.")
            elif key in seen:
                yield self._about(
                    number,
                    0,
                    len(example.input),
                    f"it asks the same as example {seen[key]}",
                    "Show another kind of case.",
                )
            seen.setdefault(key, number)
        if prompt.examples or not sections(prompt) or _EXAMPLE.search(instructions(prompt)):
            return
        part = sections(prompt)[0]
        start, end = first_line(part)
        yield LintFinding(
            rule="examples",
            practice=self.practice,
            severity="hint",
            place=part.place,
            start=start,
            end=end,
            reason="the prompt shows no example of a good answer",
            rewrite="Add one or two under 'examples:' in the front matter, one of them a case without an answer.",
        )

    def fix(self, prompt: Prompt) -> Prompt:
        return prompt

    def _about(self, number: int, start: int, end: int, reason: str, rewrite: str) -> LintFinding:
        return LintFinding(
            rule="examples",
            practice=self.practice,
            severity="warning",
            place=f"examples[{number}]",
            start=start,
            end=end,
            reason=reason,
            rewrite=rewrite,
        )
