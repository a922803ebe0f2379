"""Export and import: a file of OTLP JSON lines holds everything, and taking it in twice changes nothing."""

import json
from pathlib import Path

import pytest

from slipway.config.secrets import Secret
from slipway.domain.errors import DiskFull, FileBroken, FileMissing
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


def test_a_compressed_file_and_one_that_is_cut_off(store: Store, tmp_path: Path) -> None:
    fill(store, 5)
    path = tmp_path / "traces.jsonl.gz"
    assert export_file(store, path) == 5
    assert import_file(store, path).lines == 5
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileBroken, match="after line"):
        import_file(store, path)


def test_a_file_is_there_when_it_is_whole(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slipway.tracing.export.export_lines", full)
    with pytest.raises(DiskFull):
        export_file(store, tmp_path / "traces.jsonl")
    assert [one for one in tmp_path.iterdir() if "traces" in one.name] == []


def test_what_a_collector_writes_is_taken_in(store: Store, tmp_path: Path) -> None:
    recordings = Path(__file__).parents[1] / "wire" / "captured" / "openai_v2.jsonl"
    lines = [json.dumps(json.loads(line)["body"]) for line in recordings.read_text().splitlines()]
    path = tmp_path / "collector.jsonl"
    path.write_text("\n".join([*reversed(lines), '{"resourceMetrics": []}']), encoding="utf-8")
    done = import_file(store, path)
    assert (done.lines, done.spans, done.events, done.rejected) == (3, 2, 6, 0)
    assert {row.preview for row in store.traces.list().rows} == {"What does express shipping cost?"}


def test_commands(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from slipway.cli.main import app

    (tmp_path / "slipway.toml").write_text('[application]\nname = "lamps"\n', encoding="utf-8")
    recording = Path(__file__).parents[1] / "wire" / "captured" / "traceloop.jsonl"
    lines = [json.dumps(json.loads(line)["body"]) for line in recording.read_text().splitlines()]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run = CliRunner().invoke
    there = ["--dir", str(tmp_path), "--json"]
    taken = run(app, ["watch", "import", str(tmp_path / "in.jsonl"), *there])
    assert json.loads(taken.output)["spans"] == 2
    out = tmp_path / "out.jsonl"
    written = run(app, ["watch", "export", str(out), "--query", 'model = "details"', *there])
    assert json.loads(written.output) == {"path": str(out), "traces": 2}
    assert json.loads(run(app, ["watch", "export", str(out), "--text", "nowhere", *there]).output)["traces"] == 0


def test_wrong_files_are_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        import_file(store, tmp_path / "nowhere.jsonl")
    fill(store, 1)
    path = tmp_path / "traces.jsonl"
    export_file(store, path)
    path.write_text(path.read_text(encoding="utf-8") + "\n{broken\n", encoding="utf-8")
    with pytest.raises(FileBroken, match="line 3"):
        import_file(store, path)
