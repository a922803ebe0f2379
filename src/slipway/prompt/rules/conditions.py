"""Prompts that do not say what to do when the answer is not there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.message import ABSTENTION
from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import UNTRUSTED, Practice, first_line, instructions, rules, sections
from slipway.prompt.template import variables_of

_CONDITION = re.compile(
    r"\b(?:if|when|where|unless|in case|otherwise|whenever)\b[^.\n]{0,160}\b(?:no|not|none|nothing|cannot|can't|don't|"
    r"doesn't|isn't|lacks?|missing|without|unsure|unknown|unclear|empty|fails?|otherwise)\b",
    re.I,
)


@rules.register("conditions")
@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Asks for what to do when the passages do not hold the answer, or the input is not what was expected."""

    practice: ClassVar[Practice] = "conditions"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        if _CONDITION.search(instructions(prompt)) or not sections(prompt):
            return
        part = sections(prompt)[0]
        start, end = first_line(part)
        given = [name for name in variables_of(prompt) if UNTRUSTED.search(name)]
        yield LintFinding(
            rule="conditions",
            practice=self.practice,
            severity="warning" if given else "hint",
            place=part.place,
            start=start,
            end=end,
            reason=(
                f"the prompt does not say what to do when '{given[0]}' lacks the answer, so the model will invent one"
                if given
                else "the prompt does not say what to do when the input is empty or not what was expected"
            ),
            rewrite=(
                f'If the {given[0]} does not hold the answer, reply exactly: "{ABSTENTION}"'
                if given
                else "If the input does not fit the task, say so in one sentence and stop."
            ),
        )

    def fix(self, prompt: Prompt) -> Prompt:
        return prompt
