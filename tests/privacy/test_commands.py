"""`slipway privacy`, `keys` and `audit` on the command line."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from slipway.domain.ids import SubjectId
from slipway.tracing.recorder import Recorder, store_sink
from slipway.workspace import open_workspace

Run = Callable[..., tuple[int, Any, str]]
ANNA = "user-7c1f-anna"


@pytest.fixture
def command(application: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the application: exit code, JSON of stdout (text without --json), stderr."""

    def run(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["slipway", *words, "--dir", str(application)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, json.loads(said.out) if "--json" in words and said.out else said.out, said.err

    return run


@pytest.fixture
def asked(application: Path) -> str:
    """A trace of one person."""
    with open_workspace(application) as workspace:
        recorder = Recorder(project=workspace.application, sink=store_sink(workspace.store))
        with recorder.trace("answer", subject=SubjectId(ANNA)) as trace:
            trace.set(content={"question": "Where is my parcel with the lamp?", "answer": "On its way."})
    return trace.trace_id


def test_a_person_is_listed_exported_and_erased(command: Run, asked: str, tmp_path: Path) -> None:
    assert command("privacy", "people", "--json")[1] == [ANNA]
    code, exported, _ = command("privacy", "export", ANNA, "--json")
    assert (code, exported["traces"][0]["id"]) == (0, asked)
    code, told, _ = command("privacy", "export", ANNA, "--out", str(tmp_path / "anna.json"))
    assert (code, told.strip()) == (0, f"1 things about {ANNA} are in {tmp_path / 'anna.json'}.")
    assert json.loads((tmp_path / "anna.json").read_text(encoding="utf-8"))["traces"][0]["id"] == asked
    code, report, _ = command("privacy", "erase", ANNA, "--json")
    assert code == 0
    assert [(node["kind"], node["id"], node["state"]) for node in report["nodes"]] == [("trace", asked, "erased")]
    assert command("privacy", "people")[1] == "Nothing is kept about anybody.\n"
    code, _, wrong = command("privacy", "export", ANNA)
    assert (code, wrong.split(".")[0]) == (2, f"error: There is no person '{ANNA}'")
    assert "Nothing is kept about this person" in command("privacy", "erase", ANNA, "--yes")[1]


def test_an_erasure_is_told_in_text(command: Run, asked: str) -> None:
    code, text, _ = command("privacy", "erase", ANNA, "--yes")
    assert code == 0
    assert f"trace  {asked}  erased  deleted, and its key destroyed" in text
    assert "1 erased; 1 keys destroyed" in text


def test_an_erasure_that_leaves_something_ends_with_1(command: Run, asked: str, application: Path) -> None:
    (application / ".slipway" / "stray.log").write_text("Where is my parcel with the lamp?", encoding="utf-8")
    code, text, _ = command("privacy", "erase", ANNA, "--yes")
    assert code == 1
    assert "Remains: .slipway/stray.log still holds words of the person." in text
    assert asked


def test_retention(command: Run, asked: str) -> None:
    assert asked
    code, report, _ = command("privacy", "keep", "--json")
    assert (code, report["keep_days"], report["traces"]) == (0, 90, 0)
    assert "0 traces and 0 jobs" in command("privacy", "keep", "--days", "1")[1]


def test_the_master_key_is_changed(command: Run, asked: str, application: Path) -> None:
    (application / "new.key").write_text("ab" * 32, encoding="ascii")
    code, told, _ = command("privacy", "rewrap", "file:new.key", "--json")
    assert (code, told["keys"]) == (0, 1)
    code, _, wrong = command("privacy", "people")
    assert code == 1
    assert "does not open this store" in wrong
    settings = application / "slipway.toml"
    settings.write_text(
        settings.read_text(encoding="utf-8") + '\n[privacy]\nmaster_key = "file:new.key"\n', encoding="utf-8"
    )
    assert command("privacy", "people", "--json")[1] == [ANNA]
    assert asked


def test_keys_are_made_listed_and_revoked(command: Run) -> None:
    assert "There is no key" in command("keys", "list")[1]
    code, made, _ = command("keys", "create", "shop", "--scope", "chat", "--scope", "traces", "--days", "30", "--json")
    assert (code, made["scopes"]) == (0, ["chat", "traces"])
    assert made["key"].startswith("sk-slip-")
    code, text, _ = command("keys", "create", "boss", "--role", "admin", "--requests-per-minute", "60")
    assert code == 0
    assert "Key 'boss' (chat, feedback). It is not shown again." in text
    code, listed, _ = command("keys", "list", "--json")
    assert {key["name"]: (key["role"], key["state"]) for key in listed} == {
        "shop": (None, "valid"),
        "boss": ("admin", "valid"),
    }
    assert made["key"] not in json.dumps(listed)
    assert command("keys", "revoke", "shop")[:2] == (0, "Key 'shop' is revoked.\n")
    assert "revoked" in command("keys", "list")[1]
    assert command("keys", "revoke", "shpo")[0] == 2
    code, _, wrong = command("keys", "create", "boss")
    assert (code, wrong.split(".")[0]) == (2, "error: There is a key 'boss' already")


def test_keys_are_limited_shown_and_rotated(command: Run) -> None:
    _, made, _ = command("keys", "create", "shop", "--monthly-budget", "25", "--json")
    code, text, _ = command("keys", "limits", "shop", "--requests-per-minute", "60")
    assert (code, text) == (0, "Key 'shop' may use 60 requests a minute, $25.00 a month.\n")
    code, shown, _ = command("keys", "show", "shop", "--json")
    assert (code, shown["limits"]["requests_per_minute"], shown["used"]["requests"]) == (0, 60, 0)
    assert "60 requests a minute" in command("keys", "show", "shop")[1]
    assert command("keys", "limits", "shop", "--lift")[1] == "Key 'shop' may use as much as it likes.\n"
    assert command("keys", "limits", "shop")[0] == 2
    assert command("keys", "show", "shpo")[0] == 2
    code, rotated, _ = command("keys", "rotate", "shop", "--hours", "1", "--json")
    assert code == 0
    assert rotated["key"] != made["key"]
    assert {key["name"] for key in command("keys", "list", "--json")[1]} == {"shop", "shop-before"}


def test_the_log_is_shown_and_verified(command: Run, application: Path) -> None:
    assert command("audit", "list")[1] == "The log is empty.\n"
    command("keys", "create", "one")
    command("keys", "create", "two")
    assert [event["thing"] for event in command("audit", "list", "--json")[1]] == ["two", "one"]
    assert "keys.create" in command("audit", "list", "--limit", "1")[1]
    code, report, _ = command("audit", "verify", "--json")
    assert (code, report["events"], report["first_bad"]) == (0, 2, None)
    assert command("audit", "verify", "--head", report["head"])[0] == 0
    with sqlite3.connect(application / ".slipway" / "store.db") as raw:
        raw.execute("update audit set actor = 'somebody else' where number = 1")
    raw.close()
    code, text, _ = command("audit", "verify")
    assert code == 1
    assert text.startswith("The log was changed at line 1")
