"""The demo takes small documents through all eleven stages, twice, and every citation is the text of its file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.stages import STAGES

COMMAND = (sys.executable, "-m", "slipway.cli.main")
CHAPTERS = {
    "kiln.md": """\
# The kiln

## How hot does the kiln get?

The kiln reaches 1280 degrees after nine hours. The glaze melts at 1240 degrees, so the last hour decides the colour.

## When may the kiln be opened?

The kiln may be opened when it has cooled below 80 degrees. That takes about eighteen hours after firing.

## Who may load the kiln?

Only members who have taken the loading course may load the kiln. The course lasts two hours.
""",
    "clay.md": """\
# Clay

## Which clay does the workshop sell?

The workshop sells stoneware clay in blocks of ten kilograms. A block costs 18 euros for members.

## How is clay stored?

Clay is stored in the cellar, wrapped in two plastic bags. Opened blocks dry out within a week.

## Can dry clay be used again?

Dry clay can be soaked in the blue tubs for three days. After that it is kneaded and used like new clay.
""",
    "members.md": """\
# Membership

## What does a membership cost?

A membership costs 45 euros a month and includes twelve hours at the wheel. Guests pay 9 euros an hour.

## How does a membership end?

A membership ends with a letter or an e-mail four weeks before the end of a month. The key must be returned.

## Where do members park bicycles?

Bicycles are parked in the yard behind the gate. The gate is locked at ten in the evening.
""",
}


def demo(folder: Path, documents: Path) -> tuple[int, dict[str, Any], str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    done = subprocess.run(
        [*COMMAND, "demo", "--no-serve", "--json", "--dir", str(folder), "--documents", str(documents)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def write(folder: Path) -> Path:
    folder.mkdir()
    for name, text in CHAPTERS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One run over three chapters and a broken PDF: the folder of the application and what the demo printed."""
    place = tmp_path_factory.mktemp("demo")
    documents = write(place / "handbook")
    (documents / "scan.pdf").write_bytes(b"%PDF-1.7\nnothing of use")
    code, printed, errors = demo(place / "app", documents)
    assert code == 0, errors + json.dumps(printed, indent=1)
    return place / "app", printed


Run = tuple[Path, dict[str, Any]]


def test_all_eleven_stages_run_in_their_order(shown: Run) -> None:
    stages = shown[1]["stages"]
    assert list(stages) == list(STAGES)
    assert len(stages) == 11
    for stage in stages.values():
        assert stage["ok"] is True
        assert stage["seconds"] >= 0
        assert stage["summary"]
        assert "\n" not in stage["summary"]


def test_two_releases_are_cut_and_the_second_is_live(shown: Run) -> None:
    folder, printed = shown
    first, second = printed["releases"]
    assert first != second
    assert len(first) == len(second) == 64
    from slipway.release.channels import load_channel
    from slipway.workspace import open_workspace

    with open_workspace(folder) as workspace:
        assert [share.release for share in load_channel(workspace, "handbook").shares] == [second]


def test_the_releases_are_compared_on_the_same_cases(shown: Run) -> None:
    comparison = shown[1]["comparison"]
    assert comparison.keys() >= {"metric", "before", "after", "interval"}
    low, high = comparison["interval"]
    assert low <= comparison["after"] - comparison["before"] <= high
    assert comparison["after"] > comparison["before"], "the document that was missing answers its questions"


def test_the_gap_is_a_question_about_the_document_that_was_added(shown: Run) -> None:
    folder, printed = shown
    gap = printed["gap"]
    assert gap["document"] in CHAPTERS
    assert f"## {gap['question']}" in CHAPTERS[gap["document"]]
    assert (folder / "documents" / gap["document"]).read_text(encoding="utf-8") == CHAPTERS[gap["document"]]


def test_the_gate_says_what_it_checked_and_who_signed(shown: Run) -> None:
    gate = shown[1]["gate"]
    assert gate["release"] == shown[1]["releases"][1]
    assert {check["state"] for check in gate["checks"]} == {"passed"}
    assert "demo approved as owner" in json.dumps(gate)


def test_every_citation_slices_back_to_the_text_of_its_file(shown: Run) -> None:
    folder, printed = shown
    cited = [(answer, citation) for answer in printed["answers"] for citation in answer["citations"]]
    assert cited
    for _, citation in cited:
        text = (folder / "documents" / citation["document"]).read_text(encoding="utf-8")
        assert text[citation["start"] : citation["end"]] == citation["text"]
    answered = printed["answers"][0]
    assert answered["question"] == printed["gap"]["question"]
    assert printed["gap"]["document"] in {citation["document"] for citation in answered["citations"]}
    assert {answer["release"] for answer in printed["answers"]} == {printed["releases"][1]}


def test_a_question_without_an_answer_is_not_answered(shown: Run) -> None:
    silent = [answer for answer in shown[1]["answers"] if answer["abstained"]]
    assert all(answer["citations"] == [] for answer in silent)
    assert any(not answer["abstained"] for answer in shown[1]["answers"])


def test_a_broken_pdf_is_named_and_the_rest_is_used(shown: Run) -> None:
    folder, printed = shown
    (left_out,) = printed["unreadable"]
    assert "scan.pdf" in left_out
    assert sorted(path.name for path in (folder / "documents").iterdir()) == sorted(CHAPTERS)


def test_the_demo_does_not_go_over_an_application(shown: Run) -> None:
    folder, _ = shown
    before = (folder / "slipway.toml").read_bytes()
    code, printed, errors = demo(folder, folder / "documents")
    assert code == 2
    assert printed["error"]["code"] == "conflict"
    assert errors.count("\n") == 1
    assert (folder / "slipway.toml").read_bytes() == before


def test_after_the_demo_there_is_nothing_left_to_do(shown: Run) -> None:
    folder, printed = shown
    done = subprocess.run(
        [*COMMAND, "up", "--no-serve", "--json", "--dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    brought = json.loads(done.stdout)
    assert [step["name"] for step in brought["steps"] if step["changed"]] == []
    assert brought["release"] == printed["releases"][1]
    assert brought["live"] is True


def test_one_single_file_is_cut_in_two_so_that_one_half_can_be_missing(tmp_path: Path) -> None:
    file = tmp_path / "workshop.md"
    file.write_text("\n".join(CHAPTERS.values()), encoding="utf-8")
    code, printed, errors = demo(tmp_path / "app", file)
    assert code == 0, errors + json.dumps(printed["stages"], indent=1)
    assert list(printed["stages"]) == list(STAGES)
    assert printed["gap"]["document"] in {"workshop-part-1.md", "workshop-part-2.md"}
    parts = sorted((tmp_path / "app" / "documents").iterdir())
    whole = file.read_text(encoding="utf-8")
    assert len(parts) == 2
    assert all(part.read_text(encoding="utf-8").strip() in whole for part in parts)
    for answer in printed["answers"]:
        for citation in answer["citations"]:
            text = (tmp_path / "app" / "documents" / citation["document"]).read_text(encoding="utf-8")
            assert text[citation["start"] : citation["end"]] == citation["text"]


@pytest.mark.parametrize("what", ["nothing there", "an empty folder", "only a broken PDF"])
def test_documents_that_cannot_be_used_are_one_clear_line(tmp_path: Path, what: str) -> None:
    documents = tmp_path / "documents"
    if what != "nothing there":
        documents.mkdir()
    if what == "only a broken PDF":
        (documents / "scan.pdf").write_bytes(b"%PDF-1.7\nnothing of use")
    code, printed, errors = demo(tmp_path / "app", documents)
    assert code == 2
    assert printed["error"]["message"]
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "app").exists()
