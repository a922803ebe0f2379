"""`slipway.init()`, the decorator and `slipway.span`: traces of programs that have no instrumentation."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import slipway
from slipway.domain.errors import InputError, SecretMissing
from slipway.domain.trace import Span
from slipway.tracing import client
from slipway.wire.otlp import decode_traces
from slipway.workspace import open_workspace


@pytest.fixture
def told() -> Iterator[list[list[Span]]]:
    """Traces that ended, in their order."""
    traces: list[list[Span]] = []
    tracing = client.Tracing(lambda spans: traces.append(list(spans)), project="shop", keep_content=True)
    before, client._tracing = client._tracing, tracing
    yield traces
    client._tracing = before


def test_steps_lie_inside_each_other(told: list[list[Span]]) -> None:
    @slipway.traced(kind="retrieval")
    def search(question: str) -> list[str]:
        return [f"about {question}"]

    @slipway.traced
    def answer(question: str, *, language: str = "en") -> str:
        with slipway.span("think", model="m") as step:
            step.set(input_tokens=3)
        return search(question)[0]

    assert answer("lamps", language="de") == "about lamps"
    ((root, think, found),) = told
    assert (root.kind, root.parent, root.status) == ("request", None, "ok")
    assert root.name.endswith("answer")
    assert root.content == {"input": {"question": "lamps", "language": "de"}, "output": "about lamps"}
    assert (think.kind, think.parent, think.model, think.input_tokens) == ("chain", root.span, "m", 3)
    assert (found.kind, found.parent, found.content["input"]) == ("retrieval", root.span, "lamps")


def test_a_function_that_fails_fails_and_says_so(told: list[list[Span]]) -> None:
    @slipway.traced(content=False)
    def broken(secret: str) -> None:
        raise ValueError("no lamps left")

    with pytest.raises(ValueError, match="no lamps left"):
        broken("hush")
    ((root,),) = told
    assert (root.status, root.error, root.content) == ("error", "ValueError: no lamps left", {})


async def test_coroutines_and_streams(told: list[list[Span]]) -> None:
    @slipway.traced(kind="chat")
    async def say(words: int) -> Any:
        for number in range(words):
            await asyncio.sleep(0)
            yield f"word{number} "

    @slipway.traced
    async def ask(words: int) -> str:
        return "".join([piece async for piece in say(words)])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(words)) for words in (2, 3)]
    assert [task.result() for task in tasks] == ["word0 word1 ", "word0 word1 word2 "]
    assert sorted(str(root.content["output"]) for root, _ in told) == ["word0 word1 ", "word0 word1 word2 "]
    for root, stream in told:
        assert stream.parent == root.span
        assert stream.first_token_ns is not None
        assert stream.content["output"] == root.content["output"]


def test_a_generator_that_is_left_early_is_cancelled(told: list[list[Span]]) -> None:
    @slipway.traced
    def count() -> Iterator[str]:
        yield "1"
        yield "2"

    for _ in count():
        break
    ((root,),) = told
    assert root.status in ("cancelled", "ok")


def test_an_openai_answer_tells_model_and_tokens(told: list[list[Span]]) -> None:
    body = {
        "model": "m-2026",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Nine euros."}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}},
    }

    @slipway.traced(kind="chat")
    def ask() -> Any:
        return SimpleNamespace(choices=body["choices"], model_dump=lambda: body)

    ask()
    ((root,),) = told
    assert (root.response_model, root.input_tokens, root.output_tokens, root.cached_tokens) == ("m-2026", 12, 3, 8)
    assert (root.finish, root.content["output"]) == ("stop", [{"role": "assistant", "text": "Nine euros."}])


def test_w3c_context_goes_in_and_out(told: list[list[Span]]) -> None:
    assert slipway.traceparent() == ""
    came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with slipway.span("served", traceparent=came, session="s1", subject="anna") as step:
        assert slipway.traceparent() == f"00-0af7651916cd43dd8448eb211c80319c-{step.id}-01"
    with slipway.span("apart", traceparent="no header"):
        pass
    (served,), (apart,) = told
    assert (served.trace, served.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (served.session, served.subject) == ("s1", "anna")
    assert apart.parent is None


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("not today")


ODD_VALUES = [
    pytest.param(Odd(), id="a value that cannot be shown"),
    pytest.param("\ud800", id="a lone surrogate"),
    pytest.param(2**80, id="a large number"),
    pytest.param("x" * 1_000_000, id="a long text"),
    pytest.param({1: {2: {3: {4: {5: {6: {7: {8: {9: 10}}}}}}}}}, id="deep"),
    pytest.param({"a", "b"}, id="a set"),
]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_odd_arguments_break_nothing(told: list[list[Span]], value: Any) -> None:
    @slipway.traced
    def take(value: Any) -> Any:
        return value

    assert take(value) is value
    ((root,),) = told
    assert len(json.dumps(root.content, default=str)) < 300_000


def test_without_init_nothing_is_recorded_and_all_works() -> None:
    @slipway.traced
    def answer() -> str:
        return "yes"

    assert answer() == "yes"
    with slipway.span("x") as step:
        step.set(model="m")


class Receiver(ThreadingHTTPServer):
    """Takes OTLP, after it has answered with `refusals`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.refusals: list[int] = []
        self.keys: set[str] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.add(self.headers.get("authorization", ""))
        status = self.server.refusals.pop(0) if self.server.refusals else 200
        if status == 200:
            assert self.path == "/v1/traces"
            self.server.spans += decode_traces(gzip.decompress(body), "application/json", project="p").spans
        self.send_response(status)
        self.send_header("retry-after", "0")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)


def test_traces_go_to_a_server_that_may_be_busy(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPS_KEY", "sk-lamps")
    receiver.refusals = [503, 429]
    with slipway.init(
        receiver.url, api_key="env:LAMPS_KEY", service="shop", environment="test", release="r7"
    ) as tracing:
        with slipway.span("outer"), slipway.span("inner", content={"question": "Why?"}):
            pass
        assert tracing.flush(within_s=60)
    assert {span.name for span in receiver.spans} == {"outer", "inner"}
    assert {(span.environment, span.release) for span in receiver.spans} == {("test", "r7")}
    assert receiver.keys == {"Bearer sk-lamps"}


def test_what_a_server_refuses_is_counted(receiver: Receiver) -> None:
    receiver.refusals = [401]
    with slipway.init(receiver.url) as tracing:
        with slipway.span("one"):
            pass
        assert tracing.flush(within_s=60)
        assert tracing.sink.lost == 1  # type: ignore[attr-defined]
        assert "401" in tracing.sink.last_failure  # type: ignore[attr-defined]


def test_a_server_that_is_not_there_holds_nobody_up() -> None:
    with slipway.init("http://127.0.0.1:1") as tracing:
        with slipway.span("one"):
            pass
        assert not tracing.flush(within_s=0.2)
        tracing.sink.close(within_s=1.0)  # type: ignore[attr-defined]
        assert tracing.sink.lost == 1  # type: ignore[attr-defined]


def test_a_program_that_ends_sends_what_it_has(receiver: Receiver) -> None:
    program = f"import slipway; slipway.init({receiver.url!r})\n@slipway.traced\ndef f(): return 1\nf()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ, "PYTHONWARNINGS": ""})
    assert [span.name for span in receiver.spans] == ["f"]


def test_traces_go_straight_into_an_application(tmp_path: Path) -> None:
    from slipway.tracing.ingest import drain

    (tmp_path / "slipway.toml").write_text('[application]\nname = "lamps"\n', encoding="utf-8")
    with slipway.init(folder=tmp_path), slipway.span("one", model="m"):
        pass
    with open_workspace(tmp_path) as workspace:
        drain(workspace.store)
        (row,) = workspace.store.traces.list().rows
        assert (row.name, row.model) == ("one", "m")


def test_wrong_calls_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"slipway.init\(folder='.'\)"):
        slipway.init()
    with pytest.raises(InputError):
        slipway.init("http://127.0.0.1:1", folder=tmp_path)
    with pytest.raises(InputError, match="Write it like http"):
        slipway.init("localhost:8080")
    with pytest.raises(SecretMissing, match="LAMPS_KEY"):
        slipway.init("http://127.0.0.1:1", api_key="env:LAMPS_KEY")
