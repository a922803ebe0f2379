"""A condition on what documents say about themselves, as a tree: facts joined by and, or, not."""

from dataclasses import dataclass
from typing import Literal

Sign = Literal["=", "!=", "<", "<=", ">", ">=", "~", "!~"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A field against values, of which one is enough; `~` asks whether the field contains the value."""

    field: str
    sign: Sign
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class All:
    """Every part holds."""

    parts: tuple["Where", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Any:
    """At least one part holds."""

    parts: tuple["Where", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """The part does not hold."""

    part: "Where"


Where = Fact | All | Any | Not
