"""Export: everything about a person and nothing about others. Retention: content goes when its days are over."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.domain.dataset import Case, Dataset
from slipway.domain.errors import ConfigError
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SubjectId, TraceId, hash_text
from slipway.jobs.queue import claim, enqueue
from slipway.privacy.export import export_subject, size_of
from slipway.privacy.retention import run_retention
from slipway.tracing.recorder import Recorder, store_sink
from slipway.workspace import Workspace, open_workspace

Ask = Callable[..., TraceId]
ANNA, BERT = SubjectId("user-anna"), SubjectId("user-bert")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_an_export_holds_everything_about_the_person_and_nothing_of_others(workspace: Workspace, ask: Ask) -> None:
    store = workspace.store
    trace = ask(ANNA, "Where is my parcel with the lamp?")
    ask(BERT, "The secret of another person")
    feedback = Feedback(id="f", trace=trace, score=-1, comment="Too late!", subject=ANNA, created_at=NOON)
    store.records.save(feedback, parents=[("trace", trace)])
    cases = (Case(id="1", question="My own case", subject=ANNA), Case(id="2", question="Another case", subject=BERT))
    dataset = Dataset(name="d", version=1, hash=hash_text("d"), cases=cases, source="traces", created_at=NOON)
    store.records.save(dataset, parents=[("trace", trace)])
    store.lineage.add(child=("evaluation", "e"), parent=("dataset", "d@1"))
    enqueue(store, "score", {"text": "My job"}, subject=ANNA)
    exported = export_subject(workspace, ANNA)
    text = json.dumps(exported)
    for mine in ("Where is my parcel", "Too late!", "My own case", "My job", trace):
        assert mine in text
    for theirs in ("The secret of another person", "Another case", BERT):
        assert theirs not in text
    assert exported["copies"] == [{"kind": "evaluation", "id": "e"}]
    assert [span["name"] for span in exported["traces"][0]["spans"]] == ["answer", "retrieval", "chat small"]
    assert size_of(exported) == 5


def test_nothing_is_kept_about_a_stranger(workspace: Workspace, ask: Ask) -> None:
    ask(ANNA, "Where is my parcel with the lamp?")
    assert size_of(export_subject(workspace, SubjectId("stranger"))) == 0


def test_content_goes_when_its_days_are_over_and_numbers_stay(workspace: Workspace, ask: Ask) -> None:
    store = workspace.store
    old = ask(ANNA, "An old question about lamps")
    done = enqueue(store, "score")
    claimed = claim(store, ["score"], worker="w")
    assert claimed is not None
    claimed.succeed()
    now = workspace.now()
    assert run_retention(workspace, now=now + timedelta(days=89)).traces == 0
    assert store.traces.get(old).root.content["question"] == "An old question about lamps"
    report = run_retention(workspace, now=now + timedelta(days=91))
    assert (report.keep_days, report.traces, report.jobs, report.notes) == (90, 1, 1, ())
    assert store.traces.count() == 0
    assert store.jobs.get(done) is None
    points = store.traces.series(since=now - timedelta(days=1), until=now + timedelta(days=1))
    assert sum(point.count for point in points) == 1
    assert next(store.audit.events(newest_first=True)).action == "privacy.keep"
    content = b"".join(path.read_bytes() for path in workspace.state.rglob("*") if path.is_file())
    assert b"question" not in content.replace(b"questions", b"")


def test_the_days_may_be_given(workspace: Workspace, ask: Ask) -> None:
    ask(ANNA, "A question about lamps")
    assert run_retention(workspace, keep_days=1, now=workspace.now() + timedelta(days=2)).traces == 1


def test_kinds_of_traces_may_have_days_of_their_own(application: Path) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write("\n[privacy.keep_days_by_kind]\nembeddings = 7\nevaluator = 365\n")
    with open_workspace(application) as workspace:
        recorder = Recorder(project=workspace.application, sink=store_sink(workspace.store))
        for kind in ("request", "embeddings", "evaluator"):
            with recorder.trace(kind, kind=kind) as trace:
                trace.set(content={"question": f"A question of {kind}"})
        now = workspace.now()
        assert run_retention(workspace, now=now + timedelta(days=8)).traces == 1
        assert {row.name for row in workspace.store.traces.list().rows} == {"request", "evaluator"}
        assert run_retention(workspace, now=now + timedelta(days=91)).traces == 1
        assert [row.name for row in workspace.store.traces.list().rows] == ["evaluator"]
        # Days that are given count for every kind.
        assert run_retention(workspace, keep_days=30, now=now + timedelta(days=91)).traces == 1


def test_an_unknown_kind_is_refused(application: Path) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write("\n[privacy.keep_days_by_kind]\nchats = 7\n")
    with pytest.raises(ConfigError, match="chats"):
        open_workspace(application)
