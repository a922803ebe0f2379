"""Output schemas that are none, and examples that break them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, rules
from slipway.text.json_schema import find_faults, parse_schema


@rules.register("schema")
@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Asks that the output schema is a JSON Schema, and that every example's answer fits it."""

    practice: ClassVar[Practice] = "structure of the output"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        if not prompt.output_schema:
            return
        try:
            schema = parse_schema(prompt.output_schema)
        except ValueError as wrong:
            yield self._about("output_schema", len(prompt.output_schema), f"it is no JSON Schema: {wrong}", "")
            return
        for number, example in enumerate(prompt.examples):
            place, end = f"examples[{number}]", len(example.output)
            try:
                value = json.loads(example.output)
            except ValueError as wrong:
                yield self._about(place, end, f"its answer is not JSON: {wrong}", "Write the answer as JSON.")
                continue
            for fault in find_faults(value, schema, most=3):
                yield self._about(
                    place,
                    end,
                    f"its answer breaks the output schema: {fault.place} {fault.reason}",
                    "Change the example, or the schema.",
                )

    def fix(self, prompt: Prompt) -> Prompt:
        return prompt

    def _about(self, place: str, end: int, reason: str, rewrite: str) -> LintFinding:
        return LintFinding(
            rule="schema",
            practice=self.practice,
            severity="error",
            place=place,
            start=0,
            end=end,
            reason=reason,
            rewrite=rewrite,
        )
