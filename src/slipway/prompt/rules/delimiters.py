"""Variables that run into the instructions around them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from slipway.domain.prompt import LintFinding, Prompt
from slipway.prompt.rules.base import Practice, Section, rules, sections
from slipway.prompt.template import SCHEMA_VARIABLE, Place, places

_TAG_BEFORE = re.compile(r"<([A-Za-z][\w-]{0,40})>(?:(?!</\1>).)*\Z", re.S)
_FENCE = re.compile(r"```|\"\"\"|'''|^={3,}|^-{3,}|^#{3,}", re.M)


@rules.register("delimiters")
@dataclass(frozen=True, slots=True, kw_only=True)
class Delimiters:
    """Asks for a delimiter around every variable, such as <passages> … </passages>, so that its end is clear."""

    practice: ClassVar[Practice] = "delimiters"

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        for part in sections(prompt):
            for place in _bare(part):
                shown = part.text[place.start : place.end]
                yield LintFinding(
                    rule="delimiters",
                    practice=self.practice,
                    severity="warning",
                    place=part.place,
                    start=place.start,
                    end=place.end,
                    reason=f"nothing shows where the value of '{place.name}' begins and ends, so that text inside it "
                    "reads like an instruction",
                    rewrite=f"<{place.name}>\n{shown}\n</{place.name}>",
                    fixable=True,
                )

    def fix(self, prompt: Prompt) -> Prompt:
        fixed = {part.place: _wrap(part) for part in sections(prompt)}
        return replace(prompt, system=fixed.get("system", prompt.system), user=fixed.get("user", prompt.user))


def _bare(part: Section) -> list[Place]:
    """Places of `{{ variable }}` that no delimiter encloses."""
    return [
        place
        for place in places(part.text)
        if part.text.startswith("{{", place.start)
        and place.name != SCHEMA_VARIABLE
        and not _enclosed(part.text, place.start, place.end)
    ]


def _enclosed(text: str, start: int, end: int) -> bool:
    """Whether a tag opens before and closes after, or an odd number of fences stands before and one after."""
    opened = _TAG_BEFORE.search(text[max(0, start - 4000) : start])
    if opened and f"</{opened[1]}>" in text[end:]:
        return True
    if len(_FENCE.findall(text[:start])) % 2 == 1 and _FENCE.search(text, end):
        return True
    before, after = text[:start].rstrip()[-1:], text[end:].lstrip()[:1]
    return (before, after) in {('"', '"'), ("'", "'"), ("`", "`"), ("«", "»"), ("„", "“"), ("[", "]")}


def _wrap(part: Section) -> str:
    text = part.text
    for place in reversed(_bare(part)):
        before, after = text[: place.start], text[place.end :]
        opening = "" if not before or before.endswith("\n") else "\n"
        closing = "" if not after or after.startswith("\n") else "\n"
        inner = text[place.start : place.end]
        text = f"{before.rstrip(' ')}{opening}<{place.name}>\n{inner}\n</{place.name}>{closing}{after.lstrip(' ')}"
    return text
