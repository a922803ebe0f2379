"""A prompt version: instructions, variables, examples and output schema, immutable."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.ids import ContentHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A few-shot example: what goes in and the reply we want."""

    input: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`system` and `user` are templates with `{{ variable }}` places; `hash` covers everything but name and dates."""

    name: str
    version: int
    hash: ContentHash
    system: str
    user: str
    variables: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    output_schema: str = ""
    """JSON Schema of the reply as text, or empty."""
    author: str = ""
    note: str = ""
    created_at: datetime
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMove:
    """A label was put on a version of a prompt. `before` is the version it stood on, 0 when on none."""

    id: str
    prompt: str
    label: str
    version: int
    before: int
    by: str = ""
    at: datetime


Severity = Literal["error", "warning", "hint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One thing that a lint rule noticed. `place` is where (`system`, `user`, `examples[1]`), [start, end) in it."""

    rule: str
    practice: str
    severity: Severity
    place: str
    start: int
    end: int
    reason: str
    rewrite: str = ""
    fixable: bool = False
