"""Erasing a person: what the person said is in no file any more, and the report names everything that held it."""

import json
import secrets
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.access.audit import verify_audit
from slipway.domain.dataset import Case, Dataset
from slipway.domain.errors import ContentErased, ErasureBusy
from slipway.domain.feedback import Draft, Feedback, Finding
from slipway.domain.ids import SubjectId, TraceId, hash_text
from slipway.domain.index import Index
from slipway.domain.privacy import ErasureReport
from slipway.domain.prompt import Example, Prompt
from slipway.domain.review import ReviewItem
from slipway.jobs.queue import enqueue
from slipway.privacy.erasure import erase_subject
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.store.journal import Journal, only_reader
from slipway.tracing.ingest import drain
from slipway.tracing.recorder import Recorder, store_sink
from slipway.workspace import Workspace, open_workspace

Ask = Callable[..., TraceId]
ANNA = SubjectId("user-7c1f-anna")
BERT = SubjectId("user-90aa-bert")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def canary() -> str:
    """A word that occurs nowhere else, so that every byte of it can be found."""
    return f"canary{secrets.token_hex(8)}"


def files_with(folder: Path, text: str) -> list[str]:
    # A text index stores of each word only what differs from the word before it: the end is always there.
    wanted = text[-12:].encode()
    return [path.name for path in sorted(folder.rglob("*")) if path.is_file() and wanted in path.read_bytes()]


def states(report: ErasureReport) -> dict[tuple[str, str], str]:
    return {(node.kind, node.id.split("#")[0]): node.state for node in report.nodes}


def a_finding(id: str, trace: TraceId, *, subject: SubjectId | None, questions: tuple[str, ...]) -> Finding:
    return Finding(
        id=id,
        kind="gap",
        title="Nobody knows",
        detail=f"People ask: {questions[0]}",
        route="knowledge",
        traces=(trace,),
        questions=questions,
        subject=subject,
        created_at=NOON,
    )


def test_no_word_of_the_person_is_left_in_any_file(workspace: Workspace, ask: Ask, journal: Journal) -> None:
    store, records = workspace.store, workspace.store.records
    words = {
        name: canary()
        for name in (
            "question",
            "answer",
            "feedback",
            "case",
            "expected",
            "finding",
            "draft",
            "example",
            "review",
            "job",
            "late",
        )
    }

    def said(name: str) -> str:
        return f"My parcel {words[name]} never arrived"

    first = ask(ANNA, said("question"), f"Dear customer, {words['answer']} is on its way.")
    drain(store)
    # Still in the journal of a running gateway when the erasure begins.
    second = ask(ANNA, said("late"), f"Dear customer, {words['answer']} will come.")
    other = ask(BERT, "How long is the warranty of a lamp?", "Five years.")
    feedback = Feedback(id="fb", trace=first, score=-1, comment=said("feedback"), subject=ANNA, created_at=NOON)
    records.save(feedback, parents=[("trace", first)])
    cases = (
        Case(id="bert", question="How long is the warranty of a lamp?", expected="Five years."),
        Case(id="anna", question=said("case"), expected=words["expected"] * 2, subject=ANNA),
    )
    dataset = Dataset(name="kept", version=1, hash=hash_text("1"), cases=cases, source="traces", created_at=NOON)
    records.save(dataset, parents=[("trace", first), ("trace", other)])
    mixed = a_finding("mixed", first, subject=None, questions=(said("question"), "How long is the warranty of a lamp?"))
    records.save(mixed, parents=[("trace", first), ("trace", other)])
    hers = a_finding("hers", first, subject=ANNA, questions=(said("finding"),))
    records.save(hers, parents=[("trace", first)])
    draft = Draft(
        id="d",
        finding="mixed",
        route="knowledge",
        title="New page",
        path="documents/new.md",
        text=f"# {said('question')}\n\nIt arrives tomorrow.",
        created_at=NOON,
    )
    records.save(draft, parents=[("finding", "mixed")])
    prompt = Prompt(
        name="answer",
        version=1,
        hash=hash_text("p"),
        system="Answer.",
        user="{{ question }}",
        examples=(Example(input=said("question"), output="Yes."), Example(input="Hello", output="Hi.")),
        created_at=NOON,
    )
    records.save(prompt, parents=[("trace", first)])
    item = ReviewItem(
        id="ri",
        release=first,
        question=said("review"),
        answer="No.",
        subject=ANNA,
        created_at=NOON,  # type: ignore[arg-type]
    )
    records.save(item, parents=[("trace", first)])
    job = enqueue(store, "score", {"text": said("job")}, subject=ANNA)

    report = erase_subject(workspace, ANNA)

    found = states(report)
    for thing in [
        ("trace", first),
        ("trace", second),
        ("feedback", "fb"),
        ("dataset", "kept@1"),
        ("finding", "hers"),
        ("review_item", "ri"),
        ("job", job),
    ]:
        assert found[thing] == "erased", thing
    for thing in [("finding", "mixed"), ("draft", "d"), ("prompt", "answer@1")]:
        assert found[thing] == "rewritten", thing
    assert report.remains == ()
    assert report.keys == 1
    for name, word in words.items():
        assert files_with(workspace.state, word) == [], name
    assert files_with(workspace.state, ANNA) == []

    # What others said is still there.
    assert store.traces.get(other).root.content["question"] == "How long is the warranty of a lamp?"
    assert [case.id for case in records.get(Dataset, "kept@1").cases] == ["bert"]
    assert records.get(Finding, "mixed").questions == ("How long is the warranty of a lamp?",)
    assert records.get(Prompt, "answer@1").examples == (Example(input="Hello", output="Hi."),)
    assert "[erased]" in records.get(Draft, "d").text
    for id in (first, second):
        with pytest.raises(ContentErased):
            store.traces.get(id)
    with pytest.raises(ContentErased):
        records.get(Feedback, "fb")
    assert store.traces.subjects() == [BERT]
    # Numbers stay, and the gateway goes on.
    points = store.traces.series(since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC))
    assert sum(point.count for point in points) == 3
    again = ask(ANNA, "Hello again, it is me")
    drain(store)
    assert store.traces.get(again).root.content["question"] == "Hello again, it is me"


def test_the_report_names_nobody_and_is_kept(workspace: Workspace, ask: Ask) -> None:
    ask(ANNA, "Where is my parcel with the lamp?")
    report = erase_subject(workspace, ANNA)
    assert ANNA not in json.dumps([report.person, *(str(node) for node in report.nodes)])
    assert workspace.store.records.get(ErasureReport, report.id) == report
    (event,) = workspace.store.audit.events(newest_first=True, limit=1)
    assert (event.action, event.thing, event.detail["erased"]) == ("privacy.erase", report.person, "1")
    assert verify_audit(workspace.store).intact
    assert report.counts == {"erased": 1}
    assert report.complete


def test_the_same_words_that_nobody_copied_are_named_but_stay(workspace: Workspace, ask: Ask) -> None:
    question = "Within how many days can I return a parcel?"
    ask(ANNA, question)
    case = Case(id="1", question=question)
    dataset = Dataset(name="own", version=1, hash=hash_text("1"), cases=(case,), source="file", created_at=NOON)
    workspace.store.records.save(dataset)
    report = erase_subject(workspace, ANNA)
    assert states(report)["dataset", "own@1"] == "found"
    assert states(report)["file", "questions.jsonl"] == "outside"
    assert not report.complete
    assert workspace.store.records.get(Dataset, "own@1").cases == (case,)


def test_everywhere_rewrites_them_too(workspace: Workspace, ask: Ask) -> None:
    ask(ANNA, "The wine-red lamp of my late aunt")
    case = Case(id="1", question="The wine-red lamp of my late aunt")
    dataset = Dataset(name="own", version=1, hash=hash_text("1"), cases=(case,), source="file", created_at=NOON)
    workspace.store.records.save(dataset)
    report = erase_subject(workspace, ANNA, everywhere=True)
    assert states(report)["dataset", "own@1"] == "rewritten"
    assert workspace.store.records.get(Dataset, "own@1").cases == ()


def test_a_copy_that_holds_nothing_of_the_person_is_checked(workspace: Workspace, ask: Ask) -> None:
    trace = ask(ANNA, "Where is my parcel with the lamp?")
    finding = a_finding("f", trace, subject=None, questions=("How long is the warranty of a lamp?",))
    workspace.store.records.save(finding, parents=[("trace", trace)])
    report = erase_subject(workspace, ANNA)
    assert states(report)["finding", "f"] == "checked"
    assert workspace.store.records.get(Finding, "f") == finding


def test_documents_about_the_person_leave_index_answers_and_caches(workspace: Workspace, ask: Ask) -> None:
    word = canary()
    text = f"""
        ---
        subject: {ANNA}
        ---
        # The case of a customer

        The customer with the number {word} had a broken lamp and got a new one in spring.
        """
    source = workspace.folder / "documents" / "case.md"
    source.write_text(textwrap.dedent(text).strip() + "\n", encoding="utf-8")
    index = build_index(workspace)
    release = cut_release(workspace)
    assert files_with(workspace.state, word) != []
    passage = f"The customer with the number {word} had a broken lamp and got a new one in spring."
    passages = [
        {"document": "case.md", "text": passage},
        {"document": "returns.md", "text": "You can return a parcel within 30 days after delivery."},
    ]
    citations = [{"document": "case.md", "start": 0, "end": 10, "text": f"number {word} had a broken lamp"}]
    trace = ask(BERT, "Who had a broken lamp?", f"It was number {word}.", passages=passages, citations=citations)

    report = erase_subject(workspace, ANNA)

    found = states(report)
    assert found["index version", f"documents@{index.version}"] == "erased"
    assert found["document", str(source)] == "outside"
    assert found["release", release.label] == "outside"
    assert found["trace", trace] == "rewritten"
    assert found["index", f"documents@{index.version}"] == "rewritten"
    assert report.remains == ()
    assert files_with(workspace.state, word) == []
    spans = workspace.store.traces.get(trace).spans
    assert spans[0].content["question"] == "Who had a broken lamp?"
    assert spans[0].content["answer"] == "[erased]"
    assert spans[1].content["passages"] == [passages[1]]
    # Without its source, the index is built anew from the rest.
    source.unlink()
    rebuilt = build_index(workspace)
    assert rebuilt.version == index.version + 1
    assert "case.md" not in [entry.id for entry in rebuilt.documents]
    assert [entry.id for entry in workspace.store.records.get(Index, f"documents@{index.version}").documents] == [
        entry.id for entry in rebuilt.documents
    ]


def test_a_person_of_whom_nothing_is_kept(workspace: Workspace, ask: Ask) -> None:
    ask(BERT, "How long is the warranty of a lamp?")
    report = erase_subject(workspace, SubjectId("nobody"))
    assert (report.nodes, report.keys) == ((), 0)
    assert workspace.store.traces.count() == 1


def test_short_words_of_a_person_do_not_erase_everybody_elses(workspace: Workspace, ask: Ask) -> None:
    ask(ANNA, "lamp", "Yes.")
    other = ask(BERT, "Is there a lamp?", "Yes.")
    report = erase_subject(workspace, ANNA)
    assert report.counts == {"erased": 1}
    assert workspace.store.traces.get(other).root.content["answer"] == "Yes."


def test_while_another_process_reads_the_journal_nothing_is_erased(
    workspace: Workspace, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = ask(ANNA, "Where is my parcel with the lamp?")
    monkeypatch.setattr("slipway.privacy.erasure.WAIT_S", 0.05)
    with only_reader(workspace.store.journal_folder), pytest.raises(ErasureBusy):
        erase_subject(workspace, ANNA)
    drain(workspace.store)
    assert workspace.store.traces.get(trace).root.subject == ANNA


def test_an_erased_person_stays_erased_when_the_store_is_opened_again(application: Path) -> None:
    with open_workspace(application) as opened:
        feedback = Feedback(id="f", trace=TraceId("t"), score=1, comment="mine", subject=ANNA, created_at=NOON)
        opened.store.records.save(feedback)
        erase_subject(opened, ANNA)
    with open_workspace(application) as opened, pytest.raises(ContentErased):
        opened.store.records.get(Feedback, "f")


def test_on_postgres_nothing_is_left_in_any_table(application: Path, postgres_url: str) -> None:
    word = canary()
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[store]\nurl = "{postgres_url}"\n')
    with open_workspace(application) as workspace:
        recorder = Recorder(project=workspace.application, sink=store_sink(workspace.store))
        for subject in (ANNA, BERT):
            with recorder.trace("answer", subject=subject, session=f"session of {subject}") as trace:
                trace.set(content={"question": f"Where is my parcel {word if subject == ANNA else ''}?"})
        assert workspace.store.traces.count(text=word) == 1
        report = erase_subject(workspace, ANNA)
        assert report.counts == {"erased": 1}
        # What is left to the server is told.
        assert report.remains == ()
        (note,) = report.notes
        assert "write-ahead log" in note
        assert workspace.store.traces.count(text=word) == 0
        assert workspace.store.traces.count(text="parcel") == 1
        with workspace.store.database.reading() as connection:
            tables = connection.exec_driver_sql("select tablename from pg_tables where schemaname = 'public'").scalars()
            for table in tables.all():
                rows = connection.exec_driver_sql(f"select cast({table} as text) from {table}").scalars().all()
                assert not any(word in row or ANNA in row for row in rows), table


def test_a_file_that_still_holds_the_words_is_reported(workspace: Workspace, ask: Ask) -> None:
    ask(ANNA, "The wine-red lamp of my late aunt")
    (workspace.state / "stray.log").write_text("asked: The wine-red lamp of my late aunt\n", encoding="utf-8")
    report = erase_subject(workspace, ANNA)
    assert report.remains == (".slipway/stray.log still holds words of the person",)
    assert not report.complete
