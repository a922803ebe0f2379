"""Prompts that do not say what the answer should look like."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, first_line, instructions, rules, sections

_FORM = re.compile(
    r"\b(?:json|yaml|csv|xml|html|markdown|table|columns?|bullet|numbered|list of|one word|sentences?|paragraphs?|"
    r"words?|lines?|characters?|format|headings?|key[s]?|reply exactly|answer with|only the|yes or no|number between|"
    r"in the form|as follows)\b",
    re.I,
)
_ASKED = re.compile(
    r"\b(?:answer|reply|respond|return|output|write|give|list|format|produce|print|use|start|end|keep)\b", re.I
)


@rules.register("structure")
@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Asks for the form of the answer: its length, its parts, or a JSON Schema."""

    practice: ClassVar[Practice] = "structure of the output"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        if prompt.output_schema or _says_form(instructions(prompt)) or not sections(prompt):
            return
        part = sections(prompt)[0]
        start, end = first_line(part)
        yield LintFinding(
            rule="structure",
            practice=self.practice,
            severity="warning",
            place=part.place,
            start=start,
            end=end,
            reason="the prompt does not say what the answer should look like",
            rewrite="Answer in one to three plain sentences.",
        )

    def fix(self, prompt: Prompt) -> Prompt:
        return prompt


def _says_form(text: str) -> bool:
    """Whether one sentence both asks for an answer and names its form."""
    return any(_FORM.search(line) and _ASKED.search(line) for line in re.split(r"(?<=[.!?])\s|\n", text))
