"""Answers that are given again: the same words to the same people, for nothing, and never after an erasure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy
import pytest

from slipway.config.settings import CacheSettings
from slipway.domain.cache import CachedAnswer
from slipway.gateway.cache import AnswerCache
from slipway.privacy.erasure import erase_subject
from slipway.release.channels import promote
from slipway.workspace import open_workspace

CHAT = "/v1/chat/completions"
CACHED = "[cache]\nenabled = true\n[prices.fast]\ninput = 1.0\noutput = 2.0\n"
MICROS = 120 * 1 + 50 * 2
HELLO = [{"role": "user", "content": "What does express shipping cost?"}]


@pytest.fixture(scope="module")
def caching(tmp_path_factory, mock, tools):
    folder = tools.make_application(tmp_path_factory.mktemp("cache") / "lamps", mock.url, CACHED)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="other"), "other", force=True)
        promote(workspace, tools.documents_release(workspace), force=True)
        with tools.serving(workspace) as served:
            yield served


@pytest.fixture
def fresh(caching, upstream):
    """The gateway with nothing in its memory and nothing asked yet."""
    caching.gateway._services.cache._answers.clear()
    return caching


def hit(answer: Any) -> bool:
    assert answer.status_code == 200, answer.text
    return answer.headers.get("x-slipway-cache") == "hit"


def test_the_same_question_is_answered_without_asking_again(fresh, upstream):
    first = fresh.chat("plain", user="anna", temperature=0)
    again = fresh.chat("plain", user="anna", temperature=0)
    assert (hit(first), hit(again)) == (False, True)
    assert upstream.state.asked["ok"] == 1
    assert again.json()["choices"] == first.json()["choices"]
    assert again.json()["usage"] == first.json()["usage"]
    assert again.headers["x-slipway-trace"] != first.headers["x-slipway-trace"]
    (span,) = fresh.trace(again.headers["x-slipway-trace"])
    assert span.name == "cache ok"
    assert span.cost_micros == 0
    assert span.subject == "anna"
    assert span.content["cached_trace"] == first.headers["x-slipway-trace"]
    assert fresh.trace(first.headers["x-slipway-trace"])[0].cost_micros == MICROS


OTHER_QUESTIONS = [
    pytest.param({"user": "ben"}, id="another person"),
    pytest.param({"temperature": 0.5}, id="another decoding"),
    pytest.param({"model": "other"}, id="another release"),
    pytest.param({"messages": [{"role": "system", "content": "Be brief."}, *HELLO]}, id="another instruction"),
    pytest.param({"max_tokens": 7}, id="another length"),
    pytest.param({"a_new_field": True}, id="a field that nobody knows"),
    pytest.param({"n": 2}, id="several answers"),
    pytest.param({"headers": {"cache-control": "no-cache"}}, id="a client that wants a new answer"),
    pytest.param({"headers": {"cache-control": "no-store"}}, id="a client that wants none kept"),
]


@pytest.mark.parametrize("more", OTHER_QUESTIONS)
def test_whatever_the_answer_depends_on_makes_another_question(fresh, more):
    asked = {"model": "plain", "user": "anna", "messages": HELLO}
    fresh.chat(**asked)
    assert hit(fresh.chat(**asked))
    assert not hit(fresh.chat(**(asked | more)))


def test_how_the_answer_travels_makes_none(fresh):
    fresh.chat("plain", user="anna", messages=HELLO)
    turn = b'{"content": "What does express shipping cost?", "role" : "user"}'
    spaced = b'{ "messages" : [' + turn + b'], "model": "plain", "user":"anna"}'
    assert hit(fresh.post(CHAT, spaced))
    assert hit(fresh.chat("plain", user="anna", messages=HELLO, stream=True, metadata={"a": "b"}))
    message = {"model": "plain", "messages": HELLO, "metadata": {"user_id": "anna"}, "max_tokens": 50}
    assert not hit(fresh.post("/v1/messages", message))
    again = fresh.post("/v1/messages", message)
    assert hit(again)
    assert again.json()["content"][0]["text"].startswith("word0")


@pytest.mark.parametrize("model", ["plain", "lamps"])
@pytest.mark.parametrize("kept_as_stream", [False, True])
def test_streams_come_from_the_cache_and_go_into_it(fresh, model, kept_as_stream):
    def ask(stream: bool) -> tuple[str, Any]:
        if not stream:
            completion = fresh.client.chat.completions.create(model=model, messages=HELLO, user="carl")
            return completion.choices[0].message.content or "", completion.usage.total_tokens
        chunks = list(
            fresh.client.chat.completions.create(
                model=model, messages=HELLO, user="carl", stream=True, stream_options={"include_usage": True}
            )
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return said, chunks[-1].usage.total_tokens

    first, usage = ask(kept_as_stream)
    assert ask(True) == (first, usage)
    assert ask(False) == (first, usage)
    assert hit(fresh.chat(model, messages=HELLO, user="carl"))
    streamed = fresh.chat(model, messages=HELLO, user="carl", stream=True)
    assert hit(streamed)
    assert streamed.text.endswith("data: [DONE]\n\n")
    if model == "lamps":
        assert "citations" in fresh.chat(model, messages=HELLO, user="carl").json()["slipway"]


@pytest.mark.parametrize("model", ["fast/500", "fast/no-done", "fast/error-event", "fast/cut"])
def test_what_went_wrong_is_not_kept(fresh, model):
    stream = model != "fast/500"
    for _ in range(2):
        answer = fresh.chat(model, stream=stream)
        assert "x-slipway-cache" not in answer.headers


def test_what_it_saves_is_counted(fresh, until):
    meter = fresh.gateway._services.admission._meter
    before = meter.used("cache")
    for _ in range(3):
        fresh.chat("plain", user="dora", messages=HELLO)
    page = fresh.post("/metrics", b"").text
    assert "slipway_cache_hits_total " in page
    assert "slipway_cache_saved_dollars_total 0.0" in page
    after = meter.used("cache")
    assert (after.requests - before.requests, after.micros - before.micros) == (2, 2 * MICROS)


def test_erasing_a_person_takes_their_answers_out_of_store_and_memory(caching, until):
    asked = {
        "model": "plain",
        "user": "erna",
        "messages": [{"role": "user", "content": "Where do I, Erna Muster, live?"}],
    }
    first = caching.chat(**asked)
    assert hit(caching.chat(**asked))
    store = caching.workspace.store

    def kept() -> list[CachedAnswer]:
        return [one for one in store.records.list(CachedAnswer) if one.subject == "erna"]

    assert until(lambda: len(kept()) == 1)
    edges = store.lineage.descendants([("trace", first.headers["x-slipway-trace"])])
    assert ("cached_answer", kept()[0].id) in [edge.child for edge in edges]
    report = erase_subject(caching.workspace, "erna")
    assert any(node.kind == "cached_answer" and node.state == "erased" for node in report.nodes)
    assert not kept()
    assert until(lambda: not hit(caching.chat(**asked)))


def test_what_others_kept_of_a_persons_words_is_erased_too(tmp_path, mock, tools, until):
    """Shared answers: made for one, given to another."""
    folder = tools.make_application(
        tmp_path / "lamps", mock.url, CACHED.replace("enabled = true", "enabled = true\nshared = true")
    )
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            served.chat("plain", user="anna", messages=HELLO)
            assert hit(served.chat("plain", user="ben", messages=HELLO))
            assert until(lambda: workspace.store.records.count(CachedAnswer) == 1)
            served.traces()
            erase_subject(workspace, "anna")
            assert workspace.store.records.count(CachedAnswer) == 0
            assert until(lambda: not hit(served.chat("plain", user="ben", messages=HELLO)))


class Letters:
    """An embedder by the letters of a text: enough to tell near questions from far ones."""

    id = "letters"
    dimensions = 26

    def embed(self, texts):
        rows = numpy.array([[text.lower().count(chr(97 + n)) + 1e-6 for n in range(26)] for text in texts], dtype="f4")
        return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def test_a_question_of_the_same_meaning_where_it_is_asked_for(tmp_path, mock, tools):
    more = CACHED.replace("enabled = true", "enabled = true\nsimilar = 0.97")
    folder = tools.make_application(tmp_path / "lamps", mock.url, more)
    with open_workspace(folder) as opened:
        workspace = replace(opened, embedder=Letters())
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:

            def ask(text: str, system: str = "Be brief.") -> bool:
                said = [{"role": "system", "content": system}, {"role": "user", "content": text}]
                return hit(served.chat("plain", messages=said))

            assert not ask("What does express shipping cost?")
            assert ask("what does express shipping cost")
            assert not ask("Who sells lamps?")
            assert not ask("what does express shipping cost!", system="Be rude.")
            assert not hit(
                served.chat("plain", messages=[{"role": "user", "content": "What does express shipping cost?"}])
            )


# The memory ----------------------------------------------------------------------------------------------------------


def an_answer(number: int, at: datetime, *, text: str = "hi") -> CachedAnswer:
    return CachedAnswer(
        id=f"id{number}",
        context="c",
        release="r",
        question="q",
        completion=text,
        cost_micros=1,
        trace=f"{number:032x}",
        created_at=at,
    )


NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_answers_grow_old_and_only_so_many_are_kept(caching):
    now = [NOON]
    store = caching.workspace.store.of("other")
    settings = CacheSettings(enabled=True, hours=1, entries=3)
    cache = AnswerCache(store, now=lambda: now[0])
    for number in range(5):
        cache.keep(an_answer(number, NOON + timedelta(seconds=number)), settings)
    assert [cache.look(f"id{number}", settings) is not None for number in range(5)] == [False, False, True, True, True]
    cache.refresh(settings)
    assert store.records.count(CachedAnswer) == 3
    other = AnswerCache(store, now=lambda: now[0])
    assert other.look("id4", settings) is None
    other.refresh(settings)
    assert other.look("id4", settings) is not None
    now[0] += timedelta(hours=1, seconds=3)
    assert cache.look("id3", settings) is not None or cache.look("id4", settings) is not None
    now[0] += timedelta(seconds=3)
    assert cache.look("id4", settings) is None
    cache.refresh(settings)
    assert store.records.count(CachedAnswer) == 0


def test_what_is_kept_before_the_first_look_into_the_store_stays_at_hand(caching, monkeypatch):
    store, settings = caching.workspace.store.of("fourth"), CacheSettings(enabled=True)
    cache, seen = AnswerCache(store, now=lambda: NOON), []
    cache.keep(an_answer(1, NOON), settings)
    save = store.records.save_all
    monkeypatch.setattr(
        store.records, "save_all", lambda *args, **more: (seen.append(cache.look("id1", settings)), save(*args, **more))
    )
    cache.refresh(settings)
    assert [one is not None for one in seen] == [True]


def test_memory_is_bounded_by_size(caching):
    settings = CacheSettings(enabled=True, megabytes=0.01)
    cache = AnswerCache(caching.workspace.store.of("third"), now=lambda: NOON)
    for number in range(50):
        cache.keep(an_answer(number, NOON, text="x" * 1000), settings)
    assert cache._bytes <= 10_000
    assert cache.look("id49", settings) is not None
    assert cache.look("id0", settings) is None
    assert msgspec.structs.asdict(settings)["entries"] == 10_000
