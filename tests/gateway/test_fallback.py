"""Fallbacks by kind of failure, breakers and retries, with the real gateway over loopback."""

import asyncio
import json
import logging
import time
from contextlib import contextmanager

import httpx
import pytest

from slipway.gateway.stand_ins import StandIns
from slipway.release.channels import promote
from slipway.workspace import open_workspace

HELLO = [{"role": "user", "content": "Hello?"}]
BACKUP = """
[engines.spare]
kind = "openai"
base_url = "{url}"

[engines.documents]
kind = "openai"
base_url = "{url}"
first_byte_s = 1.5
"""


@contextmanager
def serve(folder, tools, upstream, routing: str, prepare=None):
    """A gateway with these [routing] tables."""
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + BACKUP.format(url=upstream.url) + routing)
    with open_workspace(folder) as workspace:
        if prepare is not None:
            prepare(workspace)
        with tools.serving(workspace) as served:
            yield served


def line_of(page: str, start: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(start))


FAULTS = [
    pytest.param("429", id="429 with a Retry-After of 30 s"),
    pytest.param("500", id="an error"),
    pytest.param("503", id="down for now"),
    pytest.param("reset", id="a reset connection"),
    pytest.param("hang", id="no answer at all"),
    pytest.param("garbage", id="a web page with status 200"),
    pytest.param("short", id="half a body"),
    pytest.param("drip", id="a body that drips"),
    pytest.param("401", id="a refused key of ours"),
]


@pytest.fixture(scope="module")
def chained(tmp_path_factory, mock, make):
    """One gateway whose engine `fast` falls back to the model `ok` of `spare`."""
    routing = '[routing.fallback.fast]\nto = ["spare/ok"]\n'
    with make(tmp_path_factory.mktemp("chained"), mock, routing) as served:
        yield served


@pytest.fixture(scope="session")
def make(tools):
    @contextmanager
    def made(folder, mock, routing):
        app = tools.make_application(folder / "lamps", mock.url)
        with serve(app, tools, mock, routing) as served:
            yield served

    return made


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_before_the_first_byte_is_answered_by_the_fallback(chained, upstream, fault, stream):
    answer = chained.chat(f"fast/{fault}", stream=stream)
    assert answer.status_code == 200, answer.text
    assert "word49" in answer.text
    assert answer.headers["x-slipway-fallback"] == "spare/ok"
    # At once, however long the primary says to wait; while that lasts it is not asked at all. A connection that was
    # reused and reset may have been closed before, so that alone is tried twice.
    fewest = 0 if fault == "429" and stream else 1
    assert fewest <= upstream.state.asked[fault] <= (2 if fault == "reset" else 1)
    assert upstream.state.asked["ok"] == 1


def test_refused_connections_are_answered_by_the_fallback(folder, tools, upstream):
    routing = '[routing.fallback.dead]\nto = ["spare"]\n'
    with serve(folder, tools, upstream, routing) as served:
        answer = served.chat("dead/ok")
    assert answer.status_code == 200
    # An engine without a model is asked for the same one.
    assert upstream.state.requests[-1]["model"] == "ok"


def test_a_late_first_token_is_answered_by_the_fallback(chained, upstream):
    answer = chained.chat("fast/late", stream=True)
    assert answer.status_code == 200
    assert "[DONE]" in answer.text


@pytest.mark.parametrize("fault", ["400", "404", "422"])
def test_what_is_wrong_with_the_request_is_passed_on(chained, upstream, fault):
    answer = chained.chat(f"fast/{fault}")
    assert answer.status_code == int(fault)
    assert answer.json()["error"]["message"] == f"mock says {fault}"
    assert upstream.state.asked["ok"] == 0


@pytest.mark.parametrize("fault", ["cut", "stall", "error-event"])
def test_after_the_first_byte_nobody_else_is_asked(chained, upstream, fault):
    answer = chained.chat(f"fast/{fault}", stream=True)
    assert "[DONE]" not in answer.text
    assert '"error"' in answer.text
    assert upstream.state.asked["ok"] == 0


@pytest.mark.parametrize("fault", ["drip", "trickle"], ids=["whole", "stream"])
def test_an_answer_that_comes_drop_by_drop_has_an_end_though_no_piece_is_late(folder, tools, upstream, fault):
    text = (folder / "slipway.toml").read_text()
    slow = f'\n[engines.slow]\nkind = "openai"\nbase_url = "{upstream.url}"\nidle_s = 60\ntotal_s = 0.6\n'
    (folder / "slipway.toml").write_text(text + slow)
    with open_workspace(folder) as workspace, tools.serving(workspace) as served:
        answer = served.chat(f"slow/{fault}", stream=fault == "trickle")
        assert answer.status_code == (200 if fault == "trickle" else 504)
        assert "[DONE]" not in answer.text
        error = json.loads(answer.text.rpartition("data: ")[2])["error"]
        assert error["code"] == "engine_timeout"
        assert "whole answer" in error["message"]
        assert upstream.wait_cancelled(fault, within_s=30)
        (span,) = served.trace(answer.headers["x-slipway-trace"])
        assert span.status == "error"
        assert ("more" in span.content["reply"]) is (fault == "trickle")


def test_the_trace_tells_the_failed_calls_and_one_key_for_all(chained, upstream):
    answer = chained.chat("fast/500")
    keys = {headers[b"idempotency-key"] for headers in upstream.state.headers}
    assert len(upstream.state.headers) == 2
    root, attempt = chained.trace(answer.headers["x-slipway-trace"])
    assert (root.status, root.provider, root.model) == ("ok", "spare", "ok")
    assert (attempt.status, attempt.provider, attempt.model) == ("error", "fast", "500")
    assert "mock says 500" in attempt.error
    assert keys == {attempt.content["idempotency_key"].encode()}
    assert attempt.content["idempotency_key"] == f"{root.trace}-{root.span}"


def test_a_client_may_bring_its_own_key(chained, upstream):
    chained.chat("fast/500", headers={"idempotency-key": "order-17"})
    assert [headers[b"idempotency-key"] for headers in upstream.state.headers] == [b"order-17"] * 2


def test_each_kind_of_failure_has_its_own_way(folder, tools, upstream):
    routing = """
[routing.fallback.fast]
to = ["spare/by-default"]
rate_limit = ["spare/after-429"]
timeout = []
content_filter = ["spare/after-filter"]
"""
    with serve(folder, tools, upstream, routing) as served:
        assert served.chat("fast/429").headers["x-slipway-fallback"] == "spare/after-429"
        assert served.chat("fast/500").headers["x-slipway-fallback"] == "spare/by-default"
        assert served.chat("fast/filtered").headers["x-slipway-fallback"] == "spare/after-filter"
        assert served.chat("fast/filtered-400").headers["x-slipway-fallback"] == "spare/after-filter"
        assert served.chat("fast/hang").status_code == 504


def test_without_a_way_for_it_a_refused_text_is_passed_on(chained, upstream):
    assert chained.chat("fast/filtered-400").status_code == 400
    assert chained.chat("fast/filtered").json()["choices"][0]["finish_reason"] == "content_filter"
    assert upstream.state.asked["ok"] == 0


def test_a_chain_is_gone_through_in_order_and_the_first_word_counts_when_all_fail(folder, tools, upstream):
    routing = (
        '[routing.fallback.fast]\nto = ["spare/500", "dead/x", "spare/ok"]\n[routing.fallback.pair]\nto = ["dead/x"]\n'
    )
    with serve(folder, tools, upstream, routing) as served:
        assert served.chat("fast/503").headers["x-slipway-fallback"] == "spare/ok"
        assert [request["model"] for request in upstream.state.requests] == ["503", "500", "ok"]
        answer = served.chat("pair/429")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "30"


def test_a_channel_goes_before_its_release_and_that_before_its_engine(folder, tools, upstream):
    def prepare(workspace):
        promote(workspace, tools.plain_release(workspace, model="500"), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="ok"), "good", force=True)

    routing = """
[routing.fallback.plain]
to = ["lamps@2"]
[routing.fallback."lamps@1"]
to = ["spare/of-the-release"]
[routing.fallback.fast]
to = ["spare/of-the-engine"]
"""
    with serve(folder, tools, upstream, routing, prepare) as served:
        by_channel = served.chat("plain")
        assert by_channel.headers["x-slipway-fallback"] == "lamps@2"
        # Another release answered, and says so.
        other = served.gateway.snapshot.by_label["lamps@2"]
        assert by_channel.headers["x-slipway-release"] == other
        (root, _) = served.trace(by_channel.headers["x-slipway-trace"])
        assert root.release == other
        assert served.chat("lamps@1").headers["x-slipway-fallback"] == "spare/of-the-release"
        assert served.chat("fast/500").headers["x-slipway-fallback"] == "spare/of-the-engine"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_release_with_documents_keeps_its_prompt_and_passages(folder, tools, upstream, stream):
    def prepare(workspace):
        promote(workspace, tools.documents_release(workspace, engine="documents", model="500"), force=True)

    routing = '[routing.fallback.documents]\nto = ["spare/ok"]\n'
    with serve(folder, tools, upstream, routing, prepare) as served:
        question = [{"role": "user", "content": "What does express shipping cost?"}]
        answer = served.chat("lamps", messages=question, stream=stream)
        assert answer.status_code == 200, answer.text
        assert "word49" in answer.text
        assert answer.headers["x-slipway-fallback"] == "spare/ok"
        first, second = upstream.state.requests
        assert (first["model"], second["model"]) == ("500", "ok")
        assert first["messages"] == second["messages"]
        assert "Express shipping costs 12 euros" in json.dumps(first)
        spans = served.trace(answer.headers["x-slipway-trace"])
        assert [span.status for span in spans if span.kind == "chat"] == ["error", "ok"]
        assert spans[0].provider == "spare"


def test_a_release_with_documents_passes_a_wrong_request_on(folder, tools, upstream):
    def prepare(workspace):
        promote(workspace, tools.documents_release(workspace, engine="documents", model="400"), force=True)

    with serve(folder, tools, upstream, '[routing.fallback.documents]\nto = ["spare/ok"]\n', prepare) as served:
        assert served.chat("lamps").status_code == 400
        assert upstream.state.asked["ok"] == 0


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_dead_primary_is_asked_at_most_fifteen_times_of_sixty(folder, tools, upstream, fault):
    routing = '[routing.fallback.fast]\nto = ["spare/ok"]\n'
    with serve(folder, tools, upstream, routing) as served, httpx.Client(timeout=60) as client:
        for _ in range(60):
            body = {"model": f"fast/{fault}", "messages": HELLO}
            assert client.post(f"{served.url}/v1/chat/completions", json=body).status_code == 200
        page = client.get(f"{served.url}/metrics").text
    assert 5 <= upstream.state.asked[fault] <= 15
    assert upstream.state.asked["ok"] == 60
    model = fault if fault == "500" else ""
    address = upstream.url.removesuffix("/v1")
    state = f'slipway_breaker_state{{engine="fast",address="{address}",model="{model}"}}'
    assert line_of(page, state) in (1, 2)
    assert line_of(page, "slipway_fallbacks_total") == 60


@pytest.mark.parametrize("name", ["fast/cut", "lamps"], ids=["passed on", "with documents"])
def test_an_engine_that_breaks_off_every_stream_is_left_alone(folder, tools, upstream, name):
    def prepare(workspace):
        promote(workspace, tools.documents_release(workspace, engine="fast", model="cut"), force=True)

    routing = '[routing.fallback.fast]\nto = ["spare/ok"]\n'
    asked = [{"role": "user", "content": "What does express shipping cost?"}]
    with serve(folder, tools, upstream, routing, prepare) as served:
        answers = [served.chat(name, messages=asked, stream=True) for _ in range(20)]
    assert 5 <= upstream.state.asked["cut"] <= 8
    assert all('"error"' in answer.text for answer in answers[:5])
    assert all("[DONE]" in answer.text and '"error"' not in answer.text for answer in answers[-10:])


@pytest.mark.parametrize(
    ("first", "said"),
    [
        pytest.param("503", "engine_resting", id="overloaded"),
        pytest.param("500", "m500", id="answering 500: asked all the same where nobody is left"),
    ],
)
def test_when_all_are_down_there_are_at_most_one_and_a_half_attempts_a_request(folder, tools, upstream, first, said):
    routing = '[routing.fallback.fast]\nto = ["spare/503"]\n'
    with serve(folder, tools, upstream, routing) as served, httpx.Client(timeout=60) as client:
        for _ in range(60):
            answer = client.post(
                f"{served.url}/v1/chat/completions", json={"model": f"fast/{first}", "messages": HELLO}
            )
            assert answer.status_code in (500, 503)
        last = answer
    assert upstream.state.asked.total() <= 60 * 1.5
    assert last.json()["error"]["code"] == said
    assert said != "engine_resting" or int(last.headers["retry-after"]) >= 1


@pytest.mark.parametrize("at_once", [1, 60], ids=["one by one", "all at once"])
def test_engines_that_answer_500_to_all_are_asked_once_a_request(folder, tools, upstream, at_once):
    """Each is asked all the same, because it may do so to certain requests only: one of them, not all."""
    routing = '[routing.fallback.fast]\nto = ["spare/500"]\n'
    with serve(folder, tools, upstream, routing) as served:
        answers = ask_at_once(served, "fast/500", 60, at_once=at_once)
    assert {answer.status_code for answer in answers} == {500}
    assert upstream.state.asked.total() <= 60 * 1.5


@pytest.mark.parametrize(("first", "second"), [("hang", "late"), ("503", "hang"), ("reset", "503")])
def test_when_all_fail_at_once_few_ask_the_stand_in_in_vain(folder, tools, upstream, first, second):
    routing = f'[routing.fallback.fast]\nto = ["documents/{second}"]\n'
    with serve(folder, tools, upstream, routing) as served:
        answers = ask_at_once(served, f"fast/{first}", 60, stream=True)
    assert {answer.status_code for answer in answers} <= {502, 503, 504}
    assert upstream.state.asked.total() <= 60 * 1.5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_few_ask_the_stand_in_of_a_release_with_documents_in_vain(folder, tools, upstream, stream):
    def prepare(workspace):
        promote(workspace, tools.documents_release(workspace, engine="documents", model="503"), force=True)

    routing = '[routing.fallback.documents]\nto = ["fast/hang"]\n'
    question = [{"role": "user", "content": "What does express shipping cost?"}]
    with serve(folder, tools, upstream, routing, prepare) as served:
        answers = ask_at_once(served, "lamps", 40, stream=stream, messages=question)
        assert {answer.status_code for answer in answers} <= {502, 503, 504}
        assert upstream.state.asked.total() <= 40 * 1.5
        stand_ins = served.gateway._services.breakers.stand_ins
        assert [(one.asking, one.waiting) for one in stand_ins._known.values()] == [(0, 0)]


def test_when_one_fails_with_many_at_once_its_stand_in_answers_all_of_them(folder, tools, upstream):
    routing = '[routing.fallback.fast]\nto = ["spare/slow-0.3"]\n'
    with serve(folder, tools, upstream, routing) as served:
        began = time.monotonic()
        answers = ask_at_once(served, "fast/503", 60)
    assert {answer.status_code for answer in answers} == {200}
    assert upstream.state.asked["slow-0.3"] == 60
    assert time.monotonic() - began < 10


async def test_who_waits_for_a_stand_in_and_for_how_long():
    now = [0.0]
    stand_ins = StandIns(clock=lambda: now[0])

    async def turn(first: bool = False) -> bool:
        return await stand_ins.turn("spare", "ok", first=first)

    def waiting(times: int) -> list[asyncio.Task[bool]]:
        return [asyncio.ensure_future(turn()) for _ in range(times)]

    # Five may ask, and of more a fifth; whoever asks nobody else need not wait.
    turns = waiting(50)
    await asyncio.sleep(0.01)
    assert sum(one.done() for one in turns) == 10
    assert await turn(first=True)
    # A client that leaves makes room for another one.
    stand_ins.came_to("spare", "ok", None)
    stand_ins.came_to("spare", "ok", None)
    await asyncio.sleep(0.01)
    assert sum(one.done() for one in turns) == 10 + 1
    # While some that were sent are still out, a failure decides nothing, and nobody follows it.
    stand_ins.came_to("spare", "ok", False)
    await asyncio.sleep(0.01)
    assert sum(one.done() for one in turns) == 11
    # One answer, and all go, for ten seconds.
    stand_ins.came_to("spare", "ok", True)
    assert await asyncio.gather(*turns) == [True] * 50
    for _ in range(47):
        stand_ins.came_to("spare", "ok", True)
    now[0] += 9
    assert await asyncio.gather(*waiting(50)) == [True] * 50
    for _ in range(50):
        stand_ins.came_to("spare", "ok", False)
    now[0] += 2
    # Five that fail are enough, and so is the last one that was out.
    turns = waiting(50)
    await asyncio.sleep(0.01)
    for _ in range(5):
        stand_ins.came_to("spare", "ok", False)
    assert sorted(await asyncio.gather(*turns)) == [False] * 40 + [True] * 10


async def test_a_stand_in_that_takes_its_time_is_asked_by_more_and_not_by_all(monkeypatch):
    monkeypatch.setattr("slipway.gateway.stand_ins.LATER_S", 0.1)
    stand_ins = StandIns()
    turns = [asyncio.ensure_future(stand_ins.turn("spare", "ok", first=False)) for _ in range(50)]
    await asyncio.sleep(0.02)
    assert sum(one.done() for one in turns) == 10
    await asyncio.sleep(0.3)
    assert sum(one.done() for one in turns) == 20
    stand_ins.came_to("spare", "ok", True)
    assert await asyncio.gather(*turns) == [True] * 50


def ask_at_once(served, model: str, times: int, *, at_once: int = 60, **more) -> list[httpx.Response]:
    url, body = f"{served.url}/v1/chat/completions", {"model": model, "messages": HELLO, **more}

    async def ask_all() -> list[httpx.Response]:
        turns = asyncio.Semaphore(at_once)
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as client:

            async def one() -> httpx.Response:
                async with turns:
                    return await client.post(url, json=body)

            return await asyncio.gather(*(one() for _ in range(times)))

    return asyncio.run(ask_all())


def test_a_breaker_closes_when_its_upstream_is_back(folder, tools, upstream, until):
    routing = "[routing]\nbreaker_s = 0.05\n"
    with serve(folder, tools, upstream, routing) as served:
        upstream.state.broken.add("moody")
        for _ in range(10):
            assert served.chat("fast/moody").status_code in (500, 503)
        upstream.state.broken.clear()
        assert until(lambda: served.chat("fast/moody").status_code == 200)
        assert served.chat("fast/moody").status_code == 200


BAD = [
    pytest.param('[routing.fallback.fast]\nto = ["spar/ok"]\n', "Did you mean 'spare'", id="an engine there is not"),
    pytest.param('[routing.fallback.fast]\nt = ["spare"]\n', "unknown key 't'", id="a key there is not"),
    pytest.param('[routing.fallback.fast]\ntimeout = ["lamps@9"]\n', "lamps@9", id="a release there is not"),
]


@pytest.mark.parametrize(("routing", "reason"), BAD)
def test_a_fallback_that_cannot_be_is_refused_with_its_reason(folder, tools, upstream, until, routing, reason):
    with serve(folder, tools, upstream, "") as served:
        toml = folder / "slipway.toml"
        before = toml.read_text()
        toml.write_text(before + routing)
        served.gateway.reload()
        settings = f"{served.url}/readyz"
        assert until(lambda: reason in httpx.get(settings).json()["checks"]["settings"])
        assert httpx.get(settings).json()["ready"]
        page = httpx.get(f"{served.url}/metrics").text
        assert 'slipway_reloads_total{result="refused"} 1' in page
        assert served.chat("fast/ok").status_code == 200
        toml.write_text(before)
        served.gateway.reload()
        assert until(lambda: httpx.get(settings).json()["checks"]["settings"] == "ok")


def test_a_way_for_nobody_is_told_in_the_log(folder, tools, upstream, caplog):
    with caplog.at_level(logging.WARNING), serve(folder, tools, upstream, '[routing.fallback.fest]\nto = ["spare"]\n'):
        pass
    assert "[routing.fallback.fest] is for no channel, release or engine that there is now." in caplog.text
    assert "Did you mean 'fast'?" in caplog.text


def test_a_share_of_no_retries_is_none(folder, tools, upstream):
    with serve(folder, tools, upstream, "[routing]\nretry_share = 0.0\n") as served:
        for _ in range(3):
            assert served.chat("fast/503").status_code == 503
    assert upstream.state.asked["503"] == 3


def test_an_engine_that_answers_again_and_breaks_off_is_asked_again(folder, upstream, tools, until):
    """The one request that looks whether it is back must tell what it saw, else nobody ever looks again."""
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + "\n[routing]\nbreaker_failures = 1\nbreaker_s = 0.05\nretry_share = 0.0\n")
    question = [{"role": "user", "content": "What does express shipping cost?"}]
    with open_workspace(folder) as workspace:
        promote(workspace, tools.documents_release(workspace, engine="fast", model="cut"), force=True)
        with tools.serving(workspace) as served:
            upstream.state.broken.add("cut")
            assert served.chat("lamps", messages=question, stream=True).status_code == 502
            upstream.state.broken.clear()
            for asked in (2, 3, 4):
                answers = []

                def looks_again(answers=answers) -> bool:
                    answers.append(served.chat("lamps", messages=question, stream=True))
                    return answers[-1].status_code == 200

                assert until(looks_again)
                assert '"error"' in answers[-1].text
                assert upstream.state.asked["cut"] >= asked
