"""Starts an application: a folder with slipway.toml, a prompt, and where its documents lie."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from slipway.config.reader import FILE_NAME, load_settings
from slipway.domain.errors import Conflict, FileMissing, NameInvalid
from slipway.domain.ids import is_name
from slipway.prompt.starter import default_prompt_text

TEMPLATE = """\
# What this application is and how it is built, proved and run.
# Every key: docs/settings.md, or `slipway config schema` for your editor.

[application]
name = {name}
purpose = {purpose}
documents = {documents}
questions = {questions}

# Requirements of the use case. `slipway decide` compares the roads for them.
[decide]
requests_per_day = {requests_per_day}
input_tokens = {input_tokens}
output_tokens = {output_tokens}
first_token_ms = 2000

# How documents are cut, embedded and searched. `slipway retrieve compare` finds better values for yours.
[retrieve]
index = "documents"
chunker = {{ kind = "recursive", size = 200 }}
alpha = 0.45

# The model that answers. The embedded extractive engine quotes sentences and needs no model.
# To use your own: name an engine below.
[release]
engine = {engine}
model = {model}

# [engines.mine]
# kind = "openai"
# base_url = "http://127.0.0.1:8000/v1"
# api_key = "env:OPENAI_API_KEY"

# What a release needs before it may go out.
[evaluate]
suites = ["quality", "bias", "safety", "speed"]

{gate}
# Roles whose sign-off the gate asks for, for example ["support", "legal"].
[review]
roles = {roles}
"""

GATE = (
    ("quality", "quality", "at_least", 0.5),
    ("safety", "attack_success", "at_most", 0.2),
)
"""Suite, measure, bound and value of a first gate: loose enough to start, to be tightened by the team."""


def init_application(
    folder: Path,
    *,
    name: str = "",
    documents: Sequence[Path] = (),
    questions: Path | None = None,
    purpose: str = "Answers questions from its documents and says so when they do not hold the answer.",
    roles: Sequence[str] = (),
) -> Path:
    """Writes slipway.toml, prompts/answer.md and an empty documents/ folder; returns the path of slipway.toml.

    Nothing that is there is changed: raises `Conflict` when the folder already is an application, `FileMissing`
    when documents or questions do not exist, `NameInvalid` for a name that clients could not call.
    """
    folder = folder.resolve()
    path = folder / FILE_NAME
    if path.exists():
        raise Conflict(f"'{folder}' already is an application. Edit {path}, then run: slipway up --dir {folder}")
    if folder.exists() and not folder.is_dir():
        raise Conflict(f"'{folder}' is a file. Name a folder for the application.")
    for source in [*documents, *([questions] if questions else [])]:
        if not source.exists():
            raise FileMissing(source, next_step="Name the folder or file that holds your documents.")
    name = name or name_of(folder)
    if not is_name(name):
        raise NameInvalid("an application", name)
    engine, model = _engine_from_environment()
    text = TEMPLATE.format(
        name=_toml(name),
        purpose=_toml(purpose),
        documents=_toml(["documents", *(_relative(source, folder) for source in documents)]),
        questions=_toml(_relative(questions, folder) if questions else ""),
        engine=_toml(engine),
        model=_toml(model),
        requests_per_day=5000,
        input_tokens=1200,
        output_tokens=150,
        roles=_toml(list(roles)),
        gate=_gate_lines(),
    )
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    prompt = folder / "prompts" / "answer.md"
    if not prompt.exists():
        prompt.parent.mkdir(exist_ok=True)
        prompt.write_text(default_prompt_text(), encoding="utf-8")
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text(".slipway/\n", encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    load_settings(folder, environment={})
    return path


def name_of(folder: Path) -> str:
    """A name for clients from the folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:63] or "application"


def _gate_lines() -> str:
    return "".join(
        f'[[evaluate.gate]]\nsuite = "{suite}"\nmeasure = "{measure}"\n{bound} = {value}\n\n'
        for suite, measure, bound, value in GATE
    )


def _engine_from_environment() -> tuple[str, str]:
    """The engine that OPENAI_BASE_URL or OPENAI_API_KEY point to, else the embedded one."""
    if os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY"):
        return "openai", os.environ.get("OPENAI_MODEL", "gpt-5-mini")
    return "extractive", "extractive"


def _relative(path: Path, folder: Path) -> str:
    """Relative to the application where it lies inside, absolute elsewhere."""
    path = path.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _toml(value: str | list[str]) -> str:
    """JSON strings and arrays of strings are TOML too."""
    return json.dumps(value, ensure_ascii=False)
