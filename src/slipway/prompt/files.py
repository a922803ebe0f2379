"""Prompt files: Markdown with YAML front matter and the sections `# system` and `# user`.

```markdown
---
variables: [question, passages]
note: asks for citations
output_schema: '{"type": "object"}'
examples:
  - input: ...
    output: ...
---
# system
You answer questions from passages.

# user
{{ question }}
```
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from slipway.domain.errors import FileBroken, FileMissing, NameInvalid, PromptInvalid
from slipway.domain.ids import ContentHash, hash_parts, is_name
from slipway.domain.prompt import Example, Prompt
from slipway.prompt.template import variables_of

LARGEST_FILE = 1_000_000
LARGEST_FRONT_MATTER = 100_000
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What PyYAML lets out beside its own errors: whatever a value makes it trip over, such as `!!bool maybe`."""
_SECTION = re.compile(r"^# (system|user)[ \t]*$", re.M)
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.S | re.M)


class FrontMatter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand between the `---` lines of a prompt file."""

    variables: tuple[str, ...] | None = None
    examples: tuple[Example, ...] = ()
    output_schema: str | dict[str, Any] = ""
    note: str = ""
    author: str = ""


def read_prompt_file(path: Path, *, created_at: datetime) -> Prompt:
    """The prompt in a file, as version 0. Its name is the file's name. Raises `FileMissing`, `FileBroken`."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise FileMissing(path) from None
    except OSError as wrong:
        raise FileBroken(path, wrong.strerror or str(wrong)) from wrong
    if len(raw) > LARGEST_FILE:
        raise FileBroken(path, f"it is larger than {LARGEST_FILE:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise FileBroken(path, f"it is not UTF-8 (byte {wrong.start})") from wrong
    try:
        return parse_prompt(text, name=path.stem, created_at=created_at)
    except PromptInvalid as wrong:
        raise FileBroken(path, f"{wrong.place}: {wrong.reason}", next_step="Correct that place.") from wrong


def parse_prompt(text: str, *, name: str, created_at: datetime) -> Prompt:
    """The prompt in a text, as version 0. Raises `PromptInvalid` with the place, `NameInvalid`."""
    if not is_name(name):
        raise NameInvalid("a prompt", name)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    front = FrontMatter()
    if match := _FRONT.match(text):
        front = _read_front_matter(match[1])
        text = text[match.end() :]
    sections = _split_sections(text)
    schema = front.output_schema
    if isinstance(schema, dict):
        schema = json.dumps(schema, indent=2, ensure_ascii=False)
    prompt = Prompt(
        name=name,
        version=0,
        hash=ContentHash(""),
        system=sections.get("system", ""),
        user=sections["user"],
        examples=front.examples,
        output_schema=schema.strip(),
        author=front.author,
        note=front.note,
        created_at=created_at,
    )
    if front.output_schema:
        _check_schema(schema)
    variables = front.variables if front.variables is not None else variables_of(prompt)
    return with_hash(prompt, variables=variables)


def with_hash(prompt: Prompt, *, variables: tuple[str, ...]) -> Prompt:
    """The same prompt with these variables and the hash of its content."""
    prompt = replace(prompt, variables=variables)
    return replace(prompt, hash=content_hash(prompt))


def content_hash(prompt: Prompt) -> ContentHash:
    """Hash of all that reaches a model; name, number, note, author and dates do not count."""
    return hash_parts(
        {
            "system": prompt.system,
            "user": prompt.user,
            "variables": list(prompt.variables),
            "examples": [asdict(example) for example in prompt.examples],
            "output_schema": prompt.output_schema,
        }
    )


def write_prompt(prompt: Prompt) -> str:
    """The text of the file that holds this prompt; reading it gives the same hash."""
    import yaml

    front: dict[str, object] = {"variables": list(prompt.variables)}
    if prompt.author:
        front["author"] = prompt.author
    if prompt.note:
        front["note"] = prompt.note
    if prompt.output_schema:
        front["output_schema"] = prompt.output_schema
    if prompt.examples:
        front["examples"] = [asdict(example) for example in prompt.examples]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    system = f"# system\n\n{prompt.system}\n\n" if prompt.system else ""
    return f"---\n{head}---\n\n{system}# user\n\n{prompt.user}\n"


def _read_front_matter(text: str) -> FrontMatter:
    import yaml

    if len(text) > LARGEST_FRONT_MATTER:
        raise PromptInvalid("front matter", f"it has more than {LARGEST_FRONT_MATTER:,} characters")
    try:
        # An alias can make a small file huge; no prompt needs one.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise PromptInvalid("front matter", "YAML aliases (*name) are not allowed")
        raw = yaml.safe_load(text) or {}
    except (yaml.YAMLError, *UNREADABLE) as wrong:
        mark = getattr(wrong, "problem_mark", None)
        where = f"front matter, line {mark.line + 2}" if mark else "front matter"
        raise PromptInvalid(where, getattr(wrong, "problem", None) or "it is not valid YAML") from wrong
    if not isinstance(raw, Mapping):
        raise PromptInvalid("front matter", "it must hold keys and values, such as 'note: first version'")
    try:
        return msgspec.convert(raw, FrontMatter)
    except msgspec.ValidationError as wrong:
        known = ", ".join(FrontMatter.__struct_fields__)
        raise PromptInvalid("front matter", f"{wrong} (known keys: {known})") from wrong


def _split_sections(text: str) -> dict[str, str]:
    marks = list(_SECTION.finditer(text))
    if not any(mark[1] == "user" for mark in marks):
        raise PromptInvalid("body", "it has no section '# user' on a line of its own")
    if text[: marks[0].start()].strip():
        raise PromptInvalid("body", f"there is text before the section '# {marks[0][1]}'")
    sections: dict[str, str] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        if mark[1] in sections:
            raise PromptInvalid("body", f"the section '# {mark[1]}' stands there twice")
        sections[mark[1]] = text[mark.end() : following.start() if following else len(text)].strip()
    return sections


def _check_schema(schema: str) -> None:
    try:
        json.loads(schema)
    except ValueError as wrong:
        raise PromptInvalid("output_schema", f"it is not valid JSON: {wrong}") from wrong
