"""Traces for programs without instrumentation: `slipway.init()`, the decorator `slipway.traced`, and `slipway.span`.

W3C trace context goes in by `traceparent=` and out by `slipway.traceparent()`, so that a trace crosses processes.
"""

import atexit
import functools
import inspect
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

from slipway.config.reader import load_settings
from slipway.config.secrets import Secret, read_secret
from slipway.domain.errors import InputError
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span, SpanKind
from slipway.store.journal import Journal
from slipway.store.trace_pages import plain
from slipway.tracing.exporter import Exporter
from slipway.tracing.recorder import Recorder, SpanRecording, current_span, journal_sink
from slipway.wire.dialects.messages import answers_within
from slipway.wire.dialects.values import as_count, as_finish, as_mapping, as_text

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
LONGEST_TEXT = 64 * 1024
DEEPEST = 8


class Tracing:
    """What `init` set up. `close` sends what is left; so does the end of the program, and the end of a `with`."""

    def __init__(self, sink: Callable[[Sequence[Span]], None], *, project: str, keep_content: bool) -> None:
        self.sink = sink
        self.recorder = Recorder(project=project, sink=sink, keep_content=keep_content)
        self.defaults: dict[str, str] = {}

    def flush(self, *, within_s: float = 10.0) -> bool:
        """Whether everything that ended was sent in time."""
        return self.sink.flush(within_s=within_s) if isinstance(self.sink, Exporter) else True

    def close(self) -> None:
        if isinstance(self.sink, Exporter):
            self.sink.close()
        global _tracing
        if _tracing is self:
            _tracing = _off

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def init(
    endpoint: str = "",
    *,
    folder: Path | str | None = None,
    api_key: str = "",
    service: str = "",
    environment: str = "",
    release: str = "",
    keep_content: bool = True,
) -> Tracing:
    """Says where the traces of this program go: to the server at `endpoint`, or into the application in `folder`.

    `api_key` is written `env:NAME` or `file:PATH`, as everywhere. Until this was called, traced code runs untraced.
    Raises `InputError` where neither or both are named, `SecretMissing`, `NotAnApplication`.
    """
    global _tracing
    if bool(endpoint) == (folder is not None):
        raise InputError(
            "Say where traces go: slipway.init('http://127.0.0.1:8080') for a server, or slipway.init(folder='.')."
        )
    if folder is not None:
        home = Path(folder).resolve()
        project = load_settings(home).application.name
        sink = journal_sink(Journal.open(home / ".slipway" / "journal", worker=f"init{threading.get_native_id()}"))
    else:
        if not endpoint.startswith(("http://", "https://")):
            raise InputError(f"'{endpoint}' is no address of a server. Write it like http://127.0.0.1:8080.")
        project = service or "default"
        key = read_secret(api_key, place="api_key of slipway.init") if api_key else Secret("")
        sink = Exporter(endpoint, api_key=key, service=project)
    made = Tracing(sink, project=project, keep_content=keep_content)
    made.defaults = {key: value for key, value in (("environment", environment), ("release", release)) if value}
    if _tracing is not _off:
        _tracing.close()
    _tracing = made
    return made


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind | None = None,
    traceparent: str = "",
    session: str = "",
    subject: str = "",
    **fields: Any,
) -> Iterator[SpanRecording]:
    """One step, inside the one that runs now, or else a trace of its own; `fields` are those of `Span`.

    `traceparent` continues a trace that another program began. `set` on what is yielded adds what is known later.
    """
    with _begin(name, kind, traceparent, session, subject) as step:
        if fields:
            step.set(**fields)
        yield step


def traceparent() -> str:
    """The W3C header of the step that runs now, for requests to other programs; empty outside of any."""
    step = current_span()
    return "" if step is None else f"00-{step._trace.trace_id}-{step.id}-01"


@overload
def traced(function: Callable[Arguments, Result], /) -> Callable[Arguments, Result]: ...


@overload
def traced(
    *, name: str = "", kind: SpanKind | None = None, content: bool = True
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]: ...


def traced(function: Any = None, /, *, name: str = "", kind: SpanKind | None = None, content: bool = True) -> Any:
    """Makes every call of a function a step: its arguments as input, what it returns as output, how it failed.

    For functions, coroutines and (asynchronous) generators. An answer in the shape of the OpenAI API gives the step its
    model, tokens and finish reason. Without `content`, only times and errors are kept.
    """
    if function is None:
        return lambda inner: _traced(inner, name or inner.__qualname__, kind, content)
    return _traced(function, name or function.__qualname__, kind, content)


def _traced(function: Any, name: str, kind: SpanKind | None, content: bool) -> Any:
    signature = inspect.signature(function)

    def begun(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        step = _begin(name, kind, "", "", "")
        if content and _tracing is not _off:
            step.set(content={"input": _arguments(signature, arguments, named)})
        return step

    def ended(step: SpanRecording, result: Any) -> None:
        if content and _tracing is not _off:
            step.set(**_learned(result))

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def stream(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            with begun(arguments, named) as step:
                pieces: list[Any] = []
                async for piece in function(*arguments, **named):
                    step.first_token()
                    pieces.append(piece)
                    yield piece
                ended(step, _together(pieces))

        return stream
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generate(*arguments: Any, **named: Any) -> Iterator[Any]:
            with begun(arguments, named) as step:
                pieces: list[Any] = []
                for piece in function(*arguments, **named):
                    step.first_token()
                    pieces.append(piece)
                    yield piece
                ended(step, _together(pieces))

        return generate
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wait(*arguments: Any, **named: Any) -> Any:
            with begun(arguments, named) as step:
                result = await function(*arguments, **named)
                ended(step, result)
                return result

        return wait

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with begun(arguments, named) as step:
            result = function(*arguments, **named)
            ended(step, result)
            return result

    return call


def _begin(name: str, kind: SpanKind | None, given: str, session: str, subject: str) -> SpanRecording:
    running = current_span()
    match = TRACEPARENT.fullmatch(given.strip().lower()) if given else None
    if running is not None and match is None:
        step = running.span(name, kind=kind or "chain")
        if session or subject:
            step.set(session=session, subject=SubjectId(subject) if subject else None)
        return step
    usable = match is not None and match[1].strip("0") and match[2].strip("0")
    return _tracing.recorder.trace(
        name,
        kind=kind or "request",
        trace_id=TraceId(match[1]) if match and usable else None,
        parent=SpanId(match[2]) if match and usable else None,
        session=session,
        subject=SubjectId(subject) if subject else None,
        environment=_tracing.defaults.get("environment", ""),
        release=cast("ReleaseId | None", _tracing.defaults.get("release")),
    )


def _arguments(signature: inspect.Signature, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    try:
        bound = signature.bind(*arguments, **named).arguments
    except TypeError:
        # The call itself is going to say so.
        return {}
    told = {key: _kept(value) for key, value in bound.items() if key not in ("self", "cls")}
    return next(iter(told.values())) if len(told) == 1 else told


def _learned(result: Any) -> dict[str, Any]:
    """Fields of the step that what was returned tells."""
    dump = getattr(result, "model_dump", None)
    told = dump() if callable(dump) and hasattr(result, "choices") else result
    if isinstance(told, Mapping) and (output := answers_within(dict(told))):
        usage = as_mapping(told.get("usage"))
        found = {
            "response_model": as_text(told.get("model")),
            "input_tokens": as_count(usage.get("prompt_tokens")),
            "output_tokens": as_count(usage.get("completion_tokens")),
            "cached_tokens": as_count(as_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
            "reasoning_tokens": as_count(as_mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
            "finish": as_finish(as_mapping(next(iter(told.get("choices", [])), {})).get("finish_reason")),
        }
        return {"content": {"output": output}} | {key: value for key, value in found.items() if value}
    return {} if result is None else {"content": {"output": _kept(result)}}


def _together(pieces: list[Any]) -> Any:
    return "".join(pieces) if all(isinstance(piece, str) for piece in pieces) else pieces


def _kept(value: Any, depth: int = 0) -> Any:
    """A value as a trace keeps it: plain, and not endless."""
    match value:
        case None | bool() | int() | float():
            return plain(value)
        case str():
            text = value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}… ({len(value)} characters)"
            return plain(text)
        case _ if depth >= DEEPEST:
            return "…"
        case Mapping():
            return {plain(str(key)): _kept(inner, depth + 1) for key, inner in list(value.items())[:500]}
        case list() | tuple() | set() | frozenset():
            return [_kept(inner, depth + 1) for inner in list(value)[:500]]
        case _:
            dump = getattr(value, "model_dump", None)
            try:
                return _kept(dump(), depth + 1) if callable(dump) else _kept(repr(value), depth)
            except Exception as wrong:  # a value that cannot even be shown must not break the call
                return f"<{type(value).__name__}: {type(wrong).__name__}>"


def _nowhere(_: Sequence[Span]) -> None:
    return None


_off = Tracing(_nowhere, project="default", keep_content=False)
_tracing = _off


@atexit.register
def _end() -> None:
    _tracing.close()
