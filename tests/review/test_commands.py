"""`slipway review` on the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from slipway.domain.release import Release
from slipway.workspace import Workspace

Evaluated = tuple[Workspace, Release]
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def command(application: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `slipway review …` on the application: exit code, JSON of stdout (text without --json), stderr."""

    def run(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["slipway", "review", *words, "--dir", str(application)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, json.loads(said.out) if "--json" in words and said.out else said.out, said.err

    return run


def test_from_the_queue_to_the_agreement(evaluated: Evaluated, command: Run) -> None:
    _, items, _ = command("queue", "--json")
    assert len(items) == 3
    _, first, _ = command("next", "--reviewer", "ada", "--json")
    assert first["id"] == items[0]["id"]
    code, review, _ = command("rate", first["id"][:12], "2", "--reviewer", "ada", "--background", "support", "--json")
    assert (code, review["rating"]) == (0, 2)
    _, text, _ = command("rate", items[1]["id"], "5", "--reviewer", "ada")
    assert "1 more wait" in text
    command("rate", items[0]["id"], "1", "--reviewer", "ben")
    command("rate", items[1]["id"], "4", "--reviewer", "ben")
    _, agreement, _ = command("agreement", "--json")
    assert (agreement["reviews"], agreement["shared_items"]) == (4, 2)
    _, text, _ = command("agreement")
    assert "ada and ben: kappa" in text
    _, text, _ = command("undo", "--reviewer", "ben")
    assert text.startswith("The 4 that ben gave")
    _, waiting, _ = command("list", "--reviewer", "ben", "--json")
    assert items[1]["id"] in {item["id"] for item in waiting}


def test_roles_sign_and_dissent_is_listed(evaluated: Evaluated, command: Run) -> None:
    _, release = evaluated
    code, _, _ = command("sign", release.label, "--role", "legal", "--person", "Ben", "--reject", "--note", "too vague")
    assert code == 0
    _, text, _ = command("sign", release.label, "--role", "legal", "--person", "Cleo")
    assert text.strip() == f"Cleo approved {release.label} as legal."
    _, signed, _ = command("signoffs", "--json")
    assert [(word["person"], word["decision"]) for word in signed] == [("Cleo", "approve"), ("Ben", "reject")]


WRONG = [
    pytest.param(("sign", "lamps@1", "--role", "boss", "--person", "Ada"), "does not name 'boss'", id="unknown role"),
    pytest.param(("sign", "lamps@1", "--role", "legal", "--person", "B", "--reject"), "--note", id="silent rejection"),
    pytest.param(("rate", "zzzzzzzz", "3", "--reviewer", "ada"), "slipway review list", id="unknown item"),
    pytest.param(("undo", "--reviewer", "ada"), "slipway review rate", id="nothing to undo"),
]


@pytest.mark.parametrize(("words", "reason"), WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2(
    evaluated: Evaluated, command: Run, words: tuple[str, ...], reason: str
) -> None:
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert reason in err
    assert err.count("\n") == 1


def test_a_rating_out_of_range_is_refused(evaluated: Evaluated, command: Run) -> None:
    _, items, _ = command("queue", "--json")
    code, _, err = command("rate", items[0]["id"], "7", "--reviewer", "ada")
    assert code == 2
    assert "from 1 (bad) to 5 (good)" in err
