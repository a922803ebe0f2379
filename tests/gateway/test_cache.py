"""Answers that are given again: the same words to the same people, for nothing, and never after an erasure."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy
import pytest

from slipway.access.keys import create_key
from slipway.config.settings import CacheSettings
from slipway.domain.cache import CachedAnswer
from slipway.domain.errors import EngineUnreachable
from slipway.domain.guardrail import Guardrails, RailSpec
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


@pytest.mark.parametrize("kept_as_stream", [False, True])
def test_thoughts_come_along_whichever_way_an_answer_travels(fresh, kept_as_stream):
    asked = {"model": "fast/thoughtful", "user": f"as a stream: {kept_as_stream}"}
    fresh.chat(**asked, stream=kept_as_stream)
    again = [fresh.chat(**asked, stream=stream) for stream in (False, True)]
    assert [hit(answer) for answer in again] == [True, True]
    assert again[0].json()["choices"][0]["message"]["reasoning_content"] == "Thought."
    assert '"reasoning_content":"Thought."' in again[1].text


@pytest.mark.parametrize("kept_as_stream", [False, True])
def test_an_answer_that_would_lose_something_on_the_other_way_is_asked_for_anew(fresh, kept_as_stream):
    asked = {"model": "fast/likely", "logprobs": True, "user": f"as a stream: {kept_as_stream}"}
    fresh.chat(**asked, stream=kept_as_stream)
    other = fresh.chat(**asked, stream=not kept_as_stream)
    assert not hit(other)
    assert '"logprob": -0.5' in other.text
    # What came whole is kept, by now in any case.
    assert hit(fresh.chat(**asked))


def test_a_key_gets_no_kept_answer_of_a_model_that_it_may_not_call(tmp_path, mock, tools):
    folder = tools.make_application(tmp_path / "lamps", mock.url, CACHED)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        _, shop = create_key(workspace.store, "shop")
        _, other = create_key(workspace.store, "other", models=["elsewhere"])
        with tools.serving(workspace, keys_required=True) as served:
            statuses = [
                served.chat("plain", user="anna", headers={"authorization": f"Bearer {key}"}).status_code
                for key in (shop, shop, other)
            ]
    assert statuses == [200, 200, 403]


def test_kept_answers_count_among_the_requests_of_a_person(tmp_path, mock, tools):
    folder = tools.make_application(tmp_path / "lamps", mock.url, CACHED + "[limits.person]\nrequests_per_minute = 3\n")
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            statuses = [served.chat("plain", user="anna").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


def test_features_asked_for_by_header_make_another_question(fresh):
    message = {"model": "plain", "messages": HELLO, "max_tokens": 60}
    assert not hit(fresh.post("/v1/messages", message, headers={"anthropic-beta": "longer-2026"}))
    assert not hit(fresh.post("/v1/messages", message))
    assert hit(fresh.post("/v1/messages", message, headers={"anthropic-beta": "longer-2026"}))


def test_the_trace_of_a_kept_answer_holds_no_more_than_that_of_the_first(tmp_path, mock, tools):
    guard = Guardrails(before=(RailSpec(name="personal_data", action="redact"),))
    asked = [{"role": "user", "content": "I am joe.bloggs@example.com. What does shipping cost?"}]
    folder = tools.make_application(tmp_path / "lamps", mock.url, CACHED)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, guardrails=guard), "plain", force=True)
        with tools.serving(workspace) as served:
            answers = [served.chat("plain", messages=asked) for _ in range(2)]
            assert hit(answers[1])
            said = [served.trace(answer.headers["x-slipway-trace"])[0] for answer in answers]
    assert said[1].content["messages"] == said[0].content["messages"]
    assert "joe.bloggs" not in said[1].content["messages"][0]["text"]
    assert said[1].verdicts == said[0].verdicts == {"personal_data": "redact"}


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


@contextmanager
def asked_alike(tmp_path, mock, tools, embedder):
    """A gateway that gives answers to questions of the same meaning, too."""
    more = CACHED.replace("enabled = true", "enabled = true\nsimilar = 0.97")
    folder = tools.make_application(tmp_path / "lamps", mock.url, more)
    with open_workspace(folder) as opened:
        workspace = replace(opened, embedder=embedder)
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace) as served:
            yield served


def test_a_question_of_the_same_meaning_where_it_is_asked_for(tmp_path, mock, tools):
    with asked_alike(tmp_path, mock, tools, Letters()) as served:

        def ask(text: str, system: str = "Be brief.") -> bool:
            said = [{"role": "system", "content": system}, {"role": "user", "content": text}]
            return hit(served.chat("plain", messages=said))

        assert not ask("What does express shipping cost?")
        assert ask("what does express shipping cost")
        assert not ask("Who sells lamps?")
        assert not ask("What does express shipping not cost?")
        assert not ask("What does express shipping of 5 cost?")
        assert ask("what does express shipping of 5 cost")
        assert not ask("What does express shipping of 50 cost?")
        assert not ask("what does express shipping cost!", system="Be rude.")
        assert not hit(served.chat("plain", messages=[{"role": "user", "content": "What does express shipping cost?"}]))


def test_an_embedder_that_fails_costs_no_answer_and_the_same_question_needs_none(tmp_path, mock, tools):
    class Moody(Letters):
        asked = 0
        down = False

        def embed(self, texts):
            self.asked += 1
            if self.down:
                raise EngineUnreachable("letters", "http://127.0.0.1:1", "nothing answers")
            return super().embed(texts)

    embedder = Moody()
    with asked_alike(tmp_path, mock, tools, embedder) as served:
        served.chat("plain", messages=HELLO)
        embedder.down = True
        assert hit(served.chat("plain", messages=HELLO))
        assert embedder.asked == 1
        other = [{"role": "user", "content": "Who sells lamps?"}]
        assert not hit(served.chat("plain", messages=other))
        assert hit(served.chat("plain", messages=other))


def test_the_trace_of_a_near_question_holds_its_own_words(tmp_path, mock, tools):
    with asked_alike(tmp_path, mock, tools, Letters()) as served:
        served.chat("plain", messages=HELLO)
        near = [{"role": "user", "content": "what does express shipping cost"}]
        answer = served.chat("plain", messages=near)
        assert hit(answer)
        (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert [message["text"] for message in span.content["messages"]] == ["what does express shipping cost"]


def test_answers_that_another_embedder_has_seen_are_no_hindrance(tmp_path, mock, tools, until):
    class Vowels(Letters):
        id = "vowels"
        dimensions = 5

        def embed(self, texts):
            rows = numpy.array([[text.lower().count(vowel) + 1e-6 for vowel in "aeiou"] for text in texts], dtype="f4")
            return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)

    folder = tools.make_application(
        tmp_path / "lamps", mock.url, CACHED.replace("enabled = true", "enabled = true\nsimilar = 0.97")
    )
    with open_workspace(folder) as opened:
        promote(opened, tools.plain_release(opened), "plain", force=True)
        with tools.serving(replace(opened, embedder=Letters())) as served:
            served.chat("plain", messages=HELLO)
            assert until(lambda: opened.store.records.count(CachedAnswer) == 1)
        with tools.serving(replace(opened, embedder=Vowels())) as served:
            cache = served.gateway._services.cache
            assert until(lambda: len(cache._answers) == 1)
            for text in ("Who sells lamps?", "Who buys lamps?"):
                assert not hit(served.chat("plain", messages=[{"role": "user", "content": text}]))


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


def test_what_another_worker_made_anew_takes_the_place_of_what_was_kept(caching):
    store, settings = caching.workspace.store.of("fifth"), CacheSettings(enabled=True)
    first, second = (AnswerCache(store, now=lambda: NOON) for _ in range(2))
    first.keep(an_answer(1, NOON - timedelta(seconds=5), text="old"), settings)
    for cache in (first, second):
        cache.refresh(settings)
    second.keep(an_answer(1, NOON, text="new"), settings)
    for cache in (second, first):
        cache.refresh(settings)
    assert [cache.look("id1", settings).completion for cache in (first, second)] == ["new", "new"]


def test_memory_is_bounded_by_size(caching):
    settings = CacheSettings(enabled=True, megabytes=0.01)
    cache = AnswerCache(caching.workspace.store.of("third"), now=lambda: NOON)
    for number in range(50):
        cache.keep(an_answer(number, NOON, text="x" * 1000), settings)
    assert cache._bytes <= 10_000
    assert cache.look("id49", settings) is not None
    assert cache.look("id0", settings) is None
    assert msgspec.structs.asdict(settings)["entries"] == 10_000
