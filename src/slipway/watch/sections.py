"""Where the money of one call goes: system, examples, history, context, question, answer."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from slipway.domain.errors import NotFound
from slipway.domain.expense import Section, SectionName
from slipway.domain.message import Usage
from slipway.domain.prompt import Prompt
from slipway.domain.trace import Span, Trace
from slipway.models.catalog import price_of
from slipway.prompt.library import load_prompt
from slipway.text.tokens import count_tokens
from slipway.tracing.cost import cost_of
from slipway.watch.said import messages_of, passages_of, question_of, reply_of
from slipway.workspace import Workspace

ORDER: tuple[SectionName, ...] = ("system", "examples", "history", "context", "question", "answer")
SHORTEST_PASSAGE = 12
"""Characters: a shorter passage would be found in places where it was never put."""


class _Piece(NamedTuple):
    section: SectionName
    text: str


def sections_of(workspace: Workspace, trace: Trace) -> tuple[Section, ...]:
    """The sections of all calls of a trace, in the order of a prompt, those without tokens left out.

    The text of each section is weighed by estimated tokens; the billed input tokens and their cost are shared out by
    these weights, so the figures of one trace add up exactly to what it cost. What the template itself writes around
    its variables counts as system. Empty when the messages were not recorded.
    """
    tokens: dict[SectionName, float] = {}
    micros: dict[SectionName, float] = {}
    for call in calls_of(trace):
        pieces = _pieces(workspace, trace, call)
        if not pieces:
            continue
        paid_in, paid_out = _split_cost(call)
        weights: dict[SectionName, int] = {}
        for piece in pieces:
            weights[piece.section] = weights.get(piece.section, 0) + count_tokens(piece.text)
        whole = sum(weights.values())
        for name, weight in weights.items():
            part = weight / whole if whole else 0.0
            tokens[name] = tokens.get(name, 0.0) + part * (call.input_tokens or whole)
            micros[name] = micros.get(name, 0.0) + part * paid_in
        written = call.output_tokens or count_tokens(reply_of(call))
        tokens["answer"] = tokens.get("answer", 0.0) + written
        micros["answer"] = micros.get("answer", 0.0) + paid_out
    names = [name for name in ORDER if tokens.get(name)]
    counted = _whole([tokens[name] for name in names])
    paid = _whole([micros[name] for name in names])
    of = sum(paid) or sum(counted) or 1
    return tuple(
        Section(name=name, tokens=count, cost_micros=cost, share=(cost if sum(paid) else count) / of)
        for name, count, cost in zip(names, counted, paid, strict=True)
    )


def calls_of(trace: Trace) -> list[Span]:
    """The steps that asked a model; a request that is its own call counts as one."""
    calls = [span for span in trace.spans if span.kind == "chat" and span.content.get("messages")]
    return calls or [span for span in trace.spans[:1] if span.content.get("messages")]


def _pieces(workspace: Workspace, trace: Trace, call: Span) -> list[_Piece]:
    messages = messages_of(call)
    examples = _examples(workspace, call.prompt)
    question = question_of(trace)
    passages = _passages(trace)
    last = max((at for at, one in enumerate(messages) if one["role"] == "user"), default=-1)
    pieces: list[_Piece] = []
    for at, message in enumerate(messages):
        said, role = message["text"], message["role"]
        if role in ("system", "developer"):
            pieces += _cut(said, passages, "", rest="system")
        elif said in examples:
            pieces.append(_Piece("examples", said))
        elif at == last:
            found = _cut(said, passages, question, rest="system")
            # Nothing but the question was sent: no template stood around it.
            own = any(piece.section == "question" for piece in found)
            pieces += found if own else [piece._replace(section="question") if piece.section == "system" else piece
                                         for piece in found]  # fmt: skip
        elif role == "tool":
            pieces.append(_Piece("context", said))
        else:
            pieces.append(_Piece("history", said))
    return pieces


def _cut(said: str, passages: Sequence[str], question: str, *, rest: SectionName) -> list[_Piece]:
    """A message cut where passages and the question stand in it; what is left over is `rest`."""
    pieces = [_Piece(rest, said)]
    marks: list[tuple[SectionName, str]] = [("context", passage) for passage in passages]
    if question:
        marks.append(("question", question))
    for section, mark in marks:
        cut: list[_Piece] = []
        found = False
        # The question is looked for from the end: a passage may hold the same words.
        for piece in reversed(pieces) if section == "question" else pieces:
            before, match, after = piece.text.rpartition(mark) if section == "question" else piece.text.partition(mark)
            if found or piece.section != rest or not match:
                cut.append(piece)
                continue
            found = True
            parts = [_Piece(rest, before), _Piece(section, mark), _Piece(rest, after)]
            cut += reversed(parts) if section == "question" else parts
        pieces = cut[::-1] if section == "question" else cut
    return pieces


def _passages(trace: Trace) -> list[str]:
    """Texts that retrieval found, the longest first, as they are put into a prompt."""
    found = {str(passage.get("text", "")).strip() for passage in passages_of(trace)}
    return sorted((text for text in found if len(text) >= SHORTEST_PASSAGE), key=len, reverse=True)


def _examples(workspace: Workspace, reference: str) -> frozenset[str]:
    """Both sides of the few-shot examples of a prompt version; nothing for a prompt that is not kept here."""
    if not reference:
        return frozenset()
    try:
        prompt: Prompt = load_prompt(workspace, reference)
    except NotFound:
        return frozenset()
    return frozenset(text for example in prompt.examples for text in (example.input, example.output))


def _split_cost(call: Span) -> tuple[float, float]:
    """What the input and what the output of a call cost, by the prices of the day; by tokens where none is known."""
    if not call.cost_micros:
        return 0.0, 0.0
    day = datetime.fromtimestamp(call.start_ns // 1_000_000_000, UTC).date()
    price = price_of(call.provider, call.response_model or call.model, at=day) or price_of(
        call.provider, call.model, at=day
    )
    into = cost_of(Usage(input_tokens=call.input_tokens, cached_tokens=call.cached_tokens), price).money.micros
    out = cost_of(Usage(output_tokens=call.output_tokens), price).money.micros
    if not into + out:
        into, out = call.input_tokens, call.output_tokens
    share = into / (into + out) if into + out else 1.0
    return call.cost_micros * share, call.cost_micros * (1 - share)


def _whole(values: Sequence[float]) -> list[int]:
    """Whole numbers with the same sum: what rounding leaves over goes to the largest remainders."""
    floors = [int(value) for value in values]
    left = round(sum(values)) - sum(floors)
    by_rest = sorted(range(len(values)), key=lambda at: floors[at] - values[at])
    for at in by_rest[: max(0, left)]:
        floors[at] += 1
    return floors
