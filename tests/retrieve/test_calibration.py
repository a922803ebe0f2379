"""Calibration on own questions: the stated rate of false alarms holds, and every door tells the same decision."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.dataset import Case
from slipway.domain.document import Document
from slipway.domain.errors import DatasetEmpty, DatasetRowInvalid, FileMissing, InputError
from slipway.domain.ids import hash_text
from slipway.domain.index import Index
from slipway.retrieve.batch import search_questions
from slipway.retrieve.calibration import (
    alarms_left_out,
    calibrate_index,
    conformal_cutoff,
    describe_calibration,
    fewest_questions,
    rate_interval,
    undo_calibration,
)
from slipway.retrieve.coverage import answerable_probability
from slipway.retrieve.gaps import find_gaps, judge_questions
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace, open_workspace

runner = CliRunner()
NOUNS = "lamp bulb cable socket switch shade plug fuse meter panel battery charger lantern torch beacon"
TOWNS = "Leipzig Bremen Porto Turin Lyon Ghent Graz Brno Malmo Vigo Split Cork Bergen Tartu Gdansk"
THINGS, PLACES = NOUNS.split(), TOWNS.split()


def documents() -> list[Document]:
    return [
        Document(
            id=f"{thing}.md",
            title=thing,
            text=f"# The {thing}\n\nEvery {thing} is made in {place} and carries a warranty of {number + 2} years.",
            source="",
            content_hash=hash_text(f"{thing}{place}"),
        )
        for number, (thing, place) in enumerate(zip(THINGS, PLACES, strict=True))
    ]


def questions() -> list[Case]:
    """Half of them are asked at length, in words that the documents hardly hold, so that the shipped model doubts."""
    asked = []
    for thing, place in zip(THINGS, PLACES, strict=True):
        short = f"How long is the warranty of a {thing}?"
        long = (
            f"Somebody told my neighbour yesterday that our old {thing} might perhaps originate somewhere else, could "
            "you kindly tell which town its manufacturer was producing such things in?"
        )
        asked += [
            Case(id=f"{thing}-short", question=short, documents=(f"{thing}.md",), answerable=True),
            Case(id=f"{thing}-long", question=long, expected=place, documents=(f"{thing}.md",)),
        ]
    return asked


FOREIGN = [
    Case(id=f"foreign-{number}", question=question, answerable=False)
    for number, question in enumerate(["How do I bake sourdough bread?", "Who painted the Sistine Chapel?"])
]


@pytest.fixture
def index(workspace: Workspace) -> Index:
    return build_index(workspace, documents=documents())


@pytest.mark.parametrize("count", [9, 19, 20, 37, 120])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "tied"])
def test_the_stated_rate_holds_for_exchangeable_questions(count: int, rate: float, kind: str) -> None:
    """Over many calibrations, each with one further question of the same distribution."""
    draws = numpy.random.default_rng([count, round(100 * rate), len(kind)])
    trials = 4000
    match kind:
        case "normal":
            scores = draws.normal(size=(trials, count + 1))
        case "heavy tails":
            scores = draws.standard_cauchy(size=(trials, count + 1))
        case _:
            scores = draws.integers(0, 6, size=(trials, count + 1)).astype(float)
    alarms = sum(row[-1] < conformal_cutoff(row[:-1].tolist(), rate) for row in scores) / trials
    kept = math.floor(rate * (count + 1) + 1e-9) / (count + 1)
    error = 4 * math.sqrt(max(kept, 0.01) / trials)
    assert alarms <= kept + error <= rate + error
    if kind != "tied":
        assert alarms >= kept - error, "no more careful than it has to be"


@given(
    st.lists(st.one_of(st.floats(-20, 20), st.sampled_from([-1.0, 0.0, 1.0])), min_size=2, max_size=80),
    st.floats(0.01, 0.5),
)
def test_among_any_scores_at_most_the_rate_lies_below_the_cutoff_of_the_others(
    scores: list[float], rate: float
) -> None:
    """The heart of the guarantee, exactly: of n + 1 questions at most k are alarms when each is the further one."""
    one_by_one = sum(
        score < conformal_cutoff([*scores[:place], *scores[place + 1 :]], rate) for place, score in enumerate(scores)
    )
    assert one_by_one <= rate * len(scores) + 1e-6
    assert alarms_left_out(scores, rate) == one_by_one


@pytest.mark.parametrize(("rate", "fewest"), [(0.05, 19), (0.1, 9), (0.5, 1), (0.07, 14), (0.01, 99)])
def test_with_too_few_questions_nothing_may_be_called_a_gap(rate: float, fewest: int) -> None:
    assert fewest_questions(rate) == fewest
    scores = [float(number) for number in range(fewest)]
    assert conformal_cutoff(scores, rate) == 0.0
    assert conformal_cutoff(scores[1:], rate) == -math.inf


def test_a_rate_that_no_binary_number_hits_costs_no_question() -> None:
    """0.29 of 100 is 28.999… in floating point."""
    assert conformal_cutoff([float(number) for number in range(99)], 0.29) == 28.0


def test_the_interval_of_one_calibration_is_that_of_its_rates() -> None:
    draws = numpy.random.default_rng(3)
    rates = numpy.sort([conformal_cutoff(draws.uniform(size=60).tolist(), 0.05) for _ in range(4000)])
    low, high = rate_interval(60, 0.05)
    assert (rates[100], rates[3900]) == pytest.approx((low, high), abs=0.01)
    assert rate_interval(5, 0.05) == (0.0, 0.0)


def test_after_calibrating_no_more_than_the_rate_of_the_questions_are_gaps(workspace: Workspace, index: Index) -> None:
    asked = questions()
    texts = [case.question for case in asked]
    before = {one.question: one for one in judge_questions(workspace, index, texts)}
    changed = calibrate_index(workspace, index, [*asked, *FOREIGN], false_alarms=0.1)
    own = changed.calibration
    assert own is not None
    after = {one.question: one for one in judge_questions(workspace, changed, texts)}
    alarms = [text for text in texts if not after[text].covered]
    assert own.answered.before == sum(not one.covered for one in before.values()) > 5, "the shipped rate does not hold"
    assert len(alarms) <= 3
    assert own.answered.after <= 3
    assert (own.answered.of, own.left_out.of, own.unanswered.of) == (30, 30, 2)
    assert own.unanswered.after == sum(not one.covered for one in judge_questions(
        workspace, changed, [case.question for case in FOREIGN]
    ))  # fmt: skip
    assert own.left_out.after <= own.left_out.before
    assert own.low < 0.1 < own.high
    order = sorted(texts, key=lambda text: before[text].probability)
    assert [after[text].probability for text in order] == sorted(one.probability for one in after.values())
    assert changed.unanswered_below == index.unanswered_below


def test_every_door_tells_the_calibrated_probability(workspace: Workspace, index: Index) -> None:
    changed = calibrate_index(workspace, index, questions(), false_alarms=0.1)
    assert workspace.store.records.get(Index, "documents@1") == changed, "saved with the version"
    text = questions()[1].question
    (judged,) = judge_questions(workspace, changed, [text])
    (found,) = search_questions(workspace, changed, [("a", text)])
    assert judged.probability == found.answerable == answerable_probability(workspace, changed, text)
    assert judged.probability != answerable_probability(workspace, index, text)
    low = [
        one.question
        for one in judge_questions(workspace, changed, [c.question for c in questions()])
        if not one.covered
    ]
    gaps = find_gaps(workspace, changed, [case.question for case in questions()])
    assert sorted(question for gap in gaps for question in gap.questions) == sorted(low)


def test_the_question_at_the_cutoff_is_covered(workspace: Workspace, index: Index) -> None:
    """Rounding must not turn the k-th lowest into an alarm, at whatever threshold."""
    asked = questions()
    random.Random(1).shuffle(asked)
    for count in range(19, 30):
        changed = calibrate_index(workspace, index, asked[:count])
        judged = judge_questions(workspace, changed, [case.question for case in asked[:count]])
        assert all(one.covered for one in judged), "the lowest of fewer than 39 is the cut-off"


def test_a_calibration_outlives_a_rebuild(workspace: Workspace, index: Index) -> None:
    changed = calibrate_index(workspace, index, questions(), false_alarms=0.1)
    again = build_index(workspace, documents=documents())
    assert again == changed, "nothing changed, so it is the version that was calibrated"
    text = "The veranda of the shop is painted green."
    more = [*documents(), Document(id="shop.md", title="", text=text, source="", content_hash=hash_text(text))]
    later = build_index(workspace, documents=more)
    assert (later.version, later.calibration) == (2, changed.calibration)
    assert undo_calibration(workspace, later).calibration is None
    assert workspace.store.records.get(Index, "documents@1") == changed
    assert build_index(workspace, documents=documents()).calibration is None, "what was undone does not come back"


def test_a_calibration_is_dropped_where_another_model_tells_coverage(workspace: Workspace, index: Index) -> None:
    changed = calibrate_index(workspace, index, questions(), false_alarms=0.1)
    assert changed.coverage is not None
    other = replace(changed, coverage=replace(changed.coverage, bias=changed.coverage.bias + 1))
    workspace.store.records.save(other)
    assert build_index(workspace, documents=documents()[1:]).calibration is None


def test_spans_leave_out_only_the_chunks_that_they_meet(with_vectors: Workspace) -> None:
    """With MiniLM, where some questions are told with sentences and some without, all lie on one scale."""
    index = build_index(with_vectors, documents=documents())
    cases = [
        replace(case, spans=((case.documents[0], 0, 20),)) if number % 2 else case
        for number, case in enumerate(questions())
    ]
    changed = calibrate_index(with_vectors, index, [*cases, *FOREIGN], false_alarms=0.1)
    assert changed.calibration is not None
    assert changed.calibration.left_out.of == 30
    judged = judge_questions(with_vectors, changed, [case.question for case in cases])
    assert sum(not one.covered for one in judged) <= 3
    assert not any(one.covered for one in judge_questions(with_vectors, changed, [case.question for case in FOREIGN]))


def test_an_index_record_of_before_has_no_calibration(workspace: Workspace, index: Index) -> None:
    import msgspec

    old = json.loads(msgspec.json.encode(index))
    del old["calibration"]
    assert msgspec.json.decode(json.dumps(old), type=Index) == index


# From the outside ---------------------------------------------------------------------------------------------------


def rows(cases: list[Case]) -> str:
    return "".join(
        json.dumps({"id": c.id, "question": c.question, "answerable": c.answerable, "documents": list(c.documents)})
        + "\n"
        for c in cases
    )


@pytest.fixture
def built(application: Path) -> Path:
    with open_workspace(application) as opened:
        build_index(opened, documents=documents())
    (application / "own.jsonl").write_text(rows([*questions(), *FOREIGN]), encoding="utf-8")
    return application


def run(folder: Path, *command: str) -> str:
    done = runner.invoke(app, ["retrieve", *command, "--dir", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def read(folder: Path, *command: str) -> Any:
    return json.loads(run(folder, *command, "--json"))


def test_a_calibration_is_made_shown_and_undone(built: Path) -> None:
    cases = ["--cases", str(built / "own.jsonl")]
    made = read(built, "calibrate", "documents", *cases, "--false-alarms", "0.1")
    assert (made["index"], made["calibration"]["questions"]) == ("documents@1", 30)
    text = run(built, "calibrate", *cases)
    line = "calibrated on your 30 questions of "
    assert text.startswith(f"documents@1 is {line}")
    assert "at most 5 % false alarms on average (0.1 to 11.6 % with 95 % probability)" in text
    assert "answered: false alarms" in text
    assert "not answered: found" in text
    assert line in run(built, "show")
    assert line in run(built, "gaps")
    assert read(built, "gaps")["calibration"]["questions"] == 30
    assert read(built, "show")["index"]["calibration"]["false_alarms"] == 0.05
    # The folder holds other documents than the index: the next build is another version.
    assert "asked of documents@1: ask again" in run(built, "build")
    assert read(built, "build")["calibration"]["index"] == "documents@1"
    assert "as it was shipped" in run(built, "calibrate", "--undo")
    assert line not in run(built, "show")


def test_a_dataset_of_the_store_will_do(built: Path) -> None:
    with open_workspace(built) as opened:
        from slipway.evaluate.dataset import save_cases

        save_cases(opened, "own", questions(), source="people")
    assert read(built, "calibrate", "--dataset", "own")["calibration"]["questions"] == 30


FEW = rows(questions()[:12])
FIFTEEN = questions()[:15]
STRANGE = [Case(id=f"s{n}", question=f"Wieso xyzq{n} qqwx{n}?", answerable=True) for n in range(25)]
WRONG = [
    pytest.param(FEW, InputError, "12 answered questions are too few to keep 5 % false alarms: that takes 19, so 7 "
                 "more. 12 suffice for 7.7 %: --false-alarms 0.077", id="too few"),
    pytest.param("", DatasetEmpty, "holds no questions", id="empty"),
    pytest.param("{", DatasetRowInvalid, "line 1", id="no JSON"),
    pytest.param('{"question": "Why?"}\n', InputError, "None of the 1 questions is labelled", id="no label"),
    pytest.param(rows(FOREIGN), InputError, "None of the 2 questions is labelled as answered", id="all not answered"),
    pytest.param(rows(STRANGE), InputError, "25 of 25 questions share no word with documents@1", id="of another index"),
    pytest.param(rows([*questions(), replace(FIFTEEN[0], id="x", answerable=False)]), InputError,
                 "both as answered and as not answered", id="both labels"),
    pytest.param(rows([*questions(), Case(id="x", question="Where?", documents=("gone.md",))]), InputError,
                 "1 of 31 answered questions do not fit documents@1: 'x' names 'gone.md'", id="a document not there"),
    pytest.param('{"id": "x", "question": "Where?", "spans": [["lamp.md", 5, 9000]]}\n', InputError,
                 "'x' names a place behind the end of 'lamp.md'", id="a place not there"),
    pytest.param('{"question": "Where?", "documents": ["lamp.md"], "tags": ["made"]}\n', InputError,
                 "1 of 1 questions were made from the documents", id="made by Slipway"),
    pytest.param(None, FileMissing, "nowhere", id="no file"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error", "message"), WRONG)
def test_what_cannot_calibrate_is_told_and_changes_nothing(
    built: Path, text: str | None, error: type[Exception], message: str
) -> None:
    file = built / ("nowhere.jsonl" if text is None else "wrong.jsonl")
    if text is not None:
        file.write_text(text, encoding="utf-8")
    done = runner.invoke(app, ["retrieve", "calibrate", "--cases", str(file), "--dir", str(built)])
    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert read(built, "show")["index"]["calibration"] is None


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "Name labelled questions"),
        (["--undo", "--dataset", "own"], "Name labelled"),
        (["--undo"], "not calibrated"),
    ],
)
def test_a_command_that_names_nothing_to_do_says_so(built: Path, command: list[str], message: str) -> None:
    done = runner.invoke(app, ["retrieve", "calibrate", *command, "--dir", str(built)])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def test_the_sentence_about_a_calibration(workspace: Workspace, index: Index) -> None:
    own = calibrate_index(workspace, index, questions()).calibration
    assert own is not None
    assert describe_calibration(replace(own, false_alarms=0.025)).split("at most ")[1].startswith("2.5 % false alarms")
