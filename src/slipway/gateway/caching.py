"""Gives an answer that was given before, and keeps those that may be given again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import msgspec
import numpy
from numpy.typing import NDArray

from slipway.config.settings import CacheSettings
from slipway.domain.cache import CachedAnswer
from slipway.domain.errors import SlipwayError
from slipway.domain.guardrail import Verdict
from slipway.domain.message import Usage
from slipway.gateway.cache import AnswerCache
from slipway.gateway.call import Call, Send
from slipway.gateway.fields import wants_stream
from slipway.gateway.guarding import check_messages, strongest
from slipway.gateway.ledger import Ledger
from slipway.gateway.targets import Target
from slipway.store.call_records import asked_texts, shortened
from slipway.text.tokens import count_tokens
from slipway.text.turning_words import turning_words
from slipway.wire.chat import Facts, completion_of, tool_calls_of
from slipway.wire.chat_events import Called, ChatReader, Event, Failed, Finished, Said, Thought, usage_in
from slipway.wire.errors import UNREADABLE
from slipway.wire.openai import ChunkWriter, ToolCall, usage_shape
from slipway.wire.sse import DONE, EventReader
from slipway.wire.thoughts import BETA, BLOCKS, thoughts_of

log = logging.getLogger("slipway.gateway")
NOT_ASKED = frozenset(
    {
        "metadata",
        "model",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)
"""Fields that change who asks or how the answer travels, not what it says."""
SAID = frozenset({"role", "content", "reasoning_content", "tool_calls", BLOCKS})
"""Fields of a message that are written anew when it was kept as it came and goes out as a stream, or the other way
round. An answer that says more is given only in the way that it came."""
KEPT_FINISHES = ("stop", "tool_calls")
LARGEST_KEPT = 1024 * 1024
HIT = [(b"x-slipway-cache", b"hit")]


class Asked(NamedTuple):
    """A request as the cache knows it. `embedder` is empty where only the very same question counts."""

    id: str
    context: str
    question: str
    vector: NDArray[numpy.float32] | None
    embedder: str


class Found(NamedTuple):
    """A kept answer, and the request that it is given to as guardrails let it through."""

    answer: CachedAnswer
    completion: dict[str, Any]
    messages: list[dict[str, Any]]
    verdicts: list[Verdict]


def read_asked(call: Call, target: Target, fields: Mapping[str, msgspec.Raw], settings: CacheSettings) -> Asked | None:
    """What an answer to this depends on: project, release, whose answers may be given, and every field that counts.

    None where the request is not one that can be answered again: several answers at once, or no message.
    """
    try:
        values = {name: msgspec.json.decode(raw) for name, raw in fields.items() if name not in NOT_ASKED}
    except (ValueError, RecursionError):
        return None
    messages = values.get("messages")
    if values.get("n") not in (None, 1) or not isinstance(messages, list) or not messages:
        return None
    bound = [call.snapshot.workspace.application, call.release or target.label, _whose(call, settings), *_beside(call)]
    id = _hash([*bound, values])
    last = messages[-1]
    if not isinstance(last, dict) or last.get("role") != "user" or not isinstance(last.get("content"), str):
        return Asked(id, id, "", None, "")
    question = last["content"]
    embedder = call.snapshot.workspace.embedder
    if settings.similar is None or embedder is None or not question.strip():
        return Asked(id, id, question, None, "")
    unasked = values | {"messages": [*messages[:-1], {**last, "content": ""}]}
    context = _hash([*bound, unasked, embedder.id, turning_words(question)])
    return Asked(id, context, question, None, embedder.id)


async def embed_asked(call: Call, asked: Asked) -> Asked:
    """With the vector of its question, where questions of the same meaning count. Without one when the embedder fails:
    the answer does not need it."""
    embedder = call.snapshot.workspace.embedder
    if embedder is None or not asked.embedder:
        return asked
    try:
        vectors = await asyncio.to_thread(embedder.embed, [asked.question])
    except SlipwayError as wrong:
        log.warning("a question is answered without a look for near ones: %s", wrong)
        return asked._replace(embedder="")
    return asked._replace(vector=vectors[0])


def _whose(call: Call, settings: CacheSettings) -> str:
    """Whose answers may be given here: those of the same person, or where nobody is named, of the same key."""
    if settings.shared:
        return "everybody"
    if call.subject is not None:
        return f"person {call.subject}"
    return f"key {call.key.id}" if call.key is not None else ""


def _beside(call: Call) -> list[str]:
    """What of the headers changes an answer."""
    beta = call.headers.get(BETA) if call.path == "/v1/messages" else None
    return [] if beta is None else [f"beta {beta.decode('latin-1')}"]


def _hash(values: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()[:40]


def find(
    cache: AnswerCache, asked: Asked, settings: CacheSettings, *, target: Target, fields: Mapping[str, msgspec.Raw]
) -> Found | None:
    """The answer that may be given to this request, past the guardrails that read it."""
    answer = cache.look(asked.id, settings)
    if answer is None and asked.vector is not None:
        answer = cache.look_like(asked.context, asked.vector, asked.embedder, settings)
    if answer is None:
        return None
    completion = msgspec.json.decode(answer.completion)
    if wants_stream(fields) and not _says_no_more(completion["choices"][0], "message"):
        return None
    messages: msgspec.Raw | bytes = fields["messages"]
    try:
        rewritten, verdicts = check_messages(messages, target.guardrails)
    except SlipwayError:
        return None  # whoever answers it will be told the same, and record it
    return Found(answer, completion, asked_texts(rewritten or messages), verdicts)


def _says_no_more(choice: Mapping[str, Any], where: str) -> bool:
    """Whether a choice of an answer, or of a chunk, says nothing but what is written anew."""
    try:
        message = choice.get(where) or {}
        return (
            not choice.get("logprobs")
            and not any(value for name, value in message.items() if name not in SAID)
            and isinstance(message.get("content") or "", str)
            and all(call.get("type") in (None, "function") for call in message.get("tool_calls") or ())
        )
    except UNREADABLE:
        return False


async def give(call: Call, ledger: Ledger, target: Target, found: Found, fields: Mapping[str, msgspec.Raw]) -> None:
    """Sends a kept answer, whole or as a stream; its trace says that it came from the cache, and costs nothing."""
    answer, completion = found.answer, found.completion
    call.arm = None  # nobody was asked: it says nothing about a canary
    completion |= {"id": f"chatcmpl-{call.trace}", "created": call.started_ns // 1_000_000_000}
    if isinstance(completion.get("slipway"), dict):
        completion["slipway"] |= {"trace": call.trace}
    choice = completion["choices"][0]
    stream = wants_stream(fields)
    if stream:
        call.note_first_byte()
    ledger.write_call(
        call,
        name=f"cache {target.model}",
        kind="chat",
        status="ok",
        target=target,
        response_model=str(completion.get("model") or ""),
        finish=str(choice.get("finish_reason") or ""),
        verdicts=strongest(found.verdicts) if found.verdicts else None,
        content={
            "messages": found.messages,
            "reply": shortened(str(choice["message"].get("content") or "")),
            "cached_trace": answer.trace,
        },
    )
    ledger.saved(call, answer.cost_micros)
    if stream:
        await call.begin_stream(more=HIT)
        await call.end_stream(_events(completion, include_usage=_wants_usage(fields)))
    else:
        await call.reply(200, msgspec.json.encode(completion), more=HIT)


def _wants_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    try:
        options = msgspec.json.decode(fields["stream_options"]) if "stream_options" in fields else None
    except ValueError:
        return False
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _events(completion: dict[str, Any], *, include_usage: bool) -> bytes:
    choice = completion["choices"][0]
    message = choice["message"]
    chunks = ChunkWriter(id=completion["id"], model=completion.get("model") or "", created=completion["created"])
    out = chunks.begin()
    thoughts = thoughts_of(message)
    if not thoughts and message.get("reasoning_content"):
        out += chunks.reasoning(str(message["reasoning_content"]))
    for block in thoughts:
        if block.get("thinking"):
            out += chunks.reasoning(str(block["thinking"]))
        sealed = block["type"] == "redacted_thinking"
        out += chunks.thought(block if sealed else block | {"thinking": ""})
    if text := message.get("content"):
        out += chunks.text(text)
    for call in tool_calls_of(message):
        out += chunks.call(call)
    more = {"slipway": completion["slipway"]} if "slipway" in completion else {}
    out += chunks.finish(str(choice.get("finish_reason") or "stop"), more)
    usage = usage_in(completion)
    if include_usage and usage is not None:
        out += chunks.usage(usage)
    return out + DONE


class Tee:
    """Listens to what goes out on a call, so that it can be kept. Stands before any translation."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._status = 0
        self._stream = False
        self._pieces: list[bytes] = []
        self._size = 0

    def before(self, send: Send) -> Send:
        async def listen_and_send(message: MutableMapping[str, Any]) -> None:
            self._hear(message)
            await send(message)

        return listen_and_send

    def _hear(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = dict(message["headers"])
            self._stream = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        elif body := message.get("body", b""):
            self._size += len(body)
            if self._size <= LARGEST_KEPT:
                self._pieces.append(body)

    def completion(self) -> dict[str, Any] | None:
        """What went out as a chat completion, if it is whole and good."""
        if self._status != 200 or self._size > LARGEST_KEPT or self._call.outcome or self._call.fallback:
            return None
        raw = b"".join(self._pieces)
        try:
            completion = self._assembled(raw) if self._stream else msgspec.json.decode(raw)
            choices = completion["choices"] if completion else []
            good = len(choices) == 1 and choices[0].get("finish_reason") in KEPT_FINISHES
            return completion if good and isinstance(choices[0].get("message"), dict) else None
        except UNREADABLE:
            return None

    def _assembled(self, raw: bytes) -> dict[str, Any] | None:
        """A whole chat completion out of its chunks; None where they say what that would leave out."""
        if not _chunks_say_no_more(raw):
            return None
        reader = ChatReader()
        texts: list[str] = []
        calls: list[ToolCall] = []
        thinking, reasoning = "", ""
        thoughts: list[dict[str, Any]] = []
        finished: Finished | None = None
        usage: Usage | None = None
        events: list[Event] = [*reader.feed(raw), *reader.close()]
        for event in events:
            match event:
                case Said() if not event.reasoning:
                    texts.append(event.text)
                case Said():
                    thinking += event.text
                    reasoning += event.text
                case Thought(block):
                    if block["type"] == "thinking":
                        block, thinking = block | {"thinking": thinking + str(block.get("thinking") or "")}, ""
                    thoughts.append(block)
                case Called():
                    if event.id or event.name or not calls:
                        calls.append(ToolCall(event.id, event.name, ""))
                    begun = calls.pop()
                    calls.append(begun._replace(arguments=begun.arguments + event.arguments))
                case Finished():
                    finished = event
                case Usage():
                    usage = event
                case Failed():
                    return None
        if finished is None:
            return None
        facts = Facts("", reader.model, 0)
        completion = completion_of(
            facts,
            model=reader.model,
            text="".join(texts),
            calls=calls,
            finish=finished.finish,
            usage=usage,
            reasoning=reasoning,
        )
        if thoughts:
            completion["choices"][0]["message"][BLOCKS] = thoughts
        return completion if finished.slipway is None else completion | {"slipway": finished.slipway}


def _chunks_say_no_more(raw: bytes) -> bool:
    events = EventReader()
    chunks = [msgspec.json.decode(data) for data in [*events.feed(raw), *events.close()] if data != b"[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
    return all(_says_no_more(choice, "delta") for choice in choices)


def keep(cache: AnswerCache, call: Call, target: Target, asked: Asked, tee: Tee, settings: CacheSettings) -> None:
    """Keeps what a call answered, where it is worth it."""
    completion = tee.completion()
    if completion is None:
        return
    usage = usage_in(completion)
    if usage is None:
        # A stream that was not asked for it: whoever gets this whole expects some.
        said = str(completion["choices"][0]["message"].get("content") or "")
        guess = Usage(input_tokens=count_tokens(asked.question), output_tokens=count_tokens(said), estimated=True)
        completion["usage"] = usage_shape(guess)
    cache.keep(
        CachedAnswer(
            id=asked.id,
            context=asked.context,
            release=call.release,
            question=asked.question,
            completion=msgspec.json.encode(completion).decode(),
            cost_micros=target.cost_micros(usage) if usage is not None else 0,
            embedder=asked.embedder,
            vector="" if asked.vector is None else base64.b64encode(asked.vector.astype("<f4").tobytes()).decode(),
            subject=call.subject,
            trace=call.trace,
            created_at=call.snapshot.workspace.now(),
        ),
        settings,
    )
