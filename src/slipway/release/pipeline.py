"""One request through one release: check, search, render, complete, check, cite, traced from first to last."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from slipway.config.settings import Settings
from slipway.domain.answer import Answer, AnswerPiece
from slipway.domain.document import Citation, Passage
from slipway.domain.errors import Blocked, EngineError
from slipway.domain.guardrail import TextSource, Verdict
from slipway.domain.ids import SubjectId, TraceId
from slipway.domain.index import SearchSettings
from slipway.domain.message import ABSTENTION, Delta, FinishReason, Message, Quote, Reply, Request, Usage
from slipway.domain.money import Money
from slipway.domain.release import Release
from slipway.engines.base import Tools
from slipway.guard.checker import check
from slipway.guard.stream import StreamChecker
from slipway.models.patience import complete, stream
from slipway.models.prices import price_in
from slipway.prompt.library import load_prompt
from slipway.prompt.starter import number_passages
from slipway.prompt.template import render
from slipway.release.detour import Detour, Route
from slipway.retrieve.asking import Spent
from slipway.retrieve.index import load_index
from slipway.retrieve.query import search_index
from slipway.retrieve.reranking import before_reranking, rerank
from slipway.retrieve.rewriting import rewrite_question, rewrites
from slipway.text.tokens import count_tokens
from slipway.tracing.cost import cost_of
from slipway.tracing.recorder import Recorder, SpanRecording, TraceRecording, store_sink
from slipway.workspace import Workspace

MARK = re.compile(r"\[(\d{1,3})\]")
FEW_WORDS = 10
"""A question of fewer words may lean on the one before it. On three collections of conversations 8 to 12 were best;
left out by turns, each gained by what the two others chose (benchmarks/retrieve/follow_ups.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client asks: the question, what was said before, and who asks."""

    question: str
    history: tuple[Message, ...] = ()
    subject: SubjectId | None = None
    session: str = ""
    channel: str = ""
    trace: TraceId | None = None
    """Trace id that the client's traceparent brought."""
    planted: tuple[Passage, ...] = ()
    """Passages that stand before what the search finds: an evaluation asks what happens if a document said this."""
    when_unfinished: Callable[[Usage, Money], None] | None = None
    """Told what a stream has used that did not come to its end."""


@dataclass(slots=True)
class _Turn:
    """The state of one request on its way through the release."""

    release: Release
    trace: TraceRecording
    settings: Settings
    began: float
    verdicts: list[Verdict] = field(default_factory=list)
    passages: tuple[Passage, ...] = ()
    address: str = ""
    """Address of the engine, where it has one: it tells the provider and so the price."""
    spent: Usage = field(default_factory=Usage)
    """What the search has used of engines: rewriting and reranking."""
    spent_micros: int = 0
    output_schema: str = ""
    """JSON Schema that the prompt asks the answer to fit, or empty."""


async def answer(
    release: Release,
    question: str | Asked,
    *,
    workspace: Workspace,
    recorder: Recorder | None = None,
    subject: SubjectId | None = None,
    session: str = "",
    channel: str = "",
    detour: Detour | None = None,
) -> Answer:
    """The whole answer. Raises `Blocked` when a guardrail stops it, `EngineError` when the engine fails.

    With a `detour` other models may answer where the release's own cannot.
    """
    asked = _asked(question, subject=subject, session=session, channel=channel)
    with _traced(release, asked, workspace, recorder) as turn:
        asking, tools = await _prepare(turn, asked, workspace)
        route = Route(release.model, workspace, detour)
        while True:
            request = _turn_to(turn, route, asking)
            try:
                with turn.trace.span(f"chat {request.model}", kind="chat") as span:
                    engine = route.engine()
                    turn.address = route.address
                    reply = await complete(engine, request, tools=tools, patience=route.patience)
                    _describe_chat(span, turn, request, reply)
                break
            except EngineError as failed:
                await route.go_on(failed)
            except BaseException:
                route.left()
                raise
        route.answered()
        text = _check(turn, reply.text, "answer", "after")
        return _finish(turn, asked, text, reply)


async def stream_answer(
    release: Release,
    question: str | Asked,
    *,
    workspace: Workspace,
    recorder: Recorder | None = None,
    detour: Detour | None = None,
) -> AsyncIterator[AnswerPiece | Answer]:
    """Pieces of the answer as the guardrails let them through, then the whole `Answer` as the last event.

    Raises like `answer`; pieces that were already sent stay sent, and nobody else is asked after the first one.
    """
    asked = _asked(question)
    with _traced(release, asked, workspace, recorder) as turn:
        asking, tools = await _prepare(turn, asked, workspace)
        route = Route(release.model, workspace, detour)
        checker = StreamChecker(
            release.guardrails.after,
            hold_back=workspace.settings.guard.hold_back,
            when_undecided=release.guardrails.when_undecided,
            output_schema=turn.output_schema,
        )
        sent: list[str] = []
        while True:
            collected, begun = _Collected(), False
            request = _turn_to(turn, route, asking)
            try:
                with turn.trace.span(f"chat {request.model}", kind="chat") as span:
                    engine = route.engine()
                    turn.address = route.address
                    try:
                        async for delta in stream(engine, request, tools=tools, patience=route.patience):
                            if not begun:
                                begun = True
                                # Before anything goes out, which says who answers. What breaks off later was there.
                                route.answered()
                            if delta.text:
                                span.first_token()
                            collected.add(delta)
                            if piece := checker.feed(delta.text):
                                sent.append(piece)
                                yield AnswerPiece(text=piece)
                    except BaseException:
                        # The client left, a guardrail stopped it, the engine broke off: what came is paid for.
                        _note_unfinished(span, turn, asked, request, collected)
                        raise
                    reply = collected.reply(request)
                    _describe_chat(span, turn, request, reply)
                break
            except EngineError as failed:
                if begun:
                    route.streamed(failed)
                    raise
                await route.go_on(failed)
            except BaseException:
                route.left()
                raise
        if not begun:
            route.answered()
        route.streamed(None)
        if piece := checker.finish():
            sent.append(piece)
            yield AnswerPiece(text=piece)
        turn.verdicts.extend(checker.verdicts)
        whole = _finish(turn, asked, "".join(sent), reply)
    # The trace is kept before the last event goes out.
    yield whole


@contextmanager
def _traced(release: Release, asked: Asked, workspace: Workspace, recorder: Recorder | None) -> Iterator[_Turn]:
    recorder = recorder or Recorder(project=workspace.application, sink=store_sink(workspace.store))
    with recorder.trace(
        "answer",
        trace_id=asked.trace,
        subject=asked.subject,
        session=asked.session,
        release=release.id,
        channel=asked.channel,
    ) as trace:
        trace.set(
            content={"question": asked.question},
            prompt=str(release.prompt or ""),
            index=str(release.index or ""),
            model=release.model.name,
            provider=release.model.engine,
        )
        turn = _Turn(release=release, trace=trace, settings=workspace.settings, began=time.perf_counter())
        try:
            yield turn
        except Blocked as blocked:
            trace.set(status="blocked", error=str(blocked), verdicts=_by_rail(turn.verdicts))
            raise


def _turn_to(turn: _Turn, route: Route, request: Request) -> Request:
    """The request as the model that is asked now gets it; the trace names the model that answers in the end."""
    if route.model != turn.release.model:
        turn.release = replace(turn.release, model=route.model)
        turn.trace.set(model=route.model.name, provider=route.model.engine)
    return route.request(request)


async def _prepare(turn: _Turn, asked: Asked, workspace: Workspace) -> tuple[Request, Tools]:
    release = turn.release
    question = _check(turn, asked.question, "user", "before")
    if release.index is not None:
        found = await _retrieve(turn, asked, question, workspace)
        turn.passages = tuple(_check_passages(turn, [*asked.planted, *found]))
    if release.prompt is not None:
        prompt = load_prompt(workspace, str(release.prompt))
        turn.output_schema = prompt.output_schema
        messages = render(prompt, {"question": question, "passages": number_passages(turn.passages)})
    else:
        messages = (Message(role="user", text=question),)
    system = tuple(message for message in messages if message.role == "system")
    rest = tuple(message for message in messages if message.role != "system")
    request = Request(
        model=release.model.name,
        messages=(*system, *asked.history, *rest),
        decoding=release.decoding,
        question=question,
        passages=turn.passages,
    )
    return request, Tools(http=workspace.http, embedder=workspace.embedder)


def cite(reply: Reply, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """Where a reply comes from: its literal quotes, or the passages whose number it names as `[n]`.

    A number that names no passage is dropped: an invented source is not a citation.
    """
    quotes = reply.quotes or tuple(
        Quote(passage=number - 1, start=0, end=len(passages[number - 1].text))
        for number in dict.fromkeys(int(mark) for mark in MARK.findall(reply.text))
        if 0 < number <= len(passages)
    )
    return tuple(_citation(passages[quote.passage], quote) for quote in quotes)


def _citation(passage: Passage, quote: Quote) -> Citation:
    return Citation(
        document=passage.document,
        title=passage.title,
        start=passage.start + quote.start,
        end=passage.start + quote.end,
        text=passage.text[quote.start : quote.end],
    )


async def _retrieve(turn: _Turn, asked: Asked, question: str, workspace: Workspace) -> list[Passage]:
    """Passages for the question: rewritten where the index says so, searched, scored again where it says so."""
    with turn.trace.span("retrieval", kind="retrieval") as span:
        index = load_index(workspace, str(turn.release.index))
        text = await _rewrite(turn, asked, question, index.search, workspace)
        settings = before_reranking(index.search)
        found = await asyncio.to_thread(search_index, workspace, index, text, settings=settings)
        if index.search.reranker:
            found = await _rerank(turn, text, index.search, found, workspace)
        span.set(index=str(turn.release.index), content={"passages": [_shown(passage) for passage in found]})
        return found


async def _rewrite(turn: _Turn, asked: Asked, question: str, search: SearchSettings, workspace: Workspace) -> str:
    if not rewrites(search, asked.history):
        return _search_text(question, asked.history)
    with turn.trace.span("rewrite question", kind="chat") as span:
        rewritten = await rewrite_question(workspace, search, question, asked.history)
        _note_spent(span, turn, rewritten.spent, rewritten.failed)
        span.set(content={"question": question, "reply": rewritten.question})
    return _search_text(question, asked.history) if rewritten.failed else rewritten.question


async def _rerank(
    turn: _Turn, question: str, search: SearchSettings, found: list[Passage], workspace: Workspace
) -> list[Passage]:
    with turn.trace.span("rerank", kind="rerank") as span:
        reranked = await rerank(workspace, search, question, found)
        _note_spent(span, turn, reranked.spent, reranked.failed)
    return reranked.passages


def _note_spent(span: SpanRecording, turn: _Turn, spent: Spent, failed: str) -> None:
    """What a search has spent on an engine joins the cost of the request; a failure stays with its step."""
    turn.spent += spent.usage
    turn.spent_micros += spent.cost.micros
    span.set(
        provider=spent.engine,
        model=spent.model,
        input_tokens=spent.usage.input_tokens,
        output_tokens=spent.usage.output_tokens,
        cached_tokens=spent.usage.cached_tokens,
        usage_estimated=spent.usage.estimated,
        cost_micros=spent.cost.micros,
        **({"status": "error", "error": failed} if failed else {}),
    )


def _search_text(question: str, history: Sequence[Message]) -> str:
    """A short follow-up ("and in Spain?") is searched together with the question before it."""
    if len(question.split()) >= FEW_WORDS:
        return question
    earlier = [message.text for message in history if message.role == "user"]
    return f"{earlier[-1]} {question}" if earlier else question


def _check(turn: _Turn, text: str, source: TextSource, side: str) -> str:
    rails = turn.release.guardrails.before if side == "before" else turn.release.guardrails.after
    if not rails:
        return text
    with turn.trace.span(f"guard {side}", kind="guard") as span:
        checked = check(
            text,
            rails,
            source=source,
            when_undecided=turn.release.guardrails.when_undecided,
            output_schema=turn.output_schema,
        )
        turn.verdicts.extend(checked.verdicts)
        span.set(verdicts=_by_rail(checked.verdicts))
        checked.raise_if_blocked()
        return checked.text


def _cost(turn: _Turn, usage: Usage) -> Money:
    model = turn.release.model
    return cost_of(usage, price_in(turn.settings, model.engine, model.name, base_url=turn.address)).money


def _check_passages(turn: _Turn, passages: Sequence[Passage]) -> Iterator[Passage]:
    """Passages that attack the model are left out; the verdict stays in the trace."""
    rails = tuple(rail for rail in turn.release.guardrails.before if rail.name == "prompt_attack")
    for passage in passages:
        checked = check(passage.text, rails, source="document") if rails else None
        if checked is not None:
            turn.verdicts.extend(verdict for verdict in checked.verdicts if verdict.decision != "allow")
        if checked is None or checked.blocked is None:
            yield passage


def _finish(turn: _Turn, asked: Asked, text: str, reply: Reply) -> Answer:
    release = turn.release
    abstained = reply.abstained or ABSTENTION in reply.text
    citations = () if abstained else cite(reply, turn.passages)
    cost, usage = _cost(turn, reply.usage), reply.usage + turn.spent
    cost = replace(cost, micros=cost.micros + turn.spent_micros)
    turn.trace.set(
        status="abstained" if abstained else "ok",
        finish=reply.finish,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_estimated=usage.estimated,
        cost_micros=cost.micros,
        response_model=reply.model,
        verdicts=_by_rail(turn.verdicts),
        content={
            "question": asked.question,
            "answer": text,
            "citations": [
                {"document": citation.document, "start": citation.start, "end": citation.end, "text": citation.text}
                for citation in citations
            ],
        },
    )
    return Answer(
        text=text,
        citations=citations,
        passages=turn.passages,
        verdicts=tuple(turn.verdicts),
        abstained=abstained,
        finish=reply.finish,
        usage=usage,
        cost=cost,
        seconds=time.perf_counter() - turn.began,
        trace=turn.trace.trace_id,
        release=release.id,
    )


class _Collected:
    """A streamed reply, put together."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.quotes: tuple[Quote, ...] = ()
        self.finish: FinishReason = "stop"
        self.usage: Usage | None = None
        self.abstained = False

    def add(self, delta: Delta) -> None:
        if delta.text:
            self.parts.append(delta.text)
        self.quotes += delta.quotes
        self.finish = delta.finish or self.finish
        self.usage = delta.usage or self.usage
        self.abstained = self.abstained or delta.abstained

    def reply(self, request: Request) -> Reply:
        return Reply(
            text="".join(self.parts),
            model=request.model,
            usage=self.usage or Usage(estimated=True),
            finish=self.finish,
            quotes=self.quotes,
            abstained=self.abstained,
        )


def _describe_chat(span: SpanRecording, turn: _Turn, request: Request, reply: Reply) -> None:
    release, cost = turn.release, _cost(turn, reply.usage)
    span.set(
        provider=release.model.engine,
        model=request.model,
        response_model=reply.model,
        prompt=str(release.prompt or ""),
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        cached_tokens=reply.usage.cached_tokens,
        reasoning_tokens=reply.usage.reasoning_tokens,
        usage_estimated=reply.usage.estimated,
        cost_micros=cost.micros,
        finish=reply.finish,
        content={
            "messages": [{"role": message.role, "text": message.text} for message in request.messages],
            "reply": reply.text,
        },
    )


def _note_unfinished(span: SpanRecording, turn: _Turn, asked: Asked, request: Request, collected: _Collected) -> None:
    """What a stream that did not come to its end has cost, estimated where nobody counted."""
    text = "".join(collected.parts)
    if not text:
        return
    usage = collected.usage or Usage(
        input_tokens=sum(count_tokens(message.text) for message in request.messages),
        output_tokens=count_tokens(text),
        estimated=True,
    )
    cost = _cost(turn, usage)
    for one in (span, turn.trace):
        one.set(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            usage_estimated=usage.estimated,
            cost_micros=cost.micros,
        )
    if asked.when_unfinished is not None:
        asked.when_unfinished(usage, cost)


def _asked(question: str | Asked, *, subject: SubjectId | None = None, session: str = "", channel: str = "") -> Asked:
    asked = question if isinstance(question, Asked) else Asked(question=question)
    return replace(
        asked,
        subject=subject or asked.subject,
        session=session or asked.session,
        channel=channel or asked.channel,
    )


def _shown(passage: Passage) -> dict[str, object]:
    return {
        "document": passage.document,
        "start": passage.start,
        "end": passage.end,
        "score": round(passage.score, 4),
        "lexical": round(passage.lexical, 4),
        "dense": round(passage.dense, 4),
        **({} if passage.first_score is None else {"first_score": round(passage.first_score, 4)}),
        "text": passage.text,
    }


def _by_rail(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The strongest decision of each rail."""
    order = ("allow", "undecided", "flag", "redact", "block")
    strongest: dict[str, str] = {}
    for verdict in verdicts:
        if order.index(verdict.decision) >= order.index(strongest.get(verdict.rail, "allow")):
            strongest[verdict.rail] = verdict.decision
    return strongest
