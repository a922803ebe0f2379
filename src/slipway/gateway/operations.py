"""The calls that a plain release passes on: where the texts stand that guardrails read and traces keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from slipway.domain.guardrail import TextSource
from slipway.domain.trace import SpanKind

CHAT, FIM = "chat/completions", "fim/completions"
CHATS = frozenset({CHAT, FIM})
"""Paths whose answers are chat completions."""
RESPONSES = "responses"
OF_THEIR_OWN = frozenset({CHAT, "messages", RESPONSES, "embeddings"})
"""Calls that have a module of their own."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
UNSET = (None, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of the OpenAI API, by its path behind /v1. A release with guardrails refuses by name what they could not
    read."""

    path: str
    name: str = ""
    """What a trace calls it, where that is not its path."""
    kind: SpanKind = "other"
    asked: Mapping[str, TextSource] = field(default_factory=dict)
    """Fields of the request that hold texts, and whose they are."""
    unread: tuple[str, ...] = ()
    """Fields that hold texts in a form that no guardrail can read."""
    said: frozenset[str] = frozenset()
    """Keys under which texts stand in the answer, wherever they are in it."""
    barred: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: NOTHING)
    """Fields that bring texts into the answer that guardrails could not read, with the values that do not."""
    spoken: str = ""
    """The field that the answer says aloud: the guardrails on answers read it beforehand."""
    writes: bool = True
    """Whether a model writes the answer, token by token."""
    form: bool = False
    """Whether the request is a form with files instead of JSON."""
    any_type: bool = False
    """Whether the answer may be something else than JSON: sound, plain text, events of its own."""
    kept: bool = False
    """Whether a trace keeps the whole answer, which holds no texts but is short."""
    estimated: bool = False
    """Whether tokens are estimated where the engine does not count them."""


OPERATIONS: Mapping[str, Operation] = {
    operation.path: operation
    for operation in (
        Operation(path=CHAT, name="chat", kind="chat", estimated=True),
        Operation(path="messages", name="chat", kind="chat", estimated=True),
        Operation(path=RESPONSES, name="chat", kind="chat", estimated=True),
        Operation(path="embeddings", kind="embeddings", asked={"input": "user"}, estimated=True),
        Operation(
            path="completions",
            kind="chat",
            asked={"prompt": "user", "suffix": "user"},
            unread=("prompt_embeds",),
            said=frozenset({"text"}),
            barred={
                "logprobs": UNSET,
                "prompt_logprobs": UNSET,
                "return_token_ids": UNSET,
                "return_tokens_as_token_ids": UNSET,
            },
            estimated=True,
        ),
        Operation(
            path=FIM,
            kind="chat",
            asked={"prompt": "user", "suffix": "user"},
            estimated=True,
        ),
        Operation(path="moderations", asked={"input": "user"}, writes=False, kept=True),
        Operation(
            path="rerank",
            kind="rerank",
            asked={"query": "user", "instruction": "user", "documents": "document", "texts": "document"},
            said=frozenset({"document", "documents", "text"}),
            writes=False,
            kept=True,
        ),
        Operation(
            path="score",
            kind="rerank",
            asked={
                "text_1": "user",
                "data_1": "user",
                "queries": "user",
                "instruction": "user",
                "text_2": "document",
                "data_2": "document",
                "documents": "document",
                "items": "document",
            },
            writes=False,
            kept=True,
        ),
        *(
            Operation(
                path=path,
                asked={"prompt": "user", "negative_prompt": "user"},
                said=frozenset({"revised_prompt"}),
                barred={"stream": UNSET},
                form=form,
                any_type=True,
            )
            for path, form in (("images/generations", False), ("images/edits", True), ("images/variations", True))
        ),
        Operation(
            path="audio/speech",
            asked={"input": "user", "instructions": "user", "ref_text": "user"},
            spoken="input",
            any_type=True,
        ),
        *(
            Operation(
                path=path,
                asked={"prompt": "user"},
                said=frozenset({"text", "word"}),
                barred={"response_format": (None, "json", "text"), "stream": UNSET, "include[]": ()},
                form=True,
                any_type=True,
            )
            for path in ("audio/transcriptions", "audio/translations")
        ),
    )
}
