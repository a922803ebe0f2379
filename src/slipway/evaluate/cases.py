"""Reads cases from JSONL and CSV files; the first wrong row is named and nothing is taken."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from slipway.domain.dataset import Case
from slipway.domain.errors import DatasetEmpty, DatasetRowInvalid, FileBroken, FileMissing
from slipway.domain.ids import hash_text

FIELDS = ("id", "question", "expected", "answer", "answerable", "documents", "spans", "tags", "group", "alternatives")
YES, NO = ("true", "yes", "1"), ("false", "no", "0")


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a `.csv` file or of a file with one JSON object a line, in order.

    Fields: `question`, and where known `id`, `expected` (or `answer`; a list gives alternatives), `answerable`,
    `documents`, `spans` ([document, start, end]), `tags`, `group`. Other fields become metadata. Without `id` a case
    is named after its question. Raises `FileMissing`, `FileBroken`, `DatasetRowInvalid` with the line, `DatasetEmpty`.
    """
    if not path.is_file():
        raise FileMissing(path, next_step="Name a JSONL or CSV file of questions.")
    try:
        content = path.read_bytes()
    except OSError as wrong:
        raise FileBroken(path, wrong.strerror or str(wrong)) from wrong
    return parse_cases(content, path)


def parse_cases(content: bytes, path: Path) -> tuple[Case, ...]:
    """The cases in the content of a file, which `path` names in errors and whose suffix tells the format.

    Raises as `read_cases`.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as wrong:
        raise FileBroken(path, f"byte {wrong.start} is not UTF-8", next_step="Save it as UTF-8.") from wrong
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    cases: list[Case] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        try:
            case = _case(row)
        except ValueError as wrong:
            raise DatasetRowInvalid(path, line, str(wrong)) from wrong
        if case.id in lines:
            raise DatasetRowInvalid(path, line, f"the id '{case.id}' stands on line {lines[case.id]} already")
        lines[case.id] = line
        cases.append(case)
    if not cases:
        raise DatasetEmpty(f"'{path}'", next_step='Write one case a line: {"question": "…", "expected": "…"}')
    return tuple(cases)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except json.JSONDecodeError as wrong:
            raise DatasetRowInvalid(path, line, f"not JSON ({wrong.msg} at character {wrong.colno})") from wrong
        except (ValueError, RecursionError) as wrong:
            raise DatasetRowInvalid(path, line, f"not JSON that can be read ({wrong})") from wrong
        if not isinstance(row, dict):
            raise DatasetRowInvalid(path, line, 'not a JSON object such as {"question": "…"}')
        yield line, {key: value for key, value in row.items() if value is not None}


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "question" not in (reader.fieldnames or ()):
            raise DatasetRowInvalid(path, 1, "the head of the table has no column 'question'")
        for row in reader:
            if None in row or None in row.values():
                raise DatasetRowInvalid(path, reader.line_num, "more or fewer cells than the head of the table")
            yield reader.line_num, _typed({key.strip(): cell for key, cell in row.items() if cell.strip()})
    except csv.Error as wrong:
        raise DatasetRowInvalid(path, reader.reader.line_num, f"not CSV ({wrong})") from wrong


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """A CSV row with lists split at `;`. A span is `document:start:end`."""
    typed: dict[str, Any] = dict(row)
    for name in ("documents", "tags", "alternatives"):
        if name in row:
            typed[name] = [part.strip() for part in row[name].split(";") if part.strip()]
    if "spans" in row:
        typed["spans"] = [part.strip().rsplit(":", 2) for part in row["spans"].split(";") if part.strip()]
    return typed


def _case(row: Mapping[str, Any]) -> Case:
    """Raises `ValueError` with the reason."""
    for key in row:
        if key not in FIELDS and (close := get_close_matches(key, FIELDS, n=1, cutoff=0.8)):
            raise ValueError(f"unknown field '{key}'. Did you mean '{close[0]}'?")
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("'question' is missing or empty")
    if "expected" in row and "answer" in row:
        raise ValueError("'expected' and 'answer' mean the same; give one of them")
    expected = _texts(row, "expected") or _texts(row, "answer")
    answerable, spans = _yes_or_no(row), _spans(row)
    if answerable is False and (expected or spans):
        raise ValueError("'answerable' is false, but an answer is given")
    id, group = row.get("id", hash_text(question.strip())[:12]), row.get("group", "")
    if not isinstance(id, str | int) or not str(id).strip() or not isinstance(group, str):
        raise ValueError("'id' and 'group' must be short texts")
    return Case(
        id=str(id).strip(),
        question=question.strip(),
        expected=expected[0] if expected else "",
        alternatives=(*expected[1:], *_texts(row, "alternatives")),
        answerable=answerable,
        documents=_texts(row, "documents") or tuple(dict.fromkeys(span[0] for span in spans)),
        spans=spans,
        tags=_texts(row, "tags"),
        group=group,
        metadata={
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in row.items()
            if key not in FIELDS
        },
    )


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """One text or a list of them, without the empty ones."""
    value = row.get(name, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"'{name}' is not a text or a list of texts")
    return tuple(text.strip() for text in texts if text.strip())


def _yes_or_no(row: Mapping[str, Any]) -> bool | None:
    value = row.get("answerable")
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in (*YES, *NO):
        raise ValueError("'answerable' is not true or false")
    return word in YES


def _spans(row: Mapping[str, Any]) -> tuple[tuple[str, int, int], ...]:
    value = row.get("spans", [])
    wrong = ValueError("'spans' is not a list of [document, start, end] with start before end")
    if not isinstance(value, list):
        raise wrong
    spans: list[tuple[str, int, int]] = []
    for span in value:
        parts = [span.get(key) for key in ("document", "start", "end")] if isinstance(span, dict) else span
        if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[0], str):
            raise wrong
        if not all(isinstance(at, int) or (isinstance(at, str) and at.isdigit()) for at in parts[1:]):
            raise wrong
        start, end = int(parts[1]), int(parts[2])
        if not 0 <= start < end:
            raise wrong
        spans.append((parts[0], start, end))
    return tuple(spans)
