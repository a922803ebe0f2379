"""Writes what the docs can take from the code: house map, settings, commands, errors; --check only compares."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "slipway"
DOCS = ROOT / "docs"
BEGIN = "<!-- written by scripts/write_docs.py from here on; do not edit -->"


class Undocumented(Exception):
    """Something has no sentence that says what it is for."""


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A Markdown table; bars inside cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]


def first_sentence(text: str | None, what: str) -> str:
    """First paragraph of a docstring on one line. Raises `Undocumented` where there is none."""
    paragraph = inspect.cleandoc(text or "").split("\n\n")[0].replace("\n", " ").strip()
    if not paragraph:
        raise Undocumented(f"{what} has no docstring or help: say in one sentence what it is for.")
    return paragraph


# --- docs/house.md ----------------------------------------------------------------------------------------------------


def floors() -> list[list[str]]:
    """The floors from top to bottom, as pyproject.toml gives them to import-linter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in re.split(r"[|:]", layer)] for layer in layers]


def files_of(room: str) -> list[Path]:
    """The modules of a room (a folder or a single file), in order; empty `__init__` files are left out."""
    single = SOURCE / f"{room}.py"
    found = [single] if single.exists() else sorted((SOURCE / room).rglob("*.py"))
    return [file for file in found if file.name != "__init__.py" or file.parent == SOURCE / room]


def first_line(file: Path) -> str:
    """The sentence a module opens with."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return first_sentence(ast.get_docstring(tree), str(file.relative_to(ROOT)))


def house() -> list[str]:
    """The map: the floors, then every file by floor and room, with its first line."""
    lines = ["```", *(" | ".join(floor) for floor in floors()), "```", ""]
    for floor in floors():
        for room in floor:
            files = files_of(room)
            about = next((first_line(file) for file in files if file.name == "__init__.py"), "")
            lines += [f"### {room}", ""] + ([about, ""] if about else [])
            rows = [(f"`{f.relative_to(SOURCE).as_posix()}`", first_line(f)) for f in files if f.name != "__init__.py"]
            if rows:
                lines += [*table(("file", "what it is for"), rows), ""]
    return lines


# --- docs/settings.md and the JSON Schema -----------------------------------------------------------------------------


def plain_type(schema: dict[str, Any]) -> str:
    """The type of one key in words, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(plain_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return f"entry `{shown_kind(schema['$ref'].rsplit('/', 1)[1])}`"
    if schema.get("type") == "array":
        return f"list of {plain_type(schema.get('items', {}))}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)
    return f"{words.get(str(schema.get('type')), 'table')} {bounds}".strip()


def plain_default(field: Any) -> str:
    """The default of one key as it would stand in TOML."""
    import msgspec

    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{json.dumps(field.default_factory(), ensure_ascii=False)}`"
    if field.default is msgspec.NODEFAULT:
        return "required"
    if isinstance(field.default, msgspec.Struct):
        return "none"  # a table inside the table: its own keys have the defaults
    return "none" if field.default is None else f"`{json.dumps(field.default, ensure_ascii=False)}`"


def describe(name: str, schema: dict[str, Any], place: str) -> str:
    """What a key means. Raises `Undocumented` where nobody said."""
    if "description" not in schema:
        where = "add Meta(description=…) in config/settings.py"
        raise Undocumented(f"slipway.toml: {place} {name} has no description: {where}.")
    return str(schema["description"])


def settings() -> list[str]:
    """One table per table of slipway.toml, then the backends with their keys."""
    from slipway.config import settings as module
    from slipway.config.schema import json_schema

    definitions = json_schema()["$defs"]
    sections: dict[str, str] = {}
    lines: list[str] = []
    for name, entry in definitions["Settings"]["properties"].items():
        if "$ref" in entry:
            sections[entry["$ref"].rsplit("/", 1)[1]] = f"[{name}]"
        else:
            lines += [f"## [{name}.NAME]", "", describe(name, entry, "top level"), ""]
    for title in definitions:
        if title != "Settings":
            sections.setdefault(title, f"An entry of kind {shown_kind(title)}")
    shown: list[str] = []
    for title, heading in sections.items():
        about = first_sentence(definitions[title].get("description"), heading)
        rows = keys(definitions[title], defaults(getattr(module, title)), heading)
        shown += [f"## {heading}", "", about, "", *rows, ""]
    return shown + lines + backends()


def shown_kind(title: str) -> str:
    """`RequirementSettings` -> `requirement`."""
    return title.removesuffix("Settings").lower()


def defaults(cls: Any) -> dict[str, str]:
    """The default of every key of one settings class."""
    import msgspec

    return {field.name: plain_default(field) for field in msgspec.structs.fields(cls)}


def keys(schema: dict[str, Any], default_of: dict[str, str], place: str) -> list[str]:
    """The keys of one table of slipway.toml."""
    rows = [
        (f"`{name}`", plain_type(entry), default_of[name], describe(name, entry, place))
        for name, entry in schema.get("properties", {}).items()
    ]
    return table(("key", "type", "default", "meaning"), rows)


def registries() -> Iterator[Any]:
    """Every registry of backends: the `Registry` objects that stand in a `base` module."""
    import importlib

    from slipway.plugins import Registry

    for base in sorted(SOURCE.rglob("base.py")):
        module = importlib.import_module(".".join(("slipway", *base.relative_to(SOURCE).with_suffix("").parts)))
        for value in vars(module).values():
            if isinstance(value, Registry) and value.package == module.__package__:
                yield value


def backends() -> list[str]:
    """Each kind of backend, its members, and the keys that each member takes."""
    lines: list[str] = []
    for registry in registries():
        rows: list[tuple[str, ...]] = []
        for name in registry.names():
            cls = registry.load(name)
            if not cls.__module__.startswith(registry.package):
                continue  # registered by somebody else: a test, another package
            fields = [
                f"`{field.name} = {field.default!r}`" if field.default is not dataclasses.MISSING else f"`{field.name}`"
                for field in dataclasses.fields(cls)
                if field.init and not field.name.startswith("_")
            ]
            what = f"{registry.kind} backend '{name}'"
            if cls.__doc__ and cls.__doc__.startswith(f"{cls.__name__}("):
                raise Undocumented(f"{what} has no docstring: its first line is its help.")
            rows.append((f"`{name}`", first_sentence(cls.__doc__, what), ", ".join(fields)))
        title = f"{registry.kind[0].upper()}{registry.kind[1:]} backends"
        lines += [f"## {title}", "", *table(("name", "what it does", "keys with their defaults"), rows), ""]
    return lines


# --- docs/commands.md -------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    """Every command of the command line, in the order of `slipway --help`."""
    import typer

    from slipway.cli.main import app

    root = typer.main.get_command(app)
    return [line for path, command in walk("slipway", root) for line in one_command(path, command)]


def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command and all below it, depth first."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from walk(f"{path} {name}", inner)


def one_command(path: str, command: Any) -> list[str]:
    """Heading, help and options of one command."""
    depth = min(path.count(" ") + 2, 4)
    lines = ["#" * depth + f" {path}", "", inspect.cleandoc(command.help or "").strip(), ""]
    first_sentence(command.help, f"command `{path}`")
    rows: list[tuple[str, ...]] = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name in {"help", "install_completion", "show_completion"}:
            continue
        is_argument = parameter.param_type_name == "argument"
        names = parameter.name.upper() if is_argument else ", ".join(parameter.opts + parameter.secondary_opts)
        if not getattr(parameter, "help", None):
            raise Undocumented(f"`{path}`: {names} has no help: add help=… to it in cli/.")
        rows.append((f"`{names}`", parameter.help, "yes" if parameter.required else ""))
    return lines + ([*table(("parameter", "meaning", "required"), rows), ""] if rows else [])


# --- docs/errors.md ---------------------------------------------------------------------------------------------------


def errors() -> list[str]:
    """The tree of errors, each with its exit code and HTTP status."""
    from slipway.domain import errors as module

    rows: list[tuple[str, ...]] = []

    def add(cls: Any, parent: str) -> None:
        what = first_sentence(cls.__dict__.get("__doc__"), f"error {cls.__name__}")
        facts = (f"`{cls.__name__}`", parent, f"`{cls.code}`", str(cls.exit_code), str(cls.http_status), what)
        rows.append(facts)
        for child in cls.__subclasses__():
            if child.__module__ == module.__name__:
                add(child, f"`{cls.__name__}`")

    add(module.SlipwayError, "")
    return table(("error", "is a", "code", "exit code", "HTTP status", "when"), rows)


# --- writing ----------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], list[str]]] = {
    "house.md": house,
    "settings.md": settings,
    "commands.md": commands,
    "errors.md": errors,
}


def render(page: str) -> str:
    """The page: what people wrote above the mark, then what the code says."""
    file = DOCS / page
    written = file.read_text(encoding="utf-8").partition(BEGIN)[0].rstrip()
    return f"{written}\n\n{BEGIN}\n\n" + "\n".join(PAGES[page]()).rstrip() + "\n"


def render_schema() -> str:
    """The JSON Schema of slipway.toml, for editors."""
    from slipway.config.schema import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write every page, or with --check say which are not up to date."""
    check = "--check" in sys.argv[1:]
    wanted: dict[Path, str] = {}
    problems: list[str] = []
    for name, make in [
        *((page, lambda page=page: render(page)) for page in PAGES),
        ("slipway.schema.json", render_schema),
    ]:
        try:
            wanted[DOCS / name] = make()
        except (Undocumented, ImportError) as missing:
            problems.append(f"docs/{name}: {missing}")
    for file, text in wanted.items():
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if check:
            problems.append(f"docs/{file.name} is not up to date. Run: make docs")
        else:
            file.write_text(text, encoding="utf-8")
            print(f"docs/{file.name} written")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
