"""Datasets have immutable versions, and copies of traces know where they come from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.domain.dataset import Case, Dataset
from slipway.domain.errors import DatasetEmpty, DatasetRowInvalid, NameInvalid, NotFound
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SubjectId, TraceId, new_id
from slipway.domain.release import Release
from slipway.evaluate.dataset import (
    dataset_from_traces,
    default_dataset,
    import_dataset,
    list_datasets,
    load_dataset,
    save_cases,
)
from slipway.evaluate.runner import evaluate
from slipway.release.pipeline import answer
from slipway.workspace import Workspace

OpenWith = Callable[..., tuple[Workspace, Release]]


def test_the_same_file_is_the_same_version_and_a_changed_one_the_next(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl"
    path.write_text('{"id": "a", "question": "Why?", "expected": "so"}\n', encoding="utf-8")
    first = import_dataset(workspace, "faq", path)
    assert import_dataset(workspace, "faq", path) == first
    path.write_text('{"id": "a", "question": "Why?", "expected": "because"}\n', encoding="utf-8")
    second = import_dataset(workspace, "faq", path)
    assert (first.version, second.version) == (1, 2)
    assert first.hash != second.hash
    assert load_dataset(workspace, "faq") == second
    assert load_dataset(workspace, "faq@1") == first
    assert [dataset.version for dataset in list_datasets(workspace)] == [2, 1]


def test_a_wrong_row_imports_nothing(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl"
    path.write_text('{"question": "Why?"}\n{"question": 3}\n', encoding="utf-8")
    with pytest.raises(DatasetRowInvalid, match="line 2"):
        import_dataset(workspace, "faq", path)
    assert list_datasets(workspace) == []


def test_names_are_checked_and_near_ones_offered(workspace: Workspace) -> None:
    save_cases(workspace, "faq", [Case(id="a", question="Why?")], source="test")
    with pytest.raises(NameInvalid):
        save_cases(workspace, "My FAQ", [Case(id="a", question="Why?")], source="test")
    with pytest.raises(NotFound, match="Did you mean 'faq'"):
        load_dataset(workspace, "fag")
    with pytest.raises(NotFound):
        load_dataset(workspace, "faq@7")


def test_the_own_questions_are_the_default(workspace: Workspace) -> None:
    dataset = default_dataset(workspace)
    assert (dataset.name, len(dataset.cases), dataset.made) == ("questions", 4, False)
    assert default_dataset(workspace) == dataset


def test_without_a_file_questions_are_made_from_the_documents(application: Path) -> None:
    from slipway.workspace import open_workspace

    settings = application / "slipway.toml"
    text = settings.read_text(encoding="utf-8").replace('questions = "questions.jsonl"\n', "")
    settings.write_text(text, encoding="utf-8")
    with open_workspace(application) as workspace:
        dataset = default_dataset(workspace)
        assert dataset.made
        assert dataset.cases
        assert default_dataset(workspace) == dataset


async def traffic(workspace: Workspace, release: Release) -> dict[str, TraceId]:
    """Three questions of users: praised, corrected, left alone; one of them by a known person."""
    questions = {
        "praised": "Within how many days can I return a parcel?",
        "corrected": "What does express shipping cost?",
        "plain": "How long is the warranty of a lamp?",
    }
    traces = {
        name: (
            await answer(
                release, question, workspace=workspace, subject=SubjectId("s-1") if name == "praised" else None
            )
        ).trace
        for name, question in questions.items()
    }
    voices = [
        Feedback(id=new_id(), trace=traces["praised"], score=1, subject=SubjectId("s-1"), created_at=workspace.now()),
        Feedback(
            id=new_id(), trace=traces["corrected"], score=-1, correction="12.50 euros", created_at=workspace.now()
        ),
    ]
    for voice in voices:
        workspace.store.records.save(voice)
    return traces


async def test_traffic_becomes_cases_with_what_people_said(open_with: OpenWith) -> None:
    workspace, release = open_with()
    traces = await traffic(workspace, release)
    await evaluate(workspace, release)
    dataset = dataset_from_traces(workspace, "traffic")
    by_id = {case.id: case for case in dataset.cases}
    assert len(by_id) == 3, "the questions of evaluations are not collected"
    praised = by_id[f"trace-{traces['praised'][:16]}"]
    assert (praised.answerable, praised.subject) == (True, "s-1")
    assert "30 days" in praised.expected
    assert len(praised.documents) == 1
    assert by_id[f"trace-{traces['corrected'][:16]}"].expected == "12.50 euros"
    plain = by_id[f"trace-{traces['plain'][:16]}"]
    assert (plain.expected, plain.answerable) == ("", None)
    assert dataset_from_traces(workspace, "traffic") == dataset


SAID = [
    pytest.param("good", {"praised"}, id="praised only"),
    pytest.param("bad", {"corrected"}, id="complaints only"),
]


@pytest.mark.parametrize(("said", "names"), SAID)
async def test_feedback_chooses_the_traces(open_with: OpenWith, said: str, names: set[str]) -> None:
    workspace, release = open_with()
    traces = await traffic(workspace, release)
    dataset = dataset_from_traces(workspace, "chosen", said=said, release=release.id)
    assert {case.id for case in dataset.cases} == {f"trace-{traces[name][:16]}" for name in names}


async def test_a_dataset_grows_and_its_lineage_leads_to_the_traces(open_with: OpenWith) -> None:
    workspace, release = open_with()
    save_cases(workspace, "mixed", [Case(id="own", question="Why?")], source="test")
    traces = await traffic(workspace, release)
    dataset = dataset_from_traces(workspace, "mixed", said="good")
    assert dataset.cases[0].id == "own"
    assert dataset.version == 2
    edges = workspace.store.lineage.descendants([("trace", traces["praised"])])
    assert ("dataset", "mixed@2") in {edge.child for edge in edges}

    workspace.store.keys.erase("s-1")
    kept = workspace.store.records.get(Dataset, "mixed@2")
    assert [case.id for case in kept.cases] == ["own"], "the person's question went with the key"


async def test_no_fitting_trace_says_so(open_with: OpenWith) -> None:
    workspace, _ = open_with()
    with pytest.raises(DatasetEmpty, match="slipway watch traces"):
        dataset_from_traces(workspace, "none")
    assert list_datasets(workspace) == []
