"""The questionnaire writes [decide] and leaves the rest of slipway.toml alone."""

import tomllib
from pathlib import Path

import pytest

from slipway.config.reader import load_settings
from slipway.config.settings import DecideSettings
from slipway.decide.answers import Answer, list_questions, read_answer, write_answers
from slipway.domain.errors import ConfigError, InputError, NotAnApplication, RequirementContradiction

TEXT = """\
# The lamp shop.
[application]
name = "lamps"  # as clients call it

[decide]
requests_per_day = 5000  # measured in March
api_models = [
    "openai/gpt-5-mini",  # the cheap one
]

# How documents are searched.
[retrieve]
alpha = 0.5
"""

EDITS = [
    pytest.param(
        {"requests_per_day": 7000.0}, "requests_per_day = 7000  # measured in March", id="a value keeps its comment"
    ),
    pytest.param({"residency": "EU # north"}, 'residency = "EU # north"', id="a new key goes to the end of its table"),
    pytest.param({"api_models": ["a/b"]}, 'api_models = ["a/b"]', id="a list over several lines becomes one line"),
    pytest.param({"data_may_leave": False}, "data_may_leave = false", id="yes and no are TOML's"),
]


def written(folder: Path, text: str, answers: dict[str, Answer]) -> str:
    (folder / "slipway.toml").write_text(text)
    write_answers(folder, answers)
    return (folder / "slipway.toml").read_text()


@pytest.mark.parametrize(("answers", "line"), EDITS)
def test_an_answer_changes_its_own_key_only(tmp_path: Path, answers: dict[str, Answer], line: str) -> None:
    after = written(tmp_path, TEXT, answers)
    assert line in after.splitlines()
    before = tomllib.loads(TEXT)
    assert tomllib.loads(after) == {**before, "decide": {**before["decide"], **answers}}
    assert "# The lamp shop." in after
    assert "# How documents are searched.\n[retrieve]" in after


def test_a_missing_table_is_added(tmp_path: Path) -> None:
    after = written(tmp_path, '[application]\nname = "x"\n', {"skills": "strong"})
    assert tomllib.loads(after)["decide"] == {"skills": "strong"}


def test_answers_are_written_and_read_back(application: Path) -> None:
    write_answers(application, {"requests_per_day": 123.0, "residency": "EU"})
    decide = load_settings(application).decide
    assert (decide.requests_per_day, decide.residency, decide.input_tokens) == (123.0, "EU", 1200)


REFUSED = [
    pytest.param({"cached_share": 7.0}, ConfigError, id="a share above 1"),
    pytest.param({"first_token_ms": 900.0, "end_to_end_ms": 100.0}, RequirementContradiction, id="a contradiction"),
]


@pytest.mark.parametrize(("answers", "error"), REFUSED)
def test_a_refused_answer_leaves_the_file_as_it_was(
    application: Path, answers: dict[str, Answer], error: type[Exception]
) -> None:
    before = (application / "slipway.toml").read_bytes()
    with pytest.raises(error):
        write_answers(application, answers)
    assert (application / "slipway.toml").read_bytes() == before


def test_a_folder_without_an_application_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAnApplication):
        write_answers(tmp_path, {"skills": "some"})


def test_what_nothing_can_be_decided_without_is_asked_first() -> None:
    questions = list_questions(DecideSettings())
    assert [question.key for question in questions if question.needed] == [question.key for question in questions[:3]]
    assert all(question.text for question in questions)


TYPED = [
    pytest.param("requests_per_day", "12,500", 12500.0, id="a number with a comma"),
    pytest.param("context_tokens", "8192", 8192, id="a whole number"),
    pytest.param("data_may_leave", "no", False, id="no"),
    pytest.param("skills", "strong", "strong", id="a choice"),
    pytest.param("api_models", "a/b, c/d", ["a/b", "c/d"], id="a list"),
]


@pytest.mark.parametrize(("key", "typed", "answer"), TYPED)
def test_typed_answers_are_read(key: str, typed: str, answer: Answer) -> None:
    question = next(question for question in list_questions(DecideSettings()) if question.key == key)
    assert read_answer(question, typed) == answer


@pytest.mark.parametrize(
    ("key", "typed"), [("requests_per_day", "many"), ("skills", "weak"), ("data_may_leave", "maybe")]
)
def test_a_wrong_answer_is_explained(key: str, typed: str) -> None:
    question = next(question for question in list_questions(DecideSettings()) if question.key == key)
    with pytest.raises(InputError, match=typed):
        read_answer(question, typed)
