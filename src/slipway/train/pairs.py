"""Training pairs from files, from what people corrected, and from datasets."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.domain.dataset import Dataset
from slipway.domain.errors import ContentErased, FileBroken, NotFound
from slipway.domain.feedback import Feedback
from slipway.domain.ids import hash_text
from slipway.domain.training import Pair
from slipway.workspace import Workspace

FOLDER = "training"
"""Folder of pair files in the application: JSONL of question and answer, prompt and completion, or messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The pairs that were found, and why others were left out."""

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...] = ()


def collect_pairs(workspace: Workspace, *, datasets: Sequence[str] = ()) -> Collected:
    """Pairs of `training/*.jsonl`, of feedback with a correction, and of the datasets that are named.

    A dataset that is also used to evaluate is a leak, which the report points out; so none is taken unasked. Raises
    `NotFound` for an unknown dataset, `FileBroken` with the line of a broken file.
    """
    pairs: list[Pair] = []
    left_out: list[str] = []
    for path in sorted((workspace.folder / FOLDER).glob("*.jsonl")):
        pairs += read_pairs(path, source=f"file:{FOLDER}/{path.name}")
    for name in datasets:
        pairs += _from_dataset(_load_dataset(workspace, name), left_out)
    pairs += _from_feedback(workspace, left_out)
    return Collected(pairs=tuple(pairs), left_out=tuple(left_out))


def read_pairs(path: Path, *, source: str) -> list[Pair]:
    """Pairs of one JSONL file. Raises `FileBroken` with the number of the first line that is no pair."""
    pairs = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = _pair_of(json.loads(line))
        except ValueError as wrong:
            raise FileBroken(path, f"line {number} is no JSON ({wrong})") from wrong
        if found is None:
            raise FileBroken(
                path, f"line {number} has neither question and answer, prompt and completion, nor messages with a reply"
            )
        pairs.append(_pair(*found, source=source))
    return pairs


def _pair_of(row: Any) -> tuple[str, str] | None:
    if not isinstance(row, dict):
        return None
    for asked, answered in (("question", "answer"), ("prompt", "completion"), ("input", "output")):
        if isinstance(row.get(asked), str) and isinstance(row.get(answered), str):
            return row[asked], row[answered]
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(one, dict) for one in messages):
        return None
    if messages[-1].get("role") != "assistant":
        return None
    before = "\n\n".join(str(one.get("content", "")) for one in messages[:-1])
    return before, str(messages[-1].get("content", ""))


def _load_dataset(workspace: Workspace, name: str) -> Dataset:
    records = workspace.store.records
    found = records.find(Dataset, name) if "@" in name else records.latest(Dataset, name)
    if found is None:
        known = sorted({one.name for one in records.list(Dataset)})
        raise NotFound("dataset", name, known=known, next_step="Import one: slipway evaluate import NAME FILE")
    return found


def _from_dataset(dataset: Dataset, left_out: list[str]) -> Iterator[Pair]:
    silent = 0
    for case in dataset.cases:
        if case.expected:
            yield Pair(
                id=_id(case.question, case.expected),
                prompt=case.question,
                completion=case.expected,
                source=f"dataset:{dataset.name}@{dataset.version}",
                subject=case.subject,
            )
        else:
            silent += 1
    if silent:
        left_out.append(f"{silent} cases of {dataset.name}@{dataset.version} have no expected answer")


def _from_feedback(workspace: Workspace, left_out: list[str]) -> Iterator[Pair]:
    lost = 0
    for feedback in workspace.store.records.list(Feedback, newest_first=False):
        if not feedback.correction.strip():
            continue
        try:
            question = workspace.store.traces.get(feedback.trace).root.content.get("question")
        except (NotFound, ContentErased):
            question = None
        if isinstance(question, str) and question.strip():
            yield Pair(
                id=_id(question, feedback.correction),
                prompt=question,
                completion=feedback.correction,
                source=f"feedback:{feedback.id}",
                subject=feedback.subject,
            )
        else:
            lost += 1
    if lost:
        left_out.append(f"{lost} corrections belong to traces whose question is not kept")


def _pair(prompt: str, completion: str, *, source: str) -> Pair:
    return Pair(id=_id(prompt, completion), prompt=prompt, completion=completion, source=source)


def _id(prompt: str, completion: str) -> str:
    return hash_text(f"{prompt}\0{completion}")[:16]
