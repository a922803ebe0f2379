"""What a lint rule promises, and the registry of rules."""

import re
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, Protocol

from slipway.domain.prompt import LintFinding, Prompt
from slipway.plugins import Registry

Practice = Literal[
    "clear and specific", "delimiters", "structure of the output", "conditions", "examples", "concise", "safe", "sound"
]


class Section(NamedTuple):
    """A part of a prompt that people wrote: `system` or `user`, with its template."""

    place: str
    text: str


class Rule(Protocol):
    """Looks at a prompt. A rule is a frozen dataclass of settings; its first docstring line is its help."""

    practice: ClassVar[Practice]

    def look(self, prompt: Prompt) -> Iterator[LintFinding]:
        """What breaks the rule, in order of places. The prompt's templates can be parsed."""
        ...

    def fix(self, prompt: Prompt) -> Prompt:
        """The prompt with the findings mended that can be mended without changing what is asked."""
        ...


rules: Registry[Rule] = Registry("lint rule", package="slipway.prompt.rules")

_TAGS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.S)


def sections(prompt: Prompt) -> list[Section]:
    """The written parts that are not empty."""
    return [part for part in (Section("system", prompt.system), Section("user", prompt.user)) if part.text]


def prose(text: str) -> str:
    """A template with its tags blanked out, so that places stay and words of tags do not count."""
    return _TAGS.sub(lambda tag: re.sub(r"[^\n]", " ", tag.group()), text)


def instructions(prompt: Prompt) -> str:
    """All that is written for the model, without tags."""
    return "\n".join(prose(part.text) for part in sections(prompt))


def first_line(part: Section) -> tuple[int, int]:
    """[start, end) of the first line of a part: where a finding about the whole part is shown."""
    return 0, len(part.text.split("\n", 1)[0])


UNTRUSTED = re.compile(
    r"passage|context|document|source|excerpt|article|page|email|message|text|content|result|tool", re.I
)
"""Names of variables that hold what somebody else wrote."""
