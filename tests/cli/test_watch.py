"""`slipway watch` over stored traces: search, compare, replay, note, costs, traffic; and what wrong input is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slipway.cli import main as cli
from slipway.domain.ids import SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.workspace import open_workspace

Ran = Callable[..., tuple[int, str, str]]
ONE, TWO = f"{1:032x}", f"{2:032x}"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], application: Path) -> Ran:
    """Runs `slipway watch …` in an application with thirty requests: exit code, stdout and stderr."""
    with open_workspace(application) as workspace:
        build_index(workspace)
        release = cut_release(workspace)
        began = round((datetime.now(UTC) - timedelta(hours=5)).timestamp() * 1e9)
        workspace.store.traces.add(
            [
                Span(
                    trace=TraceId(f"{number:032x}"),
                    span=SpanId(f"{number:016x}"),
                    name="chat small",
                    kind="request",
                    start_ns=began + number * 60_000_000_000,
                    end_ns=began + number * 60_000_000_000 + number * 100_000_000,
                    status="error" if number % 10 == 0 else "ok",
                    release=release.id,
                    channel="lamps",
                    session=f"s{number % 3}",
                    subject=SubjectId(f"p-{number % 2}"),
                    provider="openai",
                    model="gpt-4o-mini",
                    input_tokens=1000,
                    output_tokens=100,
                    cost_micros=210,
                    content={
                        "messages": [{"role": "user", "text": f"What does lamp {number % 7} cost?"}],
                        "reply": f"It costs {number} euros.",
                    },
                )
                for number in range(1, 31)
            ]
        )

    def run(*arguments: object, group: str = "watch") -> tuple[int, str, str]:
        line = ["slipway", *([group] if group else []), *map(str, arguments), "--dir", str(application)]
        monkeypatch.setattr(sys, "argv", line)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else int(code is not None)), out, err

    return run


def told(ran: tuple[int, str, str]) -> Any:
    code, out, err = ran
    assert code == 0, err
    return json.loads(out)


def test_a_filter_chooses_traces_in_every_door(watch: Ran) -> None:
    found = told(watch("traces", "lamp", "--filter", "latency > 2.5s and not status = error", "--json"))
    assert [int(row["id"], 16) for row in found["traces"]] == [29, 28, 27, 26]
    code, _, err = watch("traces", "--filter", "latncy > 2s")
    assert code == 2
    assert "character 1" in err
    assert "Did you mean 'latency'?" in err
    assert len(err.strip().splitlines()) == 1


def test_fields_are_listed(watch: Ran) -> None:
    found = told((0, watch_fields(), ""))
    assert {"latency", "cost", "span.kind", "verdict.RAIL"} <= {field["field"] for field in found["fields"]}


def watch_fields() -> str:
    from typer.testing import CliRunner

    return CliRunner().invoke(cli.app, ["watch", "fields", "--json"]).stdout


def test_sessions_and_people_are_listed_and_paged(watch: Ran) -> None:
    assert [group["key"] for group in told(watch("users", "--json"))["groups"]] == ["p-0", "p-1"]
    first = told(watch("sessions", "--limit", 2, "--json"))
    second = told(watch("sessions", "--limit", 2, "--after", first["next"], "--json"))
    assert [group["key"] for group in first["groups"] + second["groups"]] == ["s0", "s2", "s1"]
    assert "s0" in watch("sessions")[1]


def test_two_traces_are_compared(watch: Ran) -> None:
    compared = told(watch("diff", ONE, TWO, "--json"))
    assert next(one for one in compared["figures"] if one["name"] == "latency")["before"] == 0.1
    _, out, _ = watch("diff", ONE, TWO)
    assert "It costs [-1-]{+2+} euros." in out
    assert watch("diff", ONE, "ab" * 16)[0] == 2


def test_a_trace_is_replayed(watch: Ran) -> None:
    made = told(watch("replay", ONE, "--json"))["trace"]
    assert told(watch("trace", made, "--json"))["spans"][0]["channel"] == "replay"
    assert watch("replay", ONE, "--release", "nothing")[0] == 2


def test_a_note_is_kept_and_found(watch: Ran) -> None:
    kept = told(watch("note", ONE, "Not like this.", "--thumbs", "down", "--name", "tone", "--json"))
    assert (kept["score"], kept["name"]) == (-1.0, "tone")
    found = told(watch("traces", "--filter", "score.tone < 0", "--json"))
    assert [row["id"] for row in found["traces"]] == [ONE]
    assert watch("note", ONE, "--thumbs", "sideways")[0] == 2


def test_the_tail_ends_after_what_was_asked_for(watch: Ran, monkeypatch: pytest.MonkeyPatch, application: Path) -> None:
    def arrive(_: float) -> None:
        with open_workspace(application) as workspace:
            old = workspace.store.traces.get(ONE).root
            workspace.store.traces.add(
                [
                    Span(trace=TraceId("ab" * 16), span=SpanId("cd" * 8), name="new", start_ns=old.start_ns + 1,
                         end_ns=old.end_ns + 1, status="ok")
                ]
            )  # fmt: skip

    monkeypatch.setattr("slipway.watch.tail.follow.__kwdefaults__", {"sleep": arrive})
    code, out, _ = watch("tail", "--filter", "status = ok", "--count", 1, "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["ab" * 16]


def test_costs_are_taken_apart(watch: Ran) -> None:
    costs = told(watch("costs", "--json"))
    assert (costs["requests"], costs["cost_micros"], costs["users"]) == (30, 30 * 210, 2)
    # Seven different questions in 27 calls that did not fail.
    assert (costs["repeats"]["looked_at"], costs["repeats"]["repeated"]) == (27, 20)
    assert costs["repeats"]["saved_micros"] == 20 * 210
    assert "would have saved" in watch("costs")[1]


def test_traffic_becomes_a_demand(watch: Ran, application: Path, tmp_path: Path) -> None:
    shape = told(watch("traffic", "--csv", tmp_path / "traffic.csv", "--json"))
    assert (shape["requests"], shape["input_tokens"]) == (30, 1000)
    assert len((tmp_path / "traffic.csv").read_text(encoding="utf-8").splitlines()) == 31
    decided = told(watch("run", "--traces", "--json", group="decide"))
    assert decided["demand"]["input_tokens"] == 1000
    planned = told(watch("plan", "--model", "llama-3.1-8b", "--from-traces", "7d", "--json", group="deploy"))
    assert planned["demand"]["output_tokens"] == 100
    assert "input_tokens = 1200" in (application / "slipway.toml").read_text(encoding="utf-8")
    code, out, _ = watch("traffic", "--write")
    assert code == 0
    assert "slipway decide run" in out
    assert "input_tokens = 1000" in (application / "slipway.toml").read_text(encoding="utf-8")
    code, _, err = watch("traffic", "--since", "1m")
    assert code == 2
    assert "a demand needs 20" in err
