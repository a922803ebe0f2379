"""Variables that are declared and not used, or used and not declared."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, rules, sections
from slipway.prompt.template import SCHEMA_VARIABLE, optional_variables_of, places, variables_of


@rules.register("variables")
@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """Asks that the declared variables are the ones that the templates read."""

    practice: ClassVar[Practice] = "sound"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        used, known = variables_of(prompt), {*prompt.variables, SCHEMA_VARIABLE}
        unused = [name for name in prompt.variables if name not in used and name not in optional_variables_of(prompt)]
        for part in sections(prompt):
            for place in places(part.text):
                if place.name in known:
                    continue
                near = get_close_matches(place.name, prompt.variables, n=1)
                yield LintFinding(
                    rule="variables",
                    practice=self.practice,
                    severity="error",
                    place=part.place,
                    start=place.start,
                    end=place.end,
                    reason=f"'{place.name}' is not among the variables of the front matter",
                    rewrite=f"Write {{{{ {near[0]} }}}}, or add {place.name} to 'variables:'."
                    if near
                    else f"Add {place.name} to 'variables:'.",
                    fixable=True,
                )
        for name in unused:
            yield LintFinding(
                rule="variables",
                practice=self.practice,
                severity="warning",
                place="variables",
                start=0,
                end=0,
                reason=f"'{name}' is declared and no template reads it",
                rewrite=f"Remove {name} from 'variables:', or place {{{{ {name} }}}}.",
                fixable=True,
            )

    def fix(self, prompt: Prompt) -> Prompt:
        used = {*variables_of(prompt), *optional_variables_of(prompt)}
        kept = tuple(name for name in prompt.variables if name in used)
        added = tuple(name for name in variables_of(prompt) if name not in {*kept, SCHEMA_VARIABLE})
        return replace(prompt, variables=kept + added)
