"""Parquet: a file a day that holds every span as it was stored, and content only when it is asked for."""

import json
import stat
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.errors import PackageMissing
from slipway.domain.ids import ReleaseId, SubjectId, new_span_id, new_trace_id
from slipway.domain.trace import Span
from slipway.store.store import Store
from slipway.tracing.parquet import export_days
from slipway.workspace import open_workspace

MONDAY = date(2026, 11, 23)


@pytest.fixture
def pq() -> Any:
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'slipway[analytics]'")


def a_span(day: int, **fields: Any) -> Span:
    start = int(datetime(2026, 11, day, 12, tzinfo=UTC).timestamp()) * 10**9
    defaults: dict[str, Any] = {"name": "chat", "kind": "chat", "status": "ok", "model": "m", "input_tokens": 3}
    return Span(
        **{"trace": new_trace_id(), "span": new_span_id(), "start_ns": start, "end_ns": start + 5, **defaults, **fields}
    )


def test_every_span_is_in_the_file_of_its_day(store: Store, tmp_path: Path, pq: Any) -> None:
    root = a_span(23, kind="request", release=ReleaseId("r1"), subject=SubjectId("anna"), content={"question": "Hi"})
    call = a_span(23, trace=root.trace, parent=root.span, cost_micros=7, verdicts={"pii": "allow"}, first_token_ns=2)
    store.traces.add([root, call, *(a_span(25) for _ in range(1500))])
    written = export_days(store, tmp_path / "out", since=MONDAY, until=date(2026, 11, 26))
    assert [(file.path.name, file.spans) for file in written] == [
        ("spans-2026-11-23.parquet", 2),
        ("spans-2026-11-25.parquet", 1500),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [file.path.name for file in written]
    assert stat.S_IMODE(written[0].path.stat().st_mode) == 0o600
    rows = {row["span"]: row for row in pq.read_table(written[0].path).to_pylist()}
    assert rows.keys() == {root.span, call.span}
    row = rows[call.span]
    assert (row["trace"], row["parent"], row["release"], row["subject"]) == (root.trace, root.span, "r1", "anna")
    assert (row["cost_micros"], row["input_tokens"], row["first_token_ns"], row["verdicts"]) == (
        7,
        3,
        2,
        '{"pii":"allow"}',
    )
    assert row["start"].date() == MONDAY
    assert "content" not in row
    assert len({row["span"] for row in pq.read_table(written[1].path).to_pylist()}) == 1500


def test_content_is_written_when_it_is_asked_for(store: Store, tmp_path: Path, pq: Any) -> None:
    spans = [a_span(23, content={"question": f"Hello {n}"}, subject=SubjectId("anna") if n else None) for n in (0, 1)]
    store.traces.add([*spans, a_span(23)])
    store.keys.erase("anna")
    (file,) = export_days(store, tmp_path, since=MONDAY, until=MONDAY, content=True)
    said = {row["span"]: row["content"] for row in pq.read_table(file.path).to_pylist()}
    assert said[spans[0].span] == '{"question":"Hello 0"}'
    assert said[spans[1].span] is None


def test_the_command_writes_files_and_says_which(application: Path, tmp_path: Path, pq: Any) -> None:
    with open_workspace(application) as workspace:
        now = time.time_ns()
        workspace.store.traces.add([replace(a_span(23), start_ns=now, end_ns=now)])
    ran = CliRunner().invoke(app, ["watch", "parquet", str(tmp_path / "out"), "--dir", str(application), "--json"])
    assert ran.exit_code == 0, ran.output
    (file,) = json.loads(ran.output)["files"]
    assert file["spans"] == 1
    assert pq.read_table(file["path"]).num_rows == 1


def test_without_the_package_the_pip_line_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PackageMissing, match=r"pip install 'slipway\[analytics\]'"):
        export_days(store, tmp_path / "out", since=MONDAY, until=MONDAY)
    assert not (tmp_path / "out").exists()
