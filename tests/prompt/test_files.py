"""Prompt files: what they hold, and what is wrong with them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.domain.errors import FileBroken, FileMissing, NameInvalid, PromptInvalid
from slipway.prompt.files import parse_prompt, read_prompt_file, write_prompt
from slipway.prompt.linter import lint
from slipway.prompt.starter import default_prompt_text, number_passages
from slipway.prompt.template import render

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FULL = """---
variables: [question]
note: first
author: jo
output_schema:
  type: object
examples:
  - input: a
    output: '{}'
---

# system

Answer.

# Rules

One rule.

# user

{{ question }}
"""


def test_a_file_holds_a_prompt() -> None:
    prompt = parse_prompt(FULL, name="answer", created_at=NOW)
    assert prompt.system == "Answer.\n\n# Rules\n\nOne rule."
    assert prompt.user == "{{ question }}"
    assert (prompt.variables, prompt.note, prompt.author) == (("question",), "first", "jo")
    assert prompt.output_schema == '{\n  "type": "object"\n}'
    assert prompt.examples[0].output == "{}"


def test_writing_and_reading_gives_the_same_hash() -> None:
    prompt = parse_prompt(FULL, name="answer", created_at=NOW)
    assert parse_prompt(write_prompt(prompt), name="answer", created_at=NOW).hash == prompt.hash


SAME = [
    pytest.param(FULL.replace("note: first", "note: second"), True, id="another note"),
    pytest.param(FULL.replace("\n", "\r\n"), True, id="other line ends"),
    pytest.param(FULL.replace("Answer.", "Answer!"), False, id="another word"),
    pytest.param(FULL.replace("input: a", "input: b"), False, id="another example"),
    pytest.param(FULL.replace("type: object", "type: array"), False, id="another schema"),
]


@pytest.mark.parametrize(("text", "same"), SAME)
def test_the_hash_covers_what_reaches_the_model(text: str, same: bool) -> None:
    first = parse_prompt(FULL, name="answer", created_at=NOW)
    assert (parse_prompt(text, name="answer", created_at=NOW).hash == first.hash) == same


WRONG = [
    pytest.param("# system\nx\n", "no section '# user'", id="no user section"),
    pytest.param("hello\n# user\nx\n", "text before the section", id="text before"),
    pytest.param("# user\nx\n# user\ny\n", "twice", id="a section twice"),
    pytest.param("---\nvariable: [a]\n---\n# user\nx\n", "unknown field `variable`", id="unknown key"),
    pytest.param("---\nvariables: 3\n---\n# user\nx\n", "variables", id="wrong type"),
    pytest.param("---\n- a\n---\n# user\nx\n", "keys and values", id="a list"),
    pytest.param("---\na: [\n---\n# user\nx\n", "front matter, line", id="broken YAML"),
    pytest.param("---\nnote: &a x\nauthor: *a\n---\n# user\nx\n", "aliases", id="an alias"),
    pytest.param("---\noutput_schema: '{'\n---\n# user\nx\n", "not valid JSON", id="broken schema"),
    pytest.param("# user\n{{ x.y() }}\n", "user, line 1: 'call", id="a call in the template"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_broken_prompt_is_named_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PromptInvalid, match=message.replace("(", r"\(")):
        parse_prompt(text, name="answer", created_at=NOW)
    path = tmp_path / "answer.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileBroken, match="answer"):
        read_prompt_file(path, created_at=NOW)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_prompt_file(tmp_path / "answer.md", created_at=NOW)
    (tmp_path / "answer.md").write_bytes(b"# user\n\xff")
    with pytest.raises(FileBroken, match="not UTF-8"):
        read_prompt_file(tmp_path / "answer.md", created_at=NOW)
    (tmp_path / "Answer 1.md").write_text("# user\nx\n", encoding="utf-8")
    with pytest.raises(NameInvalid):
        read_prompt_file(tmp_path / "Answer 1.md", created_at=NOW)


def test_the_prompt_that_ships_passes_its_own_linter_and_can_be_filled() -> None:
    from slipway.domain.document import Passage
    from slipway.domain.message import ABSTENTION

    prompt = parse_prompt(default_prompt_text(), name="answer", created_at=NOW)
    assert lint(prompt) == []
    passages = [Passage(document="a.md", title="A", start=0, end=3, text="Yes.", score=1.0, heading="B")]
    messages = render(prompt, {"question": "Is it?", "passages": number_passages(passages)})
    assert ABSTENTION in messages[0].text
    assert "[1] A / B\nYes." in messages[1].text


@pytest.mark.parametrize("value", ["!!bool x", "!!int x", "!!timestamp x", "2020-13-45", "&a [*a]", "? [a]"])
def test_values_that_yaml_cannot_make_are_named(value: str) -> None:
    with pytest.raises(PromptInvalid, match="front matter"):
        parse_prompt(f"---\nvariables: {value}\n---\n# user\n\nHi", name="a", created_at=NOW)
