"""Keys, passwords and personal data that stand in a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, rules, sections
from slipway.text.personal_data import find_personal_data
from slipway.text.secrets import find_secrets


@rules.register("secrets")
@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Asks that no key or password stands in a prompt, and no personal data in its examples."""

    practice: ClassVar[Practice] = "safe"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        texts = [(part.place, part.text) for part in sections(prompt)]
        examples = [(f"examples[{n}]", example.input) for n, example in enumerate(prompt.examples)]
        examples += [(f"examples[{n}].output", example.output) for n, example in enumerate(prompt.examples)]
        for place, text in texts + examples:
            for hit in find_secrets(text):
                yield LintFinding(
                    rule="secrets",
                    practice=self.practice,
                    severity="error",
                    place=place,
                    start=hit.start,
                    end=hit.end,
                    reason=f"this looks like a secret ({hit.kind.replace('_', ' ')}), and it goes out with every call",
                    rewrite="Remove it and replace the key at its maker: it must count as known.",
                )
        for place, text in examples:
            for hit in find_personal_data(text):
                yield LintFinding(
                    rule="secrets",
                    practice=self.practice,
                    severity="warning",
                    place=place,
                    start=hit.start,
                    end=hit.end,
                    reason=f"personal data ({hit.kind.replace('_', ' ')}) stands in an example",
                    rewrite="Use an invented value, such as name@example.com.",
                )

    def fix(self, prompt: Prompt) -> Prompt:
        return prompt
