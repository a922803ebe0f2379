"""Starting an application writes what it says, changes nothing that is there, and refuses what cannot work."""

import json
from pathlib import Path

import pytest

from slipway.config.reader import load_settings
from slipway.domain.errors import Conflict, FileMissing, NameInvalid
from slipway.lifecycle.start import init_application, name_of


@pytest.fixture(autouse=True)
def no_engine_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_new_application_has_settings_a_prompt_and_a_folder_for_documents(tmp_path: Path) -> None:
    manual = tmp_path / "manual"
    manual.mkdir()
    questions = tmp_path / "asked.jsonl"
    questions.write_text(json.dumps({"question": "Why?"}) + "\n", encoding="utf-8")
    path = init_application(tmp_path / "Help Desk", documents=[manual], questions=questions, roles=["legal"])
    folder = tmp_path / "Help Desk"
    assert path == folder / "slipway.toml"
    assert sorted(everything(folder)) == [".gitignore", "prompts/answer.md", "slipway.toml"]
    assert (folder / "documents").is_dir()
    settings = load_settings(folder)
    assert settings.application.name == "help-desk"
    assert settings.application.documents == ["documents", str(manual)]
    assert settings.application.questions == str(questions)
    assert settings.review.roles == ["legal"]
    assert settings.release.engine == "extractive"
    assert {line.suite for line in settings.evaluate.gate} == {"quality", "safety"}


def test_what_lies_inside_is_named_relative_so_that_the_folder_can_move(tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    (folder / "manual").mkdir(parents=True)
    (folder / "manual" / "a.md").write_text("# A\n", encoding="utf-8")
    init_application(folder, documents=[folder / "manual"])
    assert load_settings(folder).application.documents == ["documents", "manual"]


def test_an_engine_in_the_environment_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_MODEL", "house-model")
    init_application(tmp_path / "desk")
    release = load_settings(tmp_path / "desk").release
    assert (release.engine, release.model) == ("openai", "house-model")


def test_quotes_and_umlauts_in_a_purpose_stay_what_they_are(tmp_path: Path) -> None:
    purpose = 'Beantwortet "alles" über Lampen \\ Schirme.\nGanz.'
    init_application(tmp_path / "desk", purpose=purpose)
    assert load_settings(tmp_path / "desk").application.purpose == purpose


def test_an_application_is_not_started_twice(tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    init_application(folder)
    before = everything(folder)
    with pytest.raises(Conflict, match="slipway up"):
        init_application(folder, name="other")
    assert everything(folder) == before


def test_a_prompt_that_is_there_is_kept(tmp_path: Path) -> None:
    prompt = tmp_path / "desk" / "prompts" / "answer.md"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("mine", encoding="utf-8")
    init_application(tmp_path / "desk")
    assert prompt.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("what", ["documents", "questions"])
def test_what_does_not_exist_is_named_and_nothing_is_written(tmp_path: Path, what: str) -> None:
    missing = tmp_path / "nowhere"
    given = {"documents": [missing]} if what == "documents" else {"questions": missing}
    with pytest.raises(FileMissing, match="nowhere"):
        init_application(tmp_path / "desk", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "desk").exists()


@pytest.mark.parametrize("name", ["Help", "a b", "a/b", "x" * 64, "..", "é"])
def test_a_name_that_clients_could_not_call_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NameInvalid, match="lower case"):
        init_application(tmp_path / "desk", name=name)
    assert not (tmp_path / "desk").exists()


def test_a_file_is_no_folder_for_an_application(tmp_path: Path) -> None:
    (tmp_path / "desk").write_text("a file", encoding="utf-8")
    with pytest.raises(Conflict, match="is a file"):
        init_application(tmp_path / "desk")


@pytest.mark.parametrize(
    ("folder", "name"), [("Help Desk", "help-desk"), ("--", "application"), ("Ä", "application"), ("x" * 80, "x" * 63)]
)
def test_a_folder_gives_its_name(folder: str, name: str) -> None:
    assert name_of(Path(folder)) == name
