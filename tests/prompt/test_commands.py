"""`slipway prompt` on the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main

Run = Callable[..., tuple[int, Any, str]]
BETTER = "# system\nAnswer {{ tone }} in one sentence!!\n# user\n<question>\n{{ question }}\n</question>\n"


@pytest.fixture
def command(application: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `slipway prompt …` on the application: exit code, JSON of stdout (text without --json), stderr."""
    folder = application / "prompts"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.md"):
        path.unlink()
    (folder / "answer.md").write_text("# user\n{{ question }}\n", encoding="utf-8")

    def run(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["slipway", "prompt", *words, "--dir", str(application)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, json.loads(said.out) if "--json" in words and said.out else said.out, said.err

    return run


def test_from_the_first_version_to_rolling_back(command: Run, application: Path) -> None:
    _, listed, _ = command("list", "--json")
    assert [(prompt["name"], prompt["version"]) for prompt in listed] == [("answer", 1)]
    path = application / "prompts" / "answer.md"
    path.write_text("# user\nBriefly: {{ question }}\n", encoding="utf-8")
    _, text, _ = command("diff", "answer@1", "answer")
    assert "[+Briefly: +]" in text
    _, labelled, _ = command("label", "answer@1", "approved", "--by", "jo", "--json")
    assert labelled["labels"] == ["approved"]
    _, text, _ = command("roll-back", "answer")
    assert "answer@1 is current again" in text
    assert "Briefly" not in path.read_text(encoding="utf-8")
    _, shown, _ = command("show", "answer", "--json")
    assert [version["version"] for version in shown["versions"]] == [2, 1]


def test_lint_names_faults_and_mends_the_file(command: Run, application: Path) -> None:
    path = application / "prompts" / "answer.md"
    path.write_text("---\nvariables: [question]\n---\n" + BETTER, encoding="utf-8")
    code, found, _ = command("lint", "--json")
    assert code == 1
    assert "variables" in {finding["rule"] for finding in found["findings"]["answer@1"]}
    code, found, _ = command("lint", "--fix", "--json")
    assert code == 0
    assert found["mended"]["answer"] > 0
    assert "<tone>\n{{ tone }}\n</tone>" in path.read_text(encoding="utf-8")


def test_a_trial_prints_its_matrix(command: Run, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"question": "How long?", "assert": [{"type": "contains", "value": "How"}]}\n', encoding="utf-8")
    code, text, _ = command("try", "answer", "--cases", str(cases), "--model", "echo/echo")
    assert code == 0
    assert "1 of 1" in text
    _, found, _ = command("try", "answer", "--cases", str(cases), "--model", "echo/echo", "--json")
    assert found["trial"]["columns"][0]["passed"] == 1


WRONG = [
    pytest.param(("show", "answre"), "Did you mean 'answer'", id="unknown prompt"),
    pytest.param(("try", "answer", "--cases", "none.jsonl"), "no file or folder 'none.jsonl'", id="missing file"),
    pytest.param(("label", "answer", "7"), "must not be a number", id="a label that is a number"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_input_is_one_clear_line_and_exit_code_2(command: Run, words: tuple[str, ...], message: str) -> None:
    code, _, said = command(*words)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1


def test_a_broken_file_changes_nothing(command: Run, application: Path) -> None:
    command("list")
    (application / "prompts" / "answer.md").write_text("no section", encoding="utf-8")
    code, _, said = command("list")
    assert (code, "answer.md" in said) == (2, True)
