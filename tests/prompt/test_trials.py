"""Trials: assertions hold or fail, cases are read, every combination is tried and kept."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slipway.domain.errors import FileBroken, FileMissing, NotFound, VariablesMissing
from slipway.domain.model import Model
from slipway.domain.prompt import Prompt
from slipway.prompt.assertions import TYPES, Assertion, Observed, holds
from slipway.prompt.cases import TrialCase, read_cases
from slipway.prompt.changes import word_diff
from slipway.prompt.trials import Trial, try_prompts
from slipway.workspace import Workspace

Make = Callable[..., Prompt]
SCHEMA = {"type": "object", "required": ["n"]}

HOLDS = [
    pytest.param("equals", "two days", " two days ", True, id="equals, spaces aside"),
    pytest.param("contains", "days", "two Days", False, id="contains is exact"),
    pytest.param("icontains", "days", "two Days", True, id="icontains is not"),
    pytest.param("contains-all", ["a", "b"], "b", False, id="one of two"),
    pytest.param("contains-any", "a, b", "b", True, id="a list in one text"),
    pytest.param("starts-with", "two", "  two days", True, id="starts with"),
    pytest.param("regex", r"\b\d+ days\b", "in 30 days.", True, id="a pattern"),
    pytest.param("is-json", None, "{}", True, id="any JSON"),
    pytest.param("is-json", SCHEMA, "{}", False, id="JSON that lacks a key"),
    pytest.param("is-json", json.dumps(SCHEMA), '{"n": 1}', True, id="a schema as text"),
    pytest.param("max-tokens", 3, "one two three four five six", False, id="too many tokens"),
    pytest.param("latency", 400, "x", False, id="too slow"),
    pytest.param("cost", 0.02, "x", True, id="cheap enough"),
]


@pytest.mark.parametrize(("kind", "value", "text", "expected"), HOLDS)
def test_an_assertion_holds_or_not_and_negated_the_other_way(
    kind: str, value: object, text: str, expected: bool
) -> None:
    observed = Observed(text=text, seconds=0.5, cost=0.01)
    assert holds(Assertion(type=kind, value=value), observed) is expected  # type: ignore[arg-type]
    assert holds(Assertion(type=kind, value=value, negated=True), observed) is not expected  # type: ignore[arg-type]


def test_every_kind_of_assertion_has_a_case() -> None:
    assert {case.values[0] for case in HOLDS} == set(TYPES)


PROMPTFOO = """
prompts: [one.txt]
providers: [openai:gpt-5]
tests:
  - description: days
    vars: {question: "How long?"}
    assert:
      - type: icontains
        value: 30 days
      - type: not-contains
        value: forty
      - type: latency
        threshold: 2000
      - type: llm-rubric
        value: is polite
"""


def test_a_promptfoo_file_gives_its_tests_and_names_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(PROMPTFOO, encoding="utf-8")
    read = read_cases(path)
    assert [case.id for case in read.cases] == ["days"]
    assert [assertion.name for assertion in read.cases[0].assertions] == [
        'icontains "30 days"',
        'not-contains "forty"',
        "latency 2000",
    ]
    assert len(read.left_out) == 1
    assert "llm-rubric" in read.left_out[0]


BROKEN = [
    pytest.param("a.jsonl", "{", "line 1 is no JSON", id="a broken line"),
    pytest.param("a.jsonl", "", "no case", id="nothing"),
    pytest.param("a.jsonl", '{"id": "x"}', "neither vars nor question", id="no question"),
    pytest.param("a.yaml", "tests: 3", "no list of tests", id="no list"),
    pytest.param("a.yaml", "a: [", "no YAML", id="broken YAML"),
    pytest.param(
        "a.jsonl", '{"question": "q", "assert": [{"type": "regex", "value": "(a+)+"}]}', "case 1", id="a slow pattern"
    ),
    pytest.param("a.jsonl", '{"question": "q", "assert": [{"type": "latency"}]}', "case 1", id="a missing bound"),
]


@pytest.mark.parametrize(("name", "text", "message"), BROKEN)
def test_a_broken_file_of_cases_is_named_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(FileBroken, match=message):
        read_cases(tmp_path / name)
    with pytest.raises(FileMissing):
        read_cases(tmp_path / "none.jsonl")


def case(number: int, expected: str = "") -> TrialCase:
    assertions = (Assertion(type="contains", value=expected),) if expected else ()
    return TrialCase(id=f"c{number}", variables={"question": f"What is {number}?"}, assertions=assertions)


async def test_every_version_meets_every_case_on_every_model_and_the_trial_is_kept(
    workspace: Workspace, make: Make
) -> None:
    prompts = [make("{{ question }} one"), make("{{ question }} two", name="other")]
    seen: list[tuple[int, int]] = []
    trial = await try_prompts(
        workspace,
        prompts,
        [case(1, "What is 1?"), case(2, "nowhere to be found"), case(3)],
        [Model(engine="echo", name="echo")],
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert len(trial.attempts) == 6
    assert seen[-1] == (6, 6)
    assert [(column.prompt, column.passed, column.asserted) for column in trial.columns] == [
        ("answer@0", 1, 2),
        ("other@0", 1, 2),
    ]
    assert [attempt.passed for attempt in trial.attempts[:3]] == [True, False, None]
    assert trial.attempts[1].failed == ('contains "nowhere to be found"',)
    assert workspace.store.records.get(Trial, trial.id) == trial


async def test_passages_come_from_the_search_where_the_case_brings_none(workspace: Workspace, make: Make) -> None:
    from slipway.domain.document import Passage

    found = Passage(document="a.md", title="Lamps", start=0, end=4, text="Five years.", score=1.0)
    asked: list[str] = []

    def search(question: str) -> list[Passage]:
        asked.append(question)
        return [found]

    prompt, model = make("<p>{{ passages }}</p> {{ question }}"), [Model(engine="echo", name="echo")]
    trial = await try_prompts(workspace, [prompt], [case(1)], model, search=search)
    own = TrialCase(id="own", variables={"question": "What is 1?", "passages": ""})
    bare = await try_prompts(workspace, [prompt], [own], model, search=search)
    assert asked == ["What is 1?"]
    assert trial.attempts[0].input_tokens > bare.attempts[0].input_tokens


async def test_without_an_index_or_a_variable_the_error_says_which(workspace: Workspace, make: Make) -> None:
    model = [Model(engine="echo", name="echo")]
    with pytest.raises(NotFound, match="slipway retrieve build"):
        await try_prompts(workspace, [make("{{ passages }}")], [case(1)], model)
    with pytest.raises(VariablesMissing, match="tone"):
        await try_prompts(workspace, [make("{{ question }} {{ tone }}")], [case(1)], model)
    with pytest.raises(NotFound):
        await try_prompts(workspace, [], [case(1)], model)


async def test_a_dead_engine_is_a_failed_attempt_and_not_the_end(application: Path, make: Make) -> None:
    from slipway.workspace import open_workspace

    toml = application / "slipway.toml"
    dead = '\n[engines.dead]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
    toml.write_text(toml.read_text(encoding="utf-8") + dead, encoding="utf-8")
    with open_workspace(application) as workspace:
        trial = await try_prompts(
            workspace,
            [make("{{ question }}")],
            [case(1, "x")],
            [Model(engine="dead", name="m"), Model(engine="echo", name="echo")],
        )
    assert [bool(attempt.error) for attempt in trial.attempts] == [True, False]
    assert trial.attempts[0].passed is False


DIFFS = [
    pytest.param("a b c", "a x c", [("same", "a "), ("del", "b"), ("ins", "x"), ("same", " c")], id="a word replaced"),
    pytest.param("", "a", [("ins", "a")], id="all new"),
    pytest.param("a", "a", [("same", "a")], id="nothing changed"),
]


@pytest.mark.parametrize(("before", "after", "pieces"), DIFFS)
def test_a_diff_goes_word_by_word(before: str, after: str, pieces: list[tuple[str, str]]) -> None:
    found = word_diff(before, after)
    assert [(piece.kind, piece.text) for piece in found] == pieces
    assert "".join(piece.text for piece in found if piece.kind != "ins") == before
    assert "".join(piece.text for piece in found if piece.kind != "del") == after


ODD = st.sampled_from([None, 1, -1.5, True, "x", "(", [], ["a"], [1], {}, {"type": "x"}, {"required": [{}]}])
ASSERTED = st.fixed_dictionaries({"type": st.sampled_from([*TYPES, "not-regex"]) | ODD}, optional={"value": ODD})
ROW = st.fixed_dictionaries(
    {}, optional={"vars": ODD, "question": ODD, "expected": ODD, "assert": ODD | st.lists(ASSERTED, max_size=2)}
)
TAGGED = "tests:\n- vars: {question: x}\n  assert:\n  - {type: latency, value: %s}\n"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=2).map(json.dumps), st.sampled_from([".json", ".yaml"]))
@example(json.dumps([{"vars": {"a": 1}, "assert": 5, "expected": "x"}]), ".json")
@example(TAGGED % "!!bool x", ".yaml")
@example(TAGGED % "!!timestamp x", ".yaml")
@example(TAGGED % "2020-01-01", ".yaml")
@example(TAGGED % "&a [*a]", ".yaml")
@example('{"question": ' + "[" * 5000, ".jsonl")
def test_any_file_gives_trials_or_says_what_is_wrong(tmp_path: Path, text: str, suffix: str) -> None:
    path = tmp_path / f"cases{suffix}"
    path.write_text(text)
    with suppress(FileBroken):
        assert all(isinstance(one.variables, dict) for one in read_cases(path).cases)
