"""The data report: splits that do not leak, duplicates, contradictions, personal data, and a verdict."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from slipway.domain.dataset import Case, Dataset
from slipway.domain.errors import FileBroken, NotFound
from slipway.domain.feedback import Feedback
from slipway.domain.ids import ContentHash, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.domain.training import Pair
from slipway.train.duplicates import clusters, near_duplicates
from slipway.train.pairs import collect_pairs
from slipway.train.report import make_report, report_on
from slipway.workspace import Workspace

Write = Callable[[list[dict[str, str]]], None]
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def a_pair(prompt: str, completion: str, *, source: str = "file:training/a.jsonl") -> Pair:
    return Pair(id=f"{hash((prompt, completion)) & 0xFFFFFFFF:x}", prompt=prompt, completion=completion, source=source)


def many(count: int, *, seed: int = 0) -> list[Pair]:
    """Pairs that have little in common."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def words(number: int) -> str:
        return " ".join("".join(rng.choices(letters, k=8)) for _ in range(number))

    return [a_pair(words(6), words(6)) for _ in range(count)]


def test_the_split_is_the_same_in_any_order_and_holds_out_the_share() -> None:
    pairs = many(200)
    first = make_report(pairs, validation_share=0.2, seed=3)
    shuffled = random.Random(9).sample(pairs, len(pairs))
    assert make_report(shuffled, validation_share=0.2, seed=3) == first
    assert len(first.validation) == 40
    assert set(first.validation) < set(first.kept)
    assert make_report(pairs, validation_share=0.2, seed=4).validation != first.validation


def test_near_duplicates_lie_on_one_side_of_the_split() -> None:
    pairs = many(60)
    pairs += [a_pair(f"{pair.prompt} please", pair.completion) for pair in pairs[:30]]
    report = make_report(pairs, validation_share=0.5)
    assert report.near_duplicates == 30
    held = set(report.validation)
    assert 0 < len(held) < len(pairs)
    for original, copy in zip(pairs[:30], pairs[60:], strict=True):
        assert (original.id in held) == (copy.id in held)


def test_exact_duplicates_are_dropped_whatever_their_case_and_signs() -> None:
    report = make_report(
        [a_pair("Where is it?", "Here."), a_pair("where is it", "here"), a_pair("Where is it?", "Here.")]
    )
    assert report.exact_duplicates == 2
    assert len(report.kept) == 1


FLAWS = [
    pytest.param([a_pair("q one two", "a"), a_pair("q one two", "b")], "different answers", id="contradiction"),
    pytest.param([a_pair("mail me", "write to anna@example.org")], "personal data", id="an address"),
    pytest.param([a_pair("key?", "ghp_abcdefghijklmnopqrstuvwxyz0123456789")], "secrets", id="a key"),
    pytest.param([a_pair("what", "  ")], "empty side", id="an empty answer"),
    pytest.param([], "no pair", id="nothing at all"),
    pytest.param(many(10), "only 10 pairs", id="too few"),
]


@pytest.mark.parametrize(("pairs", "reason"), FLAWS)
def test_a_flaw_is_a_reason(pairs: list[Pair], reason: str) -> None:
    report = make_report(pairs)
    assert reason in " | ".join(report.reasons)
    assert report.verdict != "ready"


def test_sound_data_is_ready() -> None:
    report = make_report(many(80))
    assert (report.verdict, report.reasons) == ("ready", ())
    assert report.prompt_tokens.longest >= report.prompt_tokens.p95 >= report.prompt_tokens.median > 0


LEAKS = [
    pytest.param("How long is the warranty of a garden lamp?", 1, id="word for word"),
    pytest.param("how long is the warranty of a garden lamp", 1, id="in other case and signs"),
    pytest.param("How long is the warranty of a garden lamp, please?", 1, id="with a word more"),
    pytest.param("How long does shipping to Norway take?", 0, id="another question"),
]


@pytest.mark.parametrize(("question", "leaked"), LEAKS)
def test_a_question_that_evaluations_ask_is_a_leak(question: str, leaked: int) -> None:
    pairs = [*many(80), a_pair("How long is the warranty of a garden lamp?", "Five years.")]
    report = make_report(pairs, evaluation={"questions@1": [question]})
    assert sum(leak.pairs for leak in report.leaks) == leaked
    assert (report.verdict == "not ready") == bool(leaked)


def test_alike_texts_are_found_and_chained() -> None:
    texts = ["the lamp in the hall is broken", "the lamp in the hall is broken!", "shipping takes five days", "no"]
    found = list(near_duplicates(texts))
    assert [(one, other) for one, other, _ in found] == [(0, 1)]
    assert clusters(4, [(0, 1, 1.0), (1, 3, 1.0)]) == [0, 0, 2, 0]


def save_dataset(workspace: Workspace) -> None:
    cases = (
        Case(id="1", question="How long is the warranty?", expected="five years", subject=SubjectId("p1")),
        Case(id="2", question="Who is the owner's dog?", answerable=False),
    )
    workspace.store.records.save(
        Dataset(name="questions", version=1, hash=ContentHash("h"), cases=cases, source="test", created_at=NOW)
    )


def test_pairs_come_from_files_datasets_and_corrections(workspace: Workspace, write_pairs: Write) -> None:
    write_pairs(
        [
            {"question": "a", "answer": "b"},
            {"prompt": "c", "completion": "d"},
            {"messages": [{"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]},  # type: ignore[dict-item]
        ]
    )
    save_dataset(workspace)
    trace = TraceId("a" * 32)
    workspace.store.traces.add(
        [
            Span(
                trace=trace, span=SpanId("b" * 16), name="answer", kind="request", start_ns=1, end_ns=2,
                project=workspace.application, content={"question": "What does shipping cost?"},
            )
        ]
    )  # fmt: skip
    for id, to in (("f1", trace), ("f2", TraceId("c" * 32))):
        workspace.store.records.save(Feedback(id=id, trace=to, score=-1, correction="4.90 euros", created_at=NOW))
    found = collect_pairs(workspace, datasets=["questions"])
    assert {(pair.prompt, pair.completion) for pair in found.pairs} == {
        ("a", "b"), ("c", "d"), ("e", "f"), ("How long is the warranty?", "five years"),
        ("What does shipping cost?", "4.90 euros"),
    }  # fmt: skip
    assert "1 cases of questions@1 have no expected answer" in found.left_out
    assert any("1 corrections" in reason for reason in found.left_out)
    # The dataset is the one that evaluations ask, so training on it would be cheating.
    report = report_on(workspace, found, validation_share=0.1, seed=0)
    assert report.verdict == "not ready"
    assert report.people == 1


def test_datasets_are_not_taken_unasked(workspace: Workspace) -> None:
    save_dataset(workspace)
    assert collect_pairs(workspace).pairs == ()
    with pytest.raises(NotFound, match="Did you mean 'questions'"):
        collect_pairs(workspace, datasets=["question"])


BROKEN = [
    pytest.param('{"question": "a"}', "line 1 has neither", id="half a pair"),
    pytest.param('{"question": "a", "answer": "b"}\nnonsense', "line 2 is no JSON", id="no JSON"),
    pytest.param('{"messages": [{"role": "user", "content": "a"}]}', "line 1 has neither", id="no reply"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_line_is_named(workspace: Workspace, text: str, reason: str) -> None:
    (workspace.folder / "training").mkdir()
    (workspace.folder / "training" / "x.jsonl").write_text(text)
    with pytest.raises(FileBroken, match=reason):
        collect_pairs(workspace)


def test_a_report_is_plain_data() -> None:
    import msgspec

    assert json.loads(msgspec.json.encode(make_report(many(3))))["pairs"] == 3
