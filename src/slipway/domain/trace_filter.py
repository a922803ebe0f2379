"""A filter over traces as a tree: conditions joined by and, or, not; and the fields that conditions may name."""

from dataclasses import dataclass
from typing import Literal

Sign = Literal["=", "!=", "<", "<=", ">", ">=", "~", "!~"]
Value = str | float
Measure = Literal["text", "choice", "seconds", "count", "money"]
Place = Literal["trace", "span"]
"""Whether a field is one of the whole trace, or of its steps: then one step is enough to meet a condition."""
Word = Literal["any", "good", "mixed", "bad"]

STATUSES = ("ok", "error", "blocked", "abstained", "cancelled", "unset")
KINDS = (
    "request", "chat", "embeddings", "retrieval", "rerank", "guard", "tool", "agent", "chain", "evaluator", "other",
)  # fmt: skip
DECISIONS = ("allow", "flag", "redact", "block", "undecided")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What a field measures. Values of `seconds` are seconds and those of `money` dollars."""

    measure: Measure
    about: str
    place: Place = "trace"
    choices: tuple[str, ...] = ()


FIELDS: dict[str, Field] = {
    "model": Field(measure="text", about="model that was asked for"),
    "provider": Field(measure="text", about="engine or provider that answered"),
    "release": Field(measure="text", about="release id; its beginning is enough"),
    "channel": Field(measure="text", about="channel that the client called"),
    "environment": Field(measure="text", about="environment, such as production"),
    "session": Field(measure="text", about="conversation that the request belongs to"),
    "subject": Field(measure="text", about="person that the request is about; also written user"),
    "name": Field(measure="text", about="name of the first step"),
    "kind": Field(measure="choice", about="kind of the first step", choices=KINDS),
    "status": Field(measure="choice", about="how the request ended", choices=STATUSES),
    "latency": Field(measure="seconds", about="time from first to last byte"),
    "age": Field(measure="seconds", about="time since the request began"),
    "tokens": Field(measure="count", about="tokens in and out together"),
    "input_tokens": Field(measure="count", about="tokens of the request"),
    "output_tokens": Field(measure="count", about="tokens of the answer"),
    "cost": Field(measure="money", about="dollars"),
    "spans": Field(measure="count", about="steps of the trace"),
    "calls": Field(measure="count", about="calls of models in the trace"),
    "span.name": Field(measure="text", about="name of a step", place="span"),
    "span.kind": Field(measure="choice", about="kind of a step", place="span", choices=KINDS),
    "span.status": Field(measure="choice", about="how a step ended", place="span", choices=STATUSES),
    "span.model": Field(measure="text", about="model that a step called", place="span"),
    "span.latency": Field(measure="seconds", about="time that a step took", place="span"),
    "span.cost": Field(measure="money", about="dollars of a step", place="span"),
    "response_model": Field(measure="text", about="model that a provider says answered", place="span"),
    "prompt": Field(measure="text", about="prompt version of a step", place="span"),
    "index": Field(measure="text", about="index version of a step", place="span"),
    "finish": Field(measure="text", about="why an answer ended: stop, length, tool_calls", place="span"),
    "first_token": Field(measure="seconds", about="time to the first token of a step", place="span"),
    "cached_tokens": Field(measure="count", about="input tokens read from a provider's cache", place="span"),
    "reasoning_tokens": Field(measure="count", about="output tokens spent on reasoning", place="span"),
}
ALIASES = {"user": "subject", "person": "subject", "duration": "latency", "conversation": "session"}


@dataclass(frozen=True, slots=True)
class Compare:
    """A field of `FIELDS` against a value."""

    field: str
    sign: Sign
    value: Value


@dataclass(frozen=True, slots=True)
class Ruled:
    """What a rail decided; without a decision: that it did not let the text pass as it was."""

    rail: str
    sign: Literal["=", "!="] = "="
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Rated:
    """That somebody said something about the answer, at all or of this kind."""

    word: Word = "any"


@dataclass(frozen=True, slots=True)
class Scored:
    """A score that somebody gave, from -1 (bad) to 1 (good); `name` is empty for the score as a whole."""

    name: str
    sign: Sign
    value: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label that somebody gave."""

    sign: Sign
    value: str


@dataclass(frozen=True, slots=True)
class Says:
    """Words that must all occur in what was said; `word*` stands for a beginning."""

    words: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """A raw attribute of a step, as the instrumentation sent it."""

    name: str
    sign: Sign
    value: Value


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    sides: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    sides: tuple["Filter", ...]


Leaf = Compare | Ruled | Rated | Scored | Labelled | Says | Attribute
Filter = Leaf | Not | And | Or
EVERYTHING = And(())
"""The filter that every trace meets."""


def conjuncts(filter: Filter) -> tuple[Filter, ...]:
    """The filters that must all hold."""
    if isinstance(filter, And):
        return tuple(inner for side in filter.sides for inner in conjuncts(side))
    return (filter,)


def leaves(filter: Filter) -> tuple[Leaf, ...]:
    """Every condition of a filter, from left to right."""
    match filter:
        case Not(inner):
            return leaves(inner)
        case And(sides) | Or(sides):
            return tuple(leaf for side in sides for leaf in leaves(side))
        case _:
            return (filter,)
