"""`slipway evaluate` on the command line: one clear line for what goes wrong, nothing half-done."""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from slipway.domain.release import Release
from slipway.workspace import Workspace

OpenWith = Callable[..., tuple[Workspace, Release]]
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def command(application: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `slipway evaluate …` on the application: exit code, JSON of stdout (text without --json), stderr."""

    def run(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["slipway", "evaluate", *words, "--dir", str(application)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, json.loads(said.out) if "--json" in words and said.out else said.out, said.err

    return run


def test_a_file_is_imported_listed_and_run(open_with: OpenWith, command: Run, tmp_path: Path) -> None:
    _, release = open_with()
    file = tmp_path / "faq.csv"
    file.write_text("id,question,expected\na,How long is the warranty of a lamp?,five years\n", encoding="utf-8")
    code, dataset, _ = command("import", "faq", str(file), "--json")
    assert (code, dataset["version"], dataset["cases"][0]["expected"]) == (0, 1, "five years")
    _, listed, _ = command("datasets", "--json")
    assert [(item["name"], item["source"]) for item in listed] == [("faq", "faq.csv")]

    code, ran, _ = command("run", release.label, "--suite", "quality", "--dataset", "faq", "--json")
    assert code == 0
    assert ran[0]["headline"] == "quality"
    assert ran[0]["results"][0]["answer"].startswith("Every lamp")
    code, shown, _ = command("show", ran[0]["id"][:10], "--json")
    assert (code, shown) == (0, ran[0])
    _, text, _ = command("show", ran[0]["id"])
    assert "quality: 1 cases of faq@1" in text
    _, all_runs, _ = command("list", "--json")
    assert [item["id"] for item in all_runs] == [ran[0]["id"]]


def test_the_report_is_text_json_and_one_file(open_with: OpenWith, command: Run, tmp_path: Path) -> None:
    _, release = open_with(script={"warranty": "Nine years."})
    command("run", "--suite", "quality", "--json")
    code, text, _ = command("report")
    assert code == 0
    assert text.startswith(release.label)
    assert "medium" in text
    assert f"never run: bias (slipway evaluate run {release.label} --suite bias)" in text
    _, card, _ = command("report", "--json")
    assert card["missing"] == ["bias", "safety", "speed"]
    page = tmp_path / "scorecard.html"
    code, told, _ = command("report", "--html", str(page))
    assert (code, told.strip()) == (0, f"The scorecard of {release.label} is in {page}.")
    html = page.read_text(encoding="utf-8")
    assert "Nine years." in html
    assert "<script" not in html


def test_two_releases_are_compared(open_with: OpenWith, command: Run) -> None:
    _, before = open_with("first", script={"dog": "Rex."})
    command("run", before.label, "--suite", "quality", "--json")
    _, after = open_with("second")
    command("run", after.label, "--suite", "quality", "--json")
    code, found, _ = command("compare", before.label, after.label, "--json")
    assert (code, found["n"], found["wins"]) == (0, 4, 4)
    _, text, _ = command("compare", before.label, after.label)
    assert "no clear difference" in text
    assert "4 better, 0 worse, 0 alike of 4 cases of questions@1" in text


def test_suites_and_metrics_say_what_they_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["slipway", "evaluate", "suites", "--json"])
    with pytest.raises(SystemExit):
        main()
    found = json.loads(capsys.readouterr().out)
    assert set(found["suites"]) == {"quality", "bias", "safety", "speed"}
    assert "context_overlap" in found["metrics"]
    assert all(about.endswith(".") for names in found.values() for about in names.values())


WRONG = [
    pytest.param(("run", "--suite", "qualty"), 2, "Did you mean 'quality'", id="unknown suite"),
    pytest.param(("run", "lamps@9"), 2, "no release 'lamps@9'", id="unknown release"),
    pytest.param(("run", "--dataset", "none"), 2, "no dataset 'none'", id="unknown dataset"),
    pytest.param(("import", "faq", "nowhere.jsonl"), 2, "no file or folder 'nowhere.jsonl'", id="missing file"),
    pytest.param(("show", "abcdefgh"), 2, "slipway evaluate list", id="unknown evaluation"),
    pytest.param(("compare", "lamps@1", "lamps@1"), 2, "was never evaluated", id="nothing to compare"),
    pytest.param(("collect", "traffic"), 2, "holds no questions", id="no traffic"),
]


@pytest.mark.parametrize(("words", "code", "reason"), WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2(
    open_with: OpenWith, command: Run, words: tuple[str, ...], code: int, reason: str
) -> None:
    open_with()
    ended, out, err = command(*words)
    assert (ended, out) == (code, "")
    assert reason in err
    assert err.count("\n") == 1


def test_a_wrong_line_is_named_and_nothing_imported(open_with: OpenWith, command: Run, tmp_path: Path) -> None:
    open_with()
    file = tmp_path / "faq.jsonl"
    file.write_text('{"question": "Why?"}\n{"question": "How?", "expcted": "so"}\n', encoding="utf-8")
    code, _, err = command("import", "faq", str(file))
    assert code == 2
    assert "line 2: unknown field 'expcted'. Did you mean 'expected'?" in err
    assert command("datasets", "--json")[1] == []


def test_a_dead_upstream_is_one_line_with_exit_code_1(open_with: OpenWith, command: Run, free_port: int) -> None:
    open_with("mine", kind="openai", base_url=f"http://127.0.0.1:{free_port}/v1")
    code, out, err = command("run", "--suite", "quality")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert f"127.0.0.1:{free_port}" in err
    assert "0 of 4 cases are finished and kept" in err
    assert command("list", "--json")[1] == []


@pytest.fixture
def free_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
