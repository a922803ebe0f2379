"""The tree of commands: stages in order, --json everywhere, and one clear line with a code for what is wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from slipway.cli import main as cli
from slipway.stages import FACTS, STAGES

WITHOUT_JSON = {"config schema"}
"""Prints JSON and nothing else."""
Ran = Callable[..., tuple[int, str, str]]


def tree(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from tree(child, (*path, name))


COMMANDS = dict(tree(get_command(cli.app)))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_json_and_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    options = {option for parameter in command.params for option in parameter.opts}  # type: ignore[attr-defined]
    assert ("--json" in options) != (name in WITHOUT_JSON)
    assert command.help, f"slipway {name} has no help"  # type: ignore[attr-defined]


def test_help_lists_the_stages_in_their_order(slipway: Ran) -> None:
    code, out, _ = slipway("--help")
    assert code == 0
    lines = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.split()]
    assert [word for word in lines if word in STAGES] == list(STAGES)
    told = " ".join(out.split())
    for stage in STAGES:
        assert FACTS[stage].does[:30] in told


def test_every_group_has_commands() -> None:
    assert {name.split()[0] for name in COMMANDS} >= {*STAGES, "demo", "init", "up", "doctor", "config", "serve"}


def test_a_release_is_taken_through_by_hand(slipway: Ran, application: Path) -> None:
    here = ("--dir", application, "--json")

    def done(*arguments: object) -> object:
        code, out, err = slipway(*arguments, *here)
        assert code == 0, err
        assert err == ""
        return json.loads(out)

    done("prompt", "list")
    done("retrieve", "build")
    cut = done("release", "cut")
    assert isinstance(cut, dict)
    code, out, _ = slipway("release", "gate", *here)
    gate = json.loads(out)
    assert code == 3
    assert gate["open"] is False
    assert {check["state"] for check in gate["checks"]} == {"missing"}
    assert all(check["remedy"].startswith("slipway evaluate run lamps@1") for check in gate["checks"])
    code, out, err = slipway("release", "promote", *here)
    assert code == 3
    assert json.loads(out)["error"]["code"] == "gate_closed"
    assert err.count("\n") == 1
    done("release", "promote", "--force")
    asked = done("release", "ask", "Within how many days can I return a parcel?")
    assert isinstance(asked, dict)
    assert "30 days" in asked["text"]
    assert asked["release"] == cut["id"]
    done("release", "show")
    listed = done("release", "list")
    assert isinstance(listed, list)
    assert listed[0]["state"] == "live"
    done("learn", "triage")
    done("learn", "list")


def test_a_closed_gate_tells_people_what_is_missing(slipway: Ran, application: Path) -> None:
    slipway("retrieve", "build", "--dir", application)
    slipway("release", "cut", "--dir", application)
    code, out, _ = slipway("release", "gate", "--dir", application)
    assert code == 3
    assert "The gate of lamps@1 is closed." in out
    assert "missing" in out
    assert "slipway evaluate run lamps@1 --suite safety" in out


def test_a_plain_release_needs_neither_documents_nor_a_prompt(slipway: Ran, application: Path) -> None:
    spoil(application, '[engines.mine]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"')
    toml = application / "slipway.toml"
    text = toml.read_text(encoding="utf-8")
    release = '[release]\nengine = "mine"\nmodel = "small"'
    toml.write_text(re.sub(r"\[release\][^\[]*", release + "\n\n", text) if "[release]" in text else text + release)
    code, out, _ = slipway("release", "cut", "--plain", "--json", "--dir", application)
    assert code == 0
    cut = json.loads(out)
    assert (cut["model"]["engine"], cut["model"]["name"]) == ("mine", "small")
    assert (cut["prompt"], cut["index"], cut["decoding"]["max_tokens"]) == (None, None, None)


def test_a_plain_release_of_the_engine_that_only_quotes_is_refused(slipway: Ran, application: Path) -> None:
    code, _, err = slipway("release", "cut", "--plain", "--dir", application)
    assert code == 2
    assert "only quotes" in err


def spoil(application: Path, text: str) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "named"),
    [
        pytest.param("", ("release", "show"), 2, "slipway release cut", id="no release yet"),
        pytest.param("", ("release", "cut"), 2, "slipway retrieve build", id="no index yet"),
        pytest.param("", ("release", "roll-back"), 2, "slipway release promote", id="no channel yet"),
        pytest.param("", ("learn", "show", "nothing"), 2, "slipway learn list", id="no such finding"),
        pytest.param("", ("learn", "list", "--state", "opn"), 2, "Did you mean 'open'", id="no such state"),
        pytest.param("", ("init", "."), 2, "slipway up", id="an application already"),
        pytest.param("[retreive]", ("config", "check"), 2, "retreive", id="a table that does not exist"),
        pytest.param('[store]\nurll = "x"', ("release", "list"), 2, "urll", id="a key that does not exist"),
        pytest.param("[guard", ("up", "--no-serve"), 2, "slipway.toml", id="no TOML"),
        pytest.param('[release]\nengine = "extractiv"', ("up", "--no-serve"), 2, "extractive", id="no such engine"),
        pytest.param(
            '[release]\nengine = "far"\n[engines.far]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"',
            ("up", "--no-serve"),
            1,
            "127.0.0.1:9",
            id="a dead upstream",
        ),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "as JSON"])
def test_what_is_wrong_is_one_clear_line(
    slipway: Ran,
    application: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    arguments: tuple[str, ...],
    code: int,
    named: str,
    as_json: bool,
) -> None:
    if settings:
        spoil(application, settings)
    monkeypatch.chdir(application)
    ended, out, err = slipway(*arguments, *(["--json"] if as_json else []))
    assert ended == code
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert named in err
    if as_json:
        told = json.loads(out)["error"]
        assert told["code"]
        assert told["message"] in err


def test_a_folder_that_is_no_application_is_told_how_to_make_one(slipway: Ran, tmp_path: Path) -> None:
    code, _, err = slipway("release", "list", "--dir", tmp_path)
    assert code == 2
    assert "slipway init" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("releas",), ("release", "cutt"), ("release", "cut", "--nonsense"), ("release", "promote", "--weight", "x")],
)
def test_usage_that_is_wrong_ends_with_code_2(slipway: Ran, arguments: tuple[str, ...]) -> None:
    code, _, err = slipway(*arguments)
    assert code == 2
    assert err


def test_a_weight_that_is_none_is_refused(slipway: Ran, application: Path) -> None:
    slipway("retrieve", "build", "--dir", application)
    slipway("release", "cut", "--dir", application)
    for share in ("lamps@1", "lamps@1=x", "lamps@1=0", "lamps@1=nan", "lamps@1=inf"):
        code, _, err = slipway("release", "split", "lamps", share, "--dir", application)
        assert code == 2, share
        assert err.count("\n") == 1


def test_ctrl_c_is_one_line(slipway: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    assert slipway("up") == (130, "", "error: Stopped. What was finished is kept.\n")


def test_version_is_printed(slipway: Ran) -> None:
    from slipway import __version__

    assert slipway("--version")[:2] == (0, f"slipway {__version__}\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; skips where it may not be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or mount is None or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a small file system")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("a small file system may not be mounted here")
    here = Path.cwd()
    yield place
    os.chdir(here)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize(
    "arguments", [("retrieve", "build"), ("up", "--no-serve"), ("evaluate", "import", "asked", "questions.jsonl")]
)
def test_a_full_disk_is_one_clear_line_and_leaves_the_store_as_it_was(
    slipway: Ran, application: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    code, _, err = slipway("retrieve", "build", "--dir", application)
    assert code == 0, err
    slipway("release", "cut", "--dir", application)
    folder = small_disk / "lamps"
    shutil.copytree(application, folder)
    before = slipway("release", "list", "--dir", folder, "--json")
    assert before[0] == 0
    (folder / "documents" / "more.md").write_text("# More\n\nLamps are sold in Leipzig.\n", encoding="utf-8")
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError:
            pass
    monkeypatch.chdir(folder)
    code, _, err = slipway(*arguments)
    assert code == 1
    assert err.count("\n") == 1, err
    assert "full" in err
    assert "Traceback" not in err
    (small_disk / "filler").unlink()
    assert slipway("release", "list", "--dir", folder, "--json") == before
    code, out, err = slipway("retrieve", "build", "--dir", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["index"] == "documents@2", "with space again, it is as if nothing had happened"
