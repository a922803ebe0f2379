"""The docs cannot lie: generated pages are up to date, and nothing a user can name is undocumented."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()


@pytest.mark.parametrize("page", sorted(generator.PAGES))
def test_a_generated_page_says_what_the_code_says(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == generator.render(page), "Run: make docs"


def test_the_schema_of_the_settings_is_the_one_in_the_docs() -> None:
    assert (ROOT / "docs" / "slipway.schema.json").read_text(encoding="utf-8") == generator.render_schema(), (
        "Run: make docs"
    )


def test_a_setting_without_a_meaning_stops_the_docs() -> None:
    schema = {"properties": {"port": {"type": "integer"}}}
    with pytest.raises(generator.Undocumented, match=re.escape("[server] port has no description")):
        generator.keys(schema, {"port": "`8080`"}, "[server]")


def test_an_error_without_a_docstring_stops_the_docs() -> None:
    with pytest.raises(generator.Undocumented, match="error Silent has no docstring"):
        generator.first_sentence(None, "error Silent")


def test_a_command_without_help_stops_the_docs() -> None:
    import typer

    app = typer.Typer()

    @app.command()
    def silent() -> None: ...

    @app.command(help="It has help, but its option has none.")
    def loud(name: str = typer.Option("x")) -> None: ...

    commands = dict(generator.walk("slipway", typer.main.get_command(app)))
    with pytest.raises(generator.Undocumented, match="`slipway silent` has no docstring or help"):
        generator.one_command("slipway silent", commands["slipway silent"])
    with pytest.raises(generator.Undocumented, match="--name has no help"):
        generator.one_command("slipway loud", commands["slipway loud"])


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_an_example_of_slipway_toml_can_be_read(page: Path) -> None:
    from slipway.config.reader import parse_settings

    for example in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        tables = tomllib.loads(example)
        tables.setdefault("application", {}).setdefault("name", "example")
        parse_settings(tables)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_command_in_the_docs_exists(page: Path) -> None:
    import typer

    from slipway.cli.main import app

    known = dict(generator.walk("slipway", typer.main.get_command(app)))
    unknown: list[str] = []
    for line in re.findall(r"(?:^|`|\$ )(slipway [a-z][^`\n]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        command = "slipway"
        for word in line.split()[1:]:
            if not hasattr(known[command], "commands"):
                break
            command = f"{command} {word}"
            if command not in known:
                unknown.append(line)
                break
    assert unknown == []


def every_link(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_link_to_a_file_leads_to_a_file(page: Path) -> None:
    local = [link for link in every_link(page) if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (page.parent / link).exists()] == []
