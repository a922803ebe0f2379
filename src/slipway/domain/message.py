"""What is said to a model and what it replies: messages, requests, replies, token usage."""

from dataclasses import dataclass, field
from typing import Literal

from slipway.domain.decoding import Decoding
from slipway.domain.document import Passage

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "cancelled", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `text` is the plain text; images and tools pass through the gateway untouched."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request. `estimated` when the upstream did not count."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of an engine. `question` and `passages` are what the messages were rendered from.

    A language model reads `messages`; the extractive engine reads `question` and `passages`.
    """

    model: str
    messages: tuple[Message, ...]
    decoding: Decoding = field(default_factory=Decoding)
    question: str = ""
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A stretch of a reply that stands literally in passage number `passage` (0-based) at [start, end) of its text."""

    passage: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a streamed reply. The last one carries `finish` and, where known, `usage`."""

    text: str = ""
    finish: FinishReason | None = None
    usage: Usage | None = None
    quotes: tuple[Quote, ...] = ()
    abstained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply. `abstained` when the engine itself says that it has no answer."""

    text: str
    model: str
    usage: Usage
    finish: FinishReason = "stop"
    quotes: tuple[Quote, ...] = ()
    abstained: bool = False


ABSTENTION = "The documents do not answer this question."
"""What a release says when its documents do not hold the answer; prompts ask for this sentence word for word."""
