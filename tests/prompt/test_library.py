"""The library: files and store agree, versions never change, labels move."""

import pytest

from slipway.domain.errors import FileBroken, NameInvalid, NotFound, PromptInvalid
from slipway.prompt.files import read_prompt_file
from slipway.prompt.library import (
    history,
    label_moves,
    list_prompts,
    load_prompt,
    roll_back,
    set_label,
    sync_prompts,
)
from slipway.workspace import Workspace


def write(workspace: Workspace, text: str, name: str = "answer") -> None:
    folder = workspace.folder / "prompts"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


@pytest.fixture
def three_versions(workspace: Workspace) -> Workspace:
    for number in (1, 2, 3):
        write(workspace, f"# user\nversion {number} {{{{ question }}}}\n")
        sync_prompts(workspace, by="jo")
    return workspace


def test_a_file_becomes_a_version_once(workspace: Workspace) -> None:
    write(workspace, "# user\n{{ question }}\n")
    first = sync_prompts(workspace, by="jo")
    assert [(prompt.name, prompt.version, prompt.author) for prompt in first] == [("answer", 1, "jo")]
    assert sync_prompts(workspace) == first
    assert len(history(workspace, "answer")) == 1


def test_an_edited_file_becomes_the_next_version(three_versions: Workspace) -> None:
    assert [prompt.version for prompt in history(three_versions, "answer")] == [3, 2, 1]
    assert load_prompt(three_versions, "answer").version == 3
    assert load_prompt(three_versions, "answer@2").user.startswith("version 2")


def test_a_file_with_the_content_of_an_earlier_version_is_that_version(three_versions: Workspace) -> None:
    write(three_versions, "---\nnote: back again\n---\n# user\nversion 1 {{ question }}\n")
    assert [prompt.version for prompt in sync_prompts(three_versions)] == [1]
    assert load_prompt(three_versions, "answer").version == 1
    assert len(history(three_versions, "answer")) == 3


def test_rolling_back_writes_the_file_too(three_versions: Workspace) -> None:
    assert roll_back(three_versions, "answer", by="jo").version == 2
    path = three_versions.folder / "prompts" / "answer.md"
    assert read_prompt_file(path, created_at=three_versions.now()).hash == load_prompt(three_versions, "answer@2").hash
    assert [prompt.version for prompt in sync_prompts(three_versions)] == [2]
    assert roll_back(three_versions, "answer", to=3).version == 3


def test_a_label_stands_on_one_version_and_its_moves_are_kept(three_versions: Workspace) -> None:
    set_label(three_versions, "answer@1", "live", by="jo")
    set_label(three_versions, "answer@2", "live", by="al")
    assert load_prompt(three_versions, "answer@live").version == 2
    assert load_prompt(three_versions, "answer@1").labels == ()
    moves = [move for move in label_moves(three_versions, "answer") if move.label == "live"]
    assert {(move.version, move.before, move.by) for move in moves} == {(1, 0, "jo"), (2, 1, "al")}


def test_the_content_of_a_version_does_not_change_when_a_label_moves(three_versions: Workspace) -> None:
    before = load_prompt(three_versions, "answer@1")
    set_label(three_versions, "answer@1", "live")
    after = load_prompt(three_versions, "answer@1")
    assert (after.hash, after.user, after.created_at) == (before.hash, before.user, before.created_at)


def test_a_broken_file_leaves_the_store_as_it_was(three_versions: Workspace) -> None:
    write(three_versions, "# user\nversion 4\n")
    write(three_versions, "no section", name="broken")
    with pytest.raises(FileBroken, match=r"broken\.md"):
        sync_prompts(three_versions)
    assert load_prompt(three_versions, "answer").version == 3


WRONG = [
    pytest.param("answre", NotFound, "Did you mean 'answer'", id="unknown prompt"),
    pytest.param("answer@9", NotFound, "no version or label of prompt 'answer' '9'", id="unknown version"),
    pytest.param("answer@live", NotFound, "'live'", id="unknown label"),
]


@pytest.mark.parametrize(("ref", "error", "message"), WRONG)
def test_what_does_not_exist_is_named(
    three_versions: Workspace, ref: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_prompt(three_versions, ref)


def test_a_label_has_a_name_that_is_no_number(three_versions: Workspace) -> None:
    with pytest.raises(PromptInvalid, match="must not be a number"):
        set_label(three_versions, "answer@1", "7")
    with pytest.raises(NameInvalid):
        set_label(three_versions, "answer@1", "Live!")


def test_all_prompts_are_listed_by_name(three_versions: Workspace) -> None:
    write(three_versions, "# user\nx\n", name="another")
    sync_prompts(three_versions)
    assert [(prompt.name, prompt.version) for prompt in list_prompts(three_versions)] == [("another", 1), ("answer", 3)]
