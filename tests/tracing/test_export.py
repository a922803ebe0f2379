"""Export and import: a file of OTLP JSON lines holds everything, and taking it in twice changes nothing."""

from pathlib import Path

import pytest

from slipway.config.secrets import Secret
from slipway.domain.errors import FileBroken, FileMissing
from slipway.domain.ids import ReleaseId, SubjectId
from slipway.store.store import Store, open_store
from slipway.tracing.export import all_traces, export_file, import_file
from slipway.tracing.recorder import Recorder, store_sink


def fill(store: Store, count: int) -> None:
    recorder = Recorder(project=store.project, sink=store_sink(store))
    for number in range(count):
        with recorder.trace("answer", release=ReleaseId(f"r{number % 2}"), subject=SubjectId("anna")) as trace:
            with trace.span("chat", kind="chat", model="m", input_tokens=number) as span:
                span.set(content={"messages": [{"role": "user", "text": f"Größe {number}"}]})
            trace.set(status="abstained", content={"question": f"Größe {number}"}, verdicts={"pii": "allow"})


def test_a_file_takes_every_trace_to_another_store(store: Store, tmp_path: Path) -> None:
    fill(store, 250)
    path = tmp_path / "out" / "traces.jsonl"
    assert export_file(store, path) == 250
    assert path.stat().st_mode & 0o077 == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 250
    url = f"sqlite:///{tmp_path / 'other.db'}"
    with open_store(url, project="lamps", folder=tmp_path / "o", master_key=Secret("ab" * 32)) as other:
        done = import_file(other, path)
        assert (done.lines, done.spans, done.rejected) == (250, 500, 0)
        assert import_file(other, path).spans == 0
        assert list(all_traces(other)) == list(all_traces(store))
        assert other.traces.list(text="größe 17").rows[0].preview == "Größe 17"


def test_only_what_meets_the_filters_is_exported(store: Store, tmp_path: Path) -> None:
    fill(store, 4)
    assert export_file(store, tmp_path / "some.jsonl", release="r1") == 2


def test_wrong_files_are_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        import_file(store, tmp_path / "nowhere.jsonl")
    fill(store, 1)
    path = tmp_path / "traces.jsonl"
    export_file(store, path)
    path.write_text(path.read_text(encoding="utf-8") + "\n{broken\n", encoding="utf-8")
    with pytest.raises(FileBroken, match="line 3"):
        import_file(store, path)
